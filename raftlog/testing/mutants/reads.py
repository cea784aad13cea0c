"""Mutants whose reads may be stale."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed

from raftlog import leader, rawnode, relays, testimony
from raftlog.core import Raft
from raftlog.group import Group
from raftlog.messages import Message, MessageType
from raftlog.quorum import VoteResult, joint_vote
from raftlog.readonly import ReadOnly
from raftlog.reads import ReadRounds
from raftlog.state import Role
from raftlog.testimony import Position, Testimony
from raftlog.testing.mutants.mutant import Mutant


def _read_at_once(raft: Raft, message: Message) -> None:
    leader._answer_read(raft, message, raft.log.committed)


def _read_before_own_commit(raft: Raft, message: Message) -> None:
    raft.read_only.add(message, raft.log.committed, {raft.id}, raft.ticks)
    leader.bcast_heartbeat(raft)


def _confirmed_in_any_term(raft: Raft, message: Message) -> set[int]:
    return {raft.id, message.from_}


def _confirmed_by_who_is_to_come(raft: Raft, message: Message) -> set[int]:
    return {raft.id, message.from_, *message.confirmed, *message.relays} if message.term == raft.term else {raft.id}


def _pass_on_in_own_term(raft: Raft, message: Message) -> None:
    _real_pass_on(raft, replace(message, term=raft.term))


def _confirmed_by_everybody(raft: Raft, message: Message) -> set[int]:
    return set(raft.tracker.ids) if message.from_ else {raft.id}


def _confirm_all_before(self: ReadOnly, request: Message, index: int, confirmed: set[int], tick: int) -> None:
    for pending in self._pending.values():
        pending.confirmed |= confirmed
    _real_add(self, request, index, confirmed, tick)


def _start_with_known_context(self: ReadRounds, now_seconds: float) -> bool:
    if self._context or not self._ready_to_start:
        return False
    self._number = 0
    return _real_start(self, now_seconds)


def _join_round_in_flight(self: ReadRounds, deadline_seconds: float) -> Any:
    waiting = _real_wait(self, deadline_seconds)
    if self._context:
        self._round.append(self._ready_to_start.pop())
    return waiting


def _do_not_wait_until_applied(self: ReadRounds, context: bytes, index: int) -> None:
    _real_confirmed(self, context, 0)


def _confirmed_anyway(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    return VoteResult.WON


def _confirmed_by_incoming(
    incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]
) -> VoteResult:
    return joint_vote(incoming, (), votes)


def _testify_before_own_commit(raft: Raft) -> Testimony:
    voters = tuple(raft.tracker.membership.incoming) if raft.role is Role.LEADER else ()
    return Testimony(raft.id, raft.term, raft.log.committed if voters else 0, voters)


def _learn_whatever_is_there(raft: Raft, position: Position) -> None:
    if raft.role is not Role.LEADER:
        raft.log.commit_to(min(position.index, raft.log.last_index()))


def _learn_in_any_role(raft: Raft, position: Position) -> None:
    _real_learn_committed(raft, position)
    if raft.role is not Role.LEADER:
        raft.log.maybe_commit(position.index, position.term)


def _read_at_whatever_is_applied(group: Group, position: Position, deadline_seconds: float) -> Deferred[None]:
    return succeed(None)


_real_learn_committed = Raft.learn_committed
_real_add = ReadOnly.add
_real_pass_on = relays.pass_on
_real_start = ReadRounds.start
_real_wait = ReadRounds.wait
_real_confirmed = ReadRounds.confirmed

MUTANTS = (
    Mutant(
        "read without a quorum",
        "thesis §6.4: a quorum confirms that we lead",
        [(leader, "_STEP", {**leader._STEP, MessageType.READ_INDEX: _read_at_once})],
    ),
    Mutant(
        "read before a commit of the own term",
        "RAFT_RULES 25: ReadIndex waits for a commit of its own term",
        [(leader, "_STEP", {**leader._STEP, MessageType.READ_INDEX: _read_before_own_commit})],
    ),
    Mutant(
        "count who asked in another term",
        "thesis §6.4: the quorum is one of the own term",
        [(leader, "_confirmed_by", _confirmed_in_any_term)],
        "raftlog.test.test_read_index.ReadIndexTests.test_question_that_was_passed_on_confirms_nothing",
    ),
    Mutant(
        "count who is still to pass a question on",
        "thesis §6.4: a quorum confirms that we lead, after the read began",
        [(leader, "_confirmed_by", _confirmed_by_who_is_to_come)],
        "raftlog.test.test_relays.RelayTests.test_who_is_still_to_pass_it_on_confirms_nothing",
    ),
    Mutant(
        "pass a question on in another term",
        "thesis §6.4: the quorum is one of the own term, of the asker as well",
        [(relays, "pass_on", _pass_on_in_own_term)],
        "raftlog.test.test_read_index.ReadIndexTests.test_question_that_was_passed_on_confirms_nothing",
    ),
    Mutant(
        "count who asks for a quorum",
        "thesis §6.4: a quorum confirms that we lead",
        [(leader, "_confirmed_by", _confirmed_by_everybody)],
        "raftlog.test.test_read_index.FiveTests.test_asker_and_leader_are_none",
    ),
    Mutant(
        "count who asks for reads before",
        "RAFT_RULES 26: a question proves nothing for a read that began after it was asked",
        [(ReadOnly, "add", _confirm_all_before)],
        "raftlog.test.test_read_index.FiveTests.test_question_confirms_no_other_read",
    ),
    Mutant(
        "reuse a read context",
        "RAFT_RULES 26: every attempt has a fresh context",
        [(ReadRounds, "start", _start_with_known_context)],
        "raftlog.test.test_reads.ReadRoundsTests.test_late_answer",
    ),
    Mutant(
        "join a read round that has begun",
        "RAFT_RULES 26: an answer proves nothing for a read that began later",
        [(ReadRounds, "wait", _join_round_in_flight)],
        "raftlog.test.test_reads.ReadRoundsTests.test_one_round_in_flight",
    ),
    Mutant(
        "read before it is applied",
        "thesis §6.4: wait until the read index is applied",
        [(ReadRounds, "confirmed", _do_not_wait_until_applied)],
    ),
    Mutant(
        "take a position without a quorum",
        "thesis §6.4: a quorum confirms that somebody leads",
        [(testimony, "joint_vote", _confirmed_anyway)],
        "raftlog.test.test_testimony.ReadPositionTests.test_leader_alone_of_three",
    ),
    Mutant(
        "take a position with half a joint quorum",
        "Raft §6: joint consensus needs both majorities",
        [(testimony, "joint_vote", _confirmed_by_incoming)],
        "raftlog.test.test_testimony.ReadPositionTests.test_joint",
    ),
    Mutant(
        "testify before a commit of the own term",
        "RAFT_RULES 25: a read index is of the leader's own term",
        [(rawnode, "testify", _testify_before_own_commit)],
        "raftlog.test.test_testimony.TestifyTests.test_nothing_committed_in_its_term",
    ),
    Mutant(
        "learn that another entry is committed",
        "Raft §5.3: logs agree up to where they have the same index and term, no further",
        [(Raft, "learn_committed", _learn_whatever_is_there)],
        "raftlog.test.test_testimony.LearnCommittedTests.test_entry_of_another_term",
    ),
    Mutant(
        "let a candidate learn what is committed",
        "RAFT_RULES 30: an election ends under the configuration that it began with",
        [(Raft, "learn_committed", _learn_in_any_role)],
        "raftlog.test.test_testimony.LearnCommittedTests.test_candidate",
    ),
    Mutant(
        "read before a position is applied",
        "thesis §6.4: wait until the read index is applied",
        [(Group, "read_at", _read_at_whatever_is_applied)],
    ),
)
