"""Mutants that vote, append and commit as they must not."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from msgspec.structs import replace

from raftlog import campaign, core, follower, leader
from raftlog.confchange import restore
from raftlog.core import Raft
from raftlog.errors import LeadershipLost
from raftlog.log import RaftLog
from raftlog.messages import Entry, Message, MessageType, Snapshot
from raftlog.progress import Progress
from raftlog.testing.mutants.mutant import Mutant


def _vote_for_anybody(raft: Raft, message: Message) -> None:
    raft.vote = 0
    raft.leader_id = 0
    _real_answer_vote(raft, message)


def _commit_old_term(raft: Raft) -> bool:
    index = raft.tracker.committed()
    return raft.log.maybe_commit(index, raft.log.term_or_zero(index))


def _become_leader_silently(self: Raft) -> None:
    with patch.object(Raft, "append", lambda self, entries: True):
        _real_become_leader(self)


def _truncate_always(self: RaftLog, index: int, term: int, entries: Sequence[Entry], leader_commit: int) -> int | None:
    if not self.matches(index, term):
        return None
    if entries and entries[0].index > self.committed:
        self.append(entries)
    self.commit_to(min(leader_commit, index + len(entries)))
    return index + len(entries)


def _append_without_matching(
    self: RaftLog, index: int, term: int, entries: Sequence[Entry], leader_commit: int
) -> int | None:
    if index > self.last_index():
        return None
    return _real_maybe_append(self, index, self.term_or_zero(index), entries, leader_commit)


def _send_commit_to_everybody(raft: Raft, context: bytes, replica_ids: list[int]) -> None:
    for replica_id in replica_ids:
        if replica_id != raft.id:
            raft.send(MessageType.HEARTBEAT, replica_id, commit=raft.log.committed, context=context)


def _prove_whole_log(raft: Raft, message: Message) -> None:
    sent = len(raft.after_append)
    _real_take_append(raft, message)
    answers = raft.after_append[sent:]
    raft.after_append[sent:] = [
        answer if answer.reject else replace(answer, index=raft.log.last_index()) for answer in answers
    ]


def _take_old_snapshot(raft: Raft, snapshot: Snapshot) -> bool:
    raft.log.restore(snapshot)
    raft.switch_to(restore(snapshot.conf_state, raft.log.last_index(), raft.new_window))
    return True


_real_answer_vote = campaign.answer_vote
_real_become_leader = Raft.become_leader
_real_maybe_append = RaftLog.maybe_append
_real_take_append = follower.take_append

MUTANTS = (
    Mutant(
        "vote twice",
        "Raft §5.2: at most one vote per term",
        [
            (
                core,
                "_STEP_ALIKE",
                {**core._STEP_ALIKE, MessageType.VOTE: _vote_for_anybody},
            )
        ],
    ),
    Mutant(
        "vote without checking the log",
        "Raft §5.4.1: the candidate's log is at least as up-to-date",
        [(RaftLog, "is_up_to_date", lambda self, index, term: True)],
    ),
    Mutant(
        "commit an old term by counting",
        "Raft §5.4.2 and figure 8",
        [(leader, "maybe_commit", _commit_old_term)],
        "raftlog.test.test_safety.EarlierTermsTests.test_figure_8_overwritten",
    ),
    Mutant(
        "skip the no-op",
        "RAFT_RULES 25: a new leader commits a no-op first",
        [(Raft, "become_leader", _become_leader_silently)],
    ),
    Mutant(
        "truncate on a matching append",
        "RAFT_RULES 6: entries go only at the first conflicting term",
        [(RaftLog, "maybe_append", _truncate_always)],
        "raftlog.test.test_replication.AppendTests.test_short_append_keeps_the_rest",
    ),
    Mutant(
        "append without matching",
        "Raft §5.3: the consistency check",
        [(RaftLog, "maybe_append", _append_without_matching)],
    ),
    Mutant(
        "commit what is not proven",
        "RAFT_RULES 7: commit is at most what the leader knows to be there",
        [(leader, "_send_heartbeats", _send_commit_to_everybody)],
    ),
    Mutant(
        "spare who does not answer",
        "Raft §5.3: a leader retries until every follower has stored all entries",
        [(Progress, "is_in_touch", lambda self, since_tick: self.sent_tick > since_tick)],
        "raftlog.test.test_heartbeats.HeartbeatTests.test_who_does_not_answer",
    ),
    Mutant(
        "spare who is sent nothing",
        "Raft §5.2: whoever hears nothing of the leader for an election timeout stands for election",
        [(Progress, "is_in_touch", lambda self, since_tick: self.heard_tick > since_tick)],
        "raftlog.test.test_heartbeats.HeartbeatTests.test_late_answers_are_no_messages",
    ),
    Mutant(
        "acknowledge the whole log",
        "RAFT_RULES 7: an acknowledgement covers what the append proved",
        [(follower, "_FROM_LEADER", {**follower._FROM_LEADER, MessageType.APPEND: _prove_whole_log})],
        "raftlog.test.test_replication.AppendTests.test_short_append_keeps_the_rest",
    ),
    Mutant(
        "take a snapshot that is old",
        "RAFT_RULES 9: a snapshot at or below commit is refused",
        [(follower, "_restore", _take_old_snapshot)],
        "raftlog.test.test_replication.ReplicationTests.test_old_snapshot_is_refused",
    ),
    Mutant(
        "call a lost proposal not applied",
        "RAFT_RULES 41: an unknown outcome is neither yes nor no",
        [(LeadershipLost, "maybe_applied", False)],
        "raftlog.test.test_node.NodeTests.test_lost_leader_says_unknown_and_a_new_one_is_elected",
    ),
)
