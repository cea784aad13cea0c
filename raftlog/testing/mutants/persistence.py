"""Mutants that forget, or promise what they have not kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from raftlog import group
from raftlog.compaction import Compaction
from raftlog.core import Raft
from raftlog.group import Group
from raftlog.log import RaftLog, Unstable
from raftlog.messages import EMPTY_HARD_STATE, Entry, HardState, Message, MessageType, Snapshot
from raftlog.snapshots import Snapshots
from raftlog.storage import MemoryLog
from raftlog.testing.mutants.mutant import Mutant
from raftlog.turns import Turn
from raftlog.wal import Appended, Wal
from raftlog.wal.commit import GroupCommit
from raftlog.wal.image import GroupImage, Images
from raftlog.wal.stage import Chunk


def _write_without(**forgotten: int) -> Callable[..., Appended]:
    def appended(group_id: int, hard_state: HardState | None, entries: tuple[Entry, ...] = ()) -> Appended:
        return Appended(group_id, replace(hard_state or EMPTY_HARD_STATE, **forgotten), entries)

    return appended


def _acknowledge_at_once(self: Wal, records: Any, done: Callable[[], None]) -> None:
    _real_submit(self, records, lambda: None)
    done()


def _count_own_entries_at_once(self: Raft, entries: Sequence[Entry]) -> bool:
    taken = _real_append(self, entries)
    self.tracker.progress[self.id].maybe_update(self.log.last_index())
    return taken


def _send_votes_at_once(self: Group, ready: Any, turn: Turn) -> bool:
    votes = [message for message in ready.messages if message.type is MessageType.VOTE]
    ready.messages = [message for message in ready.messages if message.type is not MessageType.VOTE]
    turn.messages.extend((self, message) for message in votes)
    return _real_handle(self, ready, turn)


def _confirm_whatever_term(self: Unstable, index: int, term: int) -> None:
    last = self.last_index()
    if last is not None and self.offset <= index <= last:
        _real_stable_to(self, index, self.term(index) or 0)


def _confirm_in_lower_term(self: Raft, message: Message) -> None:
    if message.type is MessageType.STORAGE_APPEND_RESPONSE:
        self._append_stored(message)
    else:
        _real_answer_lower_term(self, message)


def _forget_failed_write(self: GroupCommit) -> None:
    """Take a write that failed for one that did not."""
    pending = list(self._pending)
    try:
        _real_write_round(self)
    except OSError:
        self._deliver(lambda: self._settled(pending[: len(pending) - len(self._pending)]))


def _forget_failed_write_here(self: GroupCommit, chunks: list[Chunk]) -> bool:
    with patch.object(self, "_break", lambda error: self._written(chunks)):
        return _real_write_here(self, chunks)


def _apply_what_is_not_durable(self: RaftLog, *, allow_unstable: bool) -> int:
    return self.committed


def _compact_what_is_applied(self: Compaction, replica: Group, keep_bytes: int) -> None:
    self._drop_to(self._machine.applied_index, replica, keep_bytes)


def _keep_entries(self: MemoryLog, snapshot: Snapshot) -> None:
    entries = list(self._entries)
    _real_apply_snapshot(self, snapshot)
    self._entries = entries


def _keep_written_entries(self: Images, group: GroupImage, record: Any) -> None:
    entries, runs = list(group.entries), list(group.runs)
    _real_install(self, group, record)
    group.entries, group.runs = entries, runs


def _forget_truncation(self: GroupImage, entries: tuple[Entry, ...], segment: int) -> None:
    new = entries[max(0, self.last_index + 1 - entries[0].index) :]
    if new:
        _real_image_append(self, new, segment)


def _install_without_intention(self: Snapshots, records: Sequence[Any]) -> Any:
    return _real_snapshot_write(self, [record for record in records if type(record).__name__ != "SnapshotIncoming"])


_real_submit = Wal.submit
_real_append = Raft.append
_real_handle = Group._handle
_real_stable_to = Unstable.stable_to
_real_answer_lower_term = Raft._answer_lower_term
_real_write_round = GroupCommit._write_round
_real_write_here = GroupCommit.write_here
_real_apply_snapshot = MemoryLog.apply_snapshot
_real_install = Images._install
_real_image_append = GroupImage.append
_real_snapshot_write = Snapshots._write

MUTANTS = (
    Mutant(
        "forget the vote",
        "RAFT_RULES 1: the vote is durable",
        [(group, "Appended", _write_without(vote=0))],
        "raftlog.test.test_votes_on_disk.VoteTests.test_vote_survives_a_restart",
    ),
    Mutant(
        "forget the term", "RAFT_RULES 1: the term is durable", [(group, "Appended", _write_without(term=0, vote=0))]
    ),
    Mutant("ack before sync", "RAFT_RULES 12: sync before acknowledging", [(Wal, "submit", _acknowledge_at_once)]),
    Mutant(
        "ignore a failed sync",
        "RAFT_RULES 13: nothing is retried",
        [(GroupCommit, "_write_round", _forget_failed_write)],
    ),
    Mutant(
        "ignore a failed sync at the end of a turn",
        "RAFT_RULES 13: nothing is retried",
        [(GroupCommit, "write_here", _forget_failed_write_here)],
        "raftlog.test.test_wal_in_turn.InTurnTests.test_a_write_that_fails",
    ),
    Mutant(
        "count own entries before sync",
        "RAFT_RULES 2: no acknowledgement to oneself before the write",
        [(Raft, "append", _count_own_entries_at_once)],
        "raftlog.test.test_durability.AcknowledgementTests.test_no_shortcut_for_a_group_of_one",
    ),
    Mutant(
        "send votes before the hard state is durable",
        "RAFT_RULES 1: vote requests wait for the term they are for",
        [(Group, "_handle", _send_votes_at_once)],
        "raftlog.test.test_votes_on_disk.VoteTests.test_request_waits_for_the_disk",
    ),
    Mutant(
        "confirm an overwritten suffix",
        "RAFT_RULES 3: a late confirmation of replaced entries is ignored",
        [(Unstable, "stable_to", _confirm_whatever_term), (Raft, "_answer_lower_term", _confirm_in_lower_term)],
        "raftlog.test.test_log.UnstableTests.test_confirmation_of_what_was_replaced",
    ),
    Mutant(
        "apply before durable",
        "RAFT_RULES 8: an entry is applied only once it is durable here",
        [(RaftLog, "max_appliable", _apply_what_is_not_durable)],
    ),
    Mutant(
        "compact what the store can lose",
        "RAFT_RULES 8: the store is durable past the index to which the log is truncated",
        [(Compaction, "run", _compact_what_is_applied)],
    ),
    Mutant(
        "keep the log after a snapshot",
        "RAFT_RULES 9: the log is reset to the snapshot (in memory)",
        [(MemoryLog, "apply_snapshot", _keep_entries)],
    ),
    Mutant(
        "keep the written log after a snapshot",
        "RAFT_RULES 9: the log is reset to the snapshot (on disk)",
        [(Images, "_install", _keep_written_entries)],
        "raftlog.test.test_snapshots.SnapshotTests.test_restart_after_a_snapshot",
    ),
    Mutant(
        "install a snapshot without saying so first",
        "RAFT_RULES 9: installing is one transition, whatever moment a crash chooses",
        [(Snapshots, "_write", _install_without_intention)],
        "raftlog.test.test_snapshots.SnapshotTests.test_crash_between_content_and_log",
    ),
    Mutant("forget truncation", "RAFT_RULES 4: truncation is in the log", [(GroupImage, "append", _forget_truncation)]),
)
