"""Dropping the part of a replica's log that it does not need any more (thesis §5.1; RAFT_RULES 8, 17)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure

from raftlog.core import Raft
from raftlog.retention import Holds
from raftlog.statemachine import StateMachine
from raftlog.storage import MemoryLog
from raftlog.wal import Compacted, Record

#: Entries that a compaction drops in one turn, in a few milliseconds; a log of short ones holds hundreds of thousands.
COMPACTED_PER_TURN_MAX = 4096


class Replica(Protocol):
    """What a Compaction needs of the replica whose log it is."""

    def may_compact(self) -> bool:
        """Return whether the log may be touched now."""

    def machine_failed(self, failure: Failure) -> None:
        """Take what the state machine raised: such a replica can't go on."""


class Compaction:
    """The compaction of one replica's log. `write` puts a record into the write-ahead log that nothing waits for.

    The replica is an argument, and kept only while the state machine is at work (see raftlog.applying.Applier).
    """

    __slots__ = ("_at_work", "_group_id", "_holds", "_log", "_machine", "_raft", "_write")

    def __init__(
        self,
        group_id: int,
        raft: Raft,
        log: MemoryLog,
        machine: StateMachine,
        holds: Holds,
        write: Callable[[Record], None],
    ) -> None:
        self._group_id = group_id
        self._raft = raft
        self._log = log
        self._machine = machine
        self._holds = holds
        self._write = write
        self._at_work = False

    def run(self, replica: Replica, keep_bytes: int) -> None:
        """Drop the log but for its newest `keep_bytes`, as far as the state machine has it on its disk."""
        if not self._at_work and replica.may_compact() and not self._holds.in_effect():
            self._at_work = True
            durable = self._machine.make_durable().addCallback(self._drop_to, replica, keep_bytes)
            # Nobody waits for the chain: what goes wrong in it ends the process.
            _ = durable.addErrback(replica.machine_failed)

    def _drop_to(self, durable_index: int, replica: Replica, keep_bytes: int) -> None:
        self._at_work = False
        # Nothing may go that the core has not been told to be applied.
        first = self._log.first_index()
        last_now = first + COMPACTED_PER_TURN_MAX - 1
        index = min(durable_index, self._log.index_keeping(keep_bytes, last_now), self._raft.log.applied)
        if not replica.may_compact() or index < first:
            return
        term, conf_state = self._log.term(index), self._log.conf_state_at(index)
        self._log.compact(index, conf_state)
        self._write(Compacted(self._group_id, index, term, conf_state))
        if index == last_now:
            # The state machine answers in another turn, and by then has more on its disk.
            self.run(replica, keep_bytes)
