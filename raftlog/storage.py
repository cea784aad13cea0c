"""What a core reads of its durable log, and the image of it that is kept in memory.

The image holds exactly what the write-ahead log has made durable for one group: the driver extends it when a write
is done, never before. Everything behind the last compaction is in memory; how much that is, is bounded by compaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftlog.confchange import replay
from raftlog.messages import EMPTY_HARD_STATE, ConfState, Entry, HardState, Message, Snapshot


class LogError(Exception):
    """The log can't give what was asked for."""


class Compacted(LogError):
    """The entries were compacted away; only a snapshot can bring them."""


class Unavailable(LogError):
    """The entries are not in the log yet."""


class SnapshotTemporarilyUnavailable(LogError):
    """There is no snapshot to send at the moment; ask again later."""


class LogStorage(Protocol):
    """A group's durable log as its core sees it."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return the hard state and the configuration as of the applied index the core starts with."""

    def first_index(self) -> int:
        """Return the first index that entries() can give, one behind the last compaction."""

    def last_index(self) -> int:
        """Return the last index, that of the last compaction if no entry follows it."""

    def term(self, index: int) -> int:
        """Return the term of an entry, or of the last compacted one. Raises Compacted or Unavailable."""

    def entries(self, low: int, high: int, size_max: int) -> Sequence[Entry]:
        """Return entries low..high-1, cut so that their data stays within `size_max` bytes, but at least one."""

    def snapshot(self) -> Snapshot:
        """Return the latest snapshot. Raises SnapshotTemporarilyUnavailable."""


def entry_size(entry: Entry) -> int:
    """Return how many bytes an entry counts in all limits of messages: its data and a little for its header."""
    return len(entry.data) + 12


def limit_size(entries: Sequence[Entry], size_max: int) -> Sequence[Entry]:
    """Return the longest head of `entries` within `size_max` bytes, but at least one entry if there is one."""
    if len(entries) < 2:
        return entries
    size = 0
    for count, entry in enumerate(entries):
        size += entry_size(entry)
        if size > size_max and count:
            return entries[:count]
    return entries


class MemoryLog:
    """The image of one group's durable log; implements LogStorage."""

    def __init__(self) -> None:
        self.hard_state = EMPTY_HARD_STATE
        #: The last compacted entry, and the configuration as of it.
        self._snapshot = Snapshot()
        self._entries: list[Entry] = []
        #: The configuration from each of these indexes on, ascending; the first one is the snapshot's.
        self._conf_states: list[tuple[int, ConfState]] = [(0, ConfState())]
        #: Bytes of the entries held.
        self.size_bytes = 0

    @classmethod
    def recovered(
        cls, hard_state: HardState, snapshot: Snapshot, entries: Sequence[Entry], applied_index: int
    ) -> MemoryLog:
        """Return the image of a recovered log whose state machine has applied entries up to `applied_index`.

        What was applied was committed, so the commit index is at least that (RAFT_RULES 8).
        """
        log = cls()
        commit = max(hard_state.commit, applied_index, snapshot.index)
        log.hard_state = HardState(hard_state.term, hard_state.vote, commit)
        log._snapshot = snapshot
        log._entries = list(entries)
        log.size_bytes = sum(map(entry_size, entries))
        applied = log._entries[: max(0, applied_index - snapshot.index)]
        log._conf_states = [(snapshot.index, snapshot.conf_state), *replay(snapshot.conf_state, applied)]
        return log

    # ---- reading ----------------------------------------------------------------------------------------------

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return the hard state and the configuration as of the applied index."""
        return self.hard_state, self._conf_states[-1][1]

    def first_index(self) -> int:
        """Return the first index that is held."""
        return self._snapshot.index + 1

    def last_index(self) -> int:
        """Return the last index."""
        return self._snapshot.index + len(self._entries)

    def term(self, index: int) -> int:
        """Return the term of an entry, or of the last compacted one."""
        offset = index - self._snapshot.index
        if offset == 0:
            return self._snapshot.term
        if offset < 0:
            raise Compacted(f"entry {index} is compacted, the log begins at {self.first_index()}")
        if offset > len(self._entries):
            raise Unavailable(f"entry {index} is behind the end of the log at {self.last_index()}")
        return self._entries[offset - 1].term

    def entries(self, low: int, high: int, size_max: int) -> Sequence[Entry]:
        """Return entries low..high-1 within `size_max` bytes, but at least one."""
        if low <= self._snapshot.index:
            raise Compacted(f"entry {low} is compacted, the log begins at {self.first_index()}")
        if high > self.last_index() + 1:
            raise Unavailable(f"entry {high - 1} is behind the end of the log at {self.last_index()}")
        offset = self._snapshot.index + 1
        return limit_size(self._entries[low - offset : high - offset], size_max)

    def snapshot(self) -> Snapshot:
        """Return the point of the last compaction, as metadata of a snapshot."""
        if not self._snapshot.index:
            raise SnapshotTemporarilyUnavailable("nothing was compacted yet")
        return self._snapshot

    # ---- changing ---------------------------------------------------------------------------------------------

    def store(self, append: Message) -> None:
        """Take what a STORAGE_APPEND message wrote: hard state, snapshot, entries, in this order."""
        if append.term or append.vote or append.commit:
            self.hard_state = HardState(append.term, append.vote, append.commit)
        if append.snapshot is not None:
            self.apply_snapshot(append.snapshot)
        if append.entries:
            self.append(append.entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, first dropping those they replace; what is compacted already is skipped."""
        first = self.first_index()
        if entries[-1].index < first:
            return
        entries = entries[max(0, first - entries[0].index) :]
        keep = entries[0].index - first
        if keep > len(self._entries):
            raise AssertionError(f"a gap: the log ends at {self.last_index()}, entry {entries[0].index} follows")
        if keep < len(self._entries):
            self.size_bytes -= sum(map(entry_size, self._entries[keep:]))
            del self._entries[keep:]
        self._entries.extend(entries)
        self.size_bytes += sum(map(entry_size, entries))

    def note_conf_state(self, index: int, conf_state: ConfState) -> None:
        """Remember that the change of membership at `index` was applied."""
        self._conf_states.append((index, conf_state))

    def conf_state_at(self, index: int) -> ConfState:
        """Return the configuration as of `index`, which is applied and not compacted beyond."""
        return next(state for since, state in reversed(self._conf_states) if since <= index)

    def compact(self, index: int, conf_state: ConfState) -> None:
        """Drop entries up to `index`, which are applied; `conf_state` is the configuration as of it."""
        if index <= self._snapshot.index:
            raise Compacted(f"entry {index} is compacted already, the log begins at {self.first_index()}")
        term = self.term(index)
        count = index - self._snapshot.index
        self.size_bytes -= sum(map(entry_size, self._entries[:count]))
        del self._entries[:count]
        self._conf_states = [(index, conf_state), *(known for known in self._conf_states if known[0] > index)]
        self._snapshot = Snapshot(index, term, conf_state)

    def index_keeping(self, size_bytes: int, index_max: int) -> int:
        """Return the index up to which entries can go if the newest `size_bytes` are to stay; at most `index_max`."""
        excess = self.size_bytes - size_bytes
        index = self._snapshot.index
        for entry in self._entries:
            excess -= entry_size(entry)
            if excess < 0 or index == index_max:
                break
            index = entry.index
        return index

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Forget everything and begin behind `snapshot`."""
        self._snapshot = snapshot
        self._entries = []
        self.size_bytes = 0
        self._conf_states = [(snapshot.index, snapshot.conf_state)]
