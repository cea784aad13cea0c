"""Dropping the part of a replica's log that it does not need any more (thesis §5.1; RAFT_RULES 8, 17)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from raftlog.core import Raft
from raftlog.retention import Holds
from raftlog.statemachine import StateMachine
from raftlog.storage import MemoryLog
from raftlog.wal import Compacted, Record

#: Entries that a compaction drops in one turn, in a few milliseconds; a log of short ones holds hundreds of thousands.
COMPACTED_PER_TURN_MAX = 4096


class Compaction:
    """The compaction of one replica's log.

    `possible` tells whether the log may be touched now; `write` puts a record into the write-ahead log that nothing
    waits for; `failed` is told if the state machine could not make durable what it has.
    """

    def __init__(
        self,
        group_id: int,
        raft: Raft,
        log: MemoryLog,
        machine: StateMachine,
        holds: Holds,
        *,
        possible: Callable[[], bool],
        write: Callable[[Record], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._group_id = group_id
        self._raft = raft
        self._log = log
        self._machine = machine
        self._holds = holds
        self._possible = possible
        self._write = write
        self._failed = failed
        self._at_work = False

    def run(self, keep_bytes: int) -> None:
        """Drop the log but for its newest `keep_bytes`, as far as the state machine has it on its disk."""
        if not self._at_work and self._possible() and not self._holds.in_effect():
            self._at_work = True
            durable = self._machine.make_durable().addCallback(self._drop_to, keep_bytes)
            # Nobody waits for the chain: what goes wrong in it ends the process.
            _ = durable.addErrback(self._failed)

    def _drop_to(self, durable_index: int, keep_bytes: int) -> None:
        self._at_work = False
        # Nothing may go that the core has not been told to be applied.
        first = self._log.first_index()
        last_now = first + COMPACTED_PER_TURN_MAX - 1
        index = min(durable_index, self._log.index_keeping(keep_bytes, last_now), self._raft.log.applied)
        if not self._possible() or index < first:
            return
        term, conf_state = self._log.term(index), self._log.conf_state_at(index)
        self._log.compact(index, conf_state)
        self._write(Compacted(self._group_id, index, term, conf_state))
        if index == last_now:
            # The state machine answers in another turn, and by then has more on its disk.
            self.run(keep_bytes)
