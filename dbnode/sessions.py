"""Sessions: why a command is applied exactly once however often it is retried (RAFT_RULES 41; Raft thesis §6.3).

A session numbers its batches from 1. The shard keeps the results of those above what the session acknowledged, so
that batches may arrive twice and, over a change of leader, in another order. A batch of an unknown session is
refused, not applied: it may be an old one coming back after its session was forgotten. Therefore the name of a
session is never used again.

Sessions age by log index, which all replicas share. The clock by which idempotency keys age is the shard's own: it
starts with the first command and counts what goes by on its proposers' clocks. Only differences count: a proposer
whose clock is ten years ahead ages nothing, and one whose clock jumps moves ours by CLOCK_STEP_MS_MAX at most. What
it loses while nobody writes only makes keys live longer.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dbnode.changes import Changes, Results, SessionMark
from dbnode.wire import STALE_SEQUENCE, UNKNOWN_SESSION, Batch, OpenSession

#: A session that no entry used for so many entries is forgotten. A balancer's retries end within seconds.
SESSION_IDLE_ENTRIES = 1_000_000
#: Sessions kept per shard: one for each balancer incarnation. Opening one more forgets the least recently used.
SESSIONS_MAX = 256
#: Sequences a session may have open. A later one acknowledges those that it leaves behind.
SEQUENCES_OPEN_MAX = 1024
#: The most that one command moves the shard's clock.
CLOCK_STEP_MS_MAX = 600_000


class Rejected(msgspec.Struct, frozen=True):
    """The entry changed nothing; `code` is one of wire.Refused's.

    An earlier copy of the same command may have been applied if the code is UNKNOWN_SESSION or STALE_SEQUENCE.
    """

    code: str
    message: str


class SessionTable:
    """The sessions as committed."""

    def __init__(
        self, marks: Mapping[str, SessionMark] | None = None, results: Mapping[tuple[str, int], Results] | None = None
    ) -> None:
        self._marks = dict(marks or {})
        self._results: dict[str, dict[int, Results]] = {name: {} for name in self._marks}
        for (name, sequence), stored in (results or {}).items():
            self._results[name][sequence] = stored

    def marks(self) -> dict[str, SessionMark]:
        """Return all sessions by name."""
        return dict(self._marks)

    def results(self) -> dict[tuple[str, int], Results]:
        """Return all results by session and sequence."""
        return {(name, sequence): found for name, kept in self._results.items() for sequence, found in kept.items()}

    def mark(self, name: str) -> SessionMark | None:
        """Return one session."""
        return self._marks.get(name)

    def stored(self, name: str, sequence: int) -> Results | None:
        """Return the results of a batch that was applied and not acknowledged."""
        return self._results[name].get(sequence)

    def absorb(self, changes: Changes) -> None:
        """Take over a committed transaction."""
        for name in changes.closed:
            self._marks.pop(name, None)
            self._results.pop(name, None)
        for name, mark in changes.sessions.items():
            self._marks[name] = mark
            kept = self._results.setdefault(name, {})
            for sequence in [known for known in kept if known <= mark.acknowledged]:
                del kept[sequence]
        for (name, sequence), found in changes.results.items():
            self._results[name][sequence] = found


class SessionLayer:
    """What a transaction does to the sessions, laid over the committed table."""

    def __init__(self, table: SessionTable, clock_ms: int) -> None:
        self.clock_ms = clock_ms
        #: Committed sessions that this transaction forgets. One of them may be opened anew by the same transaction.
        self.closed: set[str] = set()
        self._table = table
        self._marks: dict[str, SessionMark] = {}
        self._results: dict[str, dict[int, Results]] = {}

    def open(self, index: int, command: OpenSession) -> None:
        """Open a session; opening a live one again changes nothing but its age."""
        known = self._live(command.session, index)
        offset_ms = known.clock_offset_ms if known else command.now_ms - self.clock_ms
        if known is None:
            self._make_room(index)
        self._touch(command.session, index, command.now_ms, known or SessionMark(index, 0, offset_ms), 0)

    def find(self, index: int, batch: Batch) -> Results | Rejected | None:
        """Return what is already decided about a batch; None means that it is new and must be applied."""
        name, sequence = batch.session, batch.sequence
        mark = self._live(name, index)
        if mark is None:
            return Rejected(UNKNOWN_SESSION, f"session {name} is not open; open one under a new name")
        floor = self._touch(name, index, batch.now_ms, mark, max(batch.acknowledged, sequence - SEQUENCES_OPEN_MAX))
        if sequence <= floor:
            return Rejected(STALE_SEQUENCE, f"sequence {sequence} of session {name}: {floor} is acknowledged")
        found = self._results[name].get(sequence)
        if found is None and name not in self.closed and self._table.mark(name) is not None:
            found = self._table.stored(name, sequence)
        return found

    def record(self, batch: Batch, results: Results) -> None:
        """Keep the results of a batch that `find` said is new."""
        self._results[batch.session][batch.sequence] = results

    def marks(self) -> dict[str, SessionMark]:
        """Return the sessions that are new or changed."""
        return self._marks

    def results(self) -> dict[tuple[str, int], Results]:
        """Return the new results that are still to be kept."""
        return {
            (name, sequence): found
            for name, kept in self._results.items()
            for sequence, found in kept.items()
            if sequence > self._marks[name].acknowledged
        }

    def _live(self, name: str, index: int) -> SessionMark | None:
        mark = self._marks.get(name)
        if mark is None and name not in self.closed:
            mark = self._table.mark(name)
        return mark if mark is not None and mark.last_index + SESSION_IDLE_ENTRIES >= index else None

    def _touch(self, name: str, index: int, now_ms: int, mark: SessionMark, acknowledged: int) -> int:
        clock_ms, floor = self.clock_ms, max(mark.acknowledged, acknowledged)
        seen_ms = now_ms - mark.clock_offset_ms
        steady_ms = min(max(seen_ms, clock_ms - CLOCK_STEP_MS_MAX), clock_ms + CLOCK_STEP_MS_MAX)
        if steady_ms > clock_ms:
            self.clock_ms = steady_ms
        self._marks[name] = SessionMark(index, floor, now_ms - steady_ms)
        if name not in self._results:
            self._results[name] = {}
        return floor

    def _make_room(self, index: int) -> None:
        """Forget what has expired, and if need be the session that was unused the longest."""
        marks = {name: mark for name, mark in self._table.marks().items() if name not in self.closed}
        marks.update(self._marks)
        by_use = sorted(marks, key=lambda name: marks[name].last_index)
        surplus = len(by_use) - (SESSIONS_MAX - 1)
        for place, name in enumerate(by_use):
            if place < surplus or marks[name].last_index + SESSION_IDLE_ENTRIES < index:
                self._close(name)

    def _close(self, name: str) -> None:
        self._marks.pop(name, None)
        self._results.pop(name, None)
        if self._table.mark(name) is not None:
            self.closed.add(name)
