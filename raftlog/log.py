"""A replica's log as the core sees it: what is durable, what is on its way to the disk, and how far it is applied.

Two halves. `Unstable` holds entries (and perhaps a snapshot) that the storage has not confirmed yet; entries below
its offset are in the storage. Part of it may be handed out for writing already ("in progress"). `RaftLog` reads over
both and keeps the invariant applied ≤ applying ≤ committed ≤ last index.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from raftlog.messages import Entry, EntryType, Snapshot
from raftlog.storage import Compacted, LogError, LogStorage, Unavailable, entry_size, limit_size


class CommitBeyondLog(Exception):
    """The leader knows a commit index that this log does not reach: acknowledged entries were lost here."""


class Unstable:
    """What is not confirmed to be durable.

    `offset`: index of the first entry here. `offset_in_progress`: the first entry not handed out for writing yet.
    """

    __slots__ = ("entries", "offset", "offset_in_progress", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int) -> None:
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False
        self.entries: list[Entry] = []
        self.offset = offset
        self.offset_in_progress = offset

    def last_index(self) -> int | None:
        """Return the last index here, None if there is nothing."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return self.snapshot.index if self.snapshot is not None else None

    def term(self, index: int) -> int | None:
        """Return the term of an entry here or of the snapshot, None if neither has that index."""
        if index < self.offset:
            return self.snapshot.term if self.snapshot is not None and self.snapshot.index == index else None
        place = index - self.offset
        return self.entries[place].term if place < len(self.entries) else None

    def next_entries(self) -> Sequence[Entry]:
        """Return the entries not handed out for writing yet."""
        return self.entries[self.offset_in_progress - self.offset :]

    def next_snapshot(self) -> Snapshot | None:
        """Return the snapshot if it was not handed out yet."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept_in_progress(self) -> None:
        """Take note that everything here was handed out for writing."""
        self.offset_in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, index: int, term: int) -> None:
        """Drop entries up to `index`, which are durable, unless the last of them was replaced meanwhile."""
        if index < self.offset or self.term(index) != term:
            return
        del self.entries[: index + 1 - self.offset]
        self.offset = index + 1
        self.offset_in_progress = max(self.offset_in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """Drop the snapshot, which is durable, unless it was replaced meanwhile."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Forget everything for `snapshot`."""
        self.offset = self.offset_in_progress = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, dropping those that they replace; what was being written of those is written anew."""
        first = entries[0].index
        if first == self.offset + len(self.entries):
            self.entries.extend(entries)
        elif first <= self.offset:
            self.entries = list(entries)
            self.offset = self.offset_in_progress = first
        else:
            del self.entries[first - self.offset :]
            self.entries.extend(entries)
            self.offset_in_progress = min(self.offset_in_progress, first)


class RaftLog:
    """One replica's log.

    `committed`: the highest index known to be on a quorum. `applying`: handed out to the state machine. `applied`:
    confirmed by it. `applying_size_max` bounds the bytes that are handed out and not confirmed.
    """

    __slots__ = (
        "_applying_paused",
        "_applying_size",
        "_applying_size_max",
        "applied",
        "applying",
        "committed",
        "storage",
        "unstable",
    )

    def __init__(self, storage: LogStorage, applying_size_max: int) -> None:
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1)
        self.committed = self.applying = self.applied = storage.first_index() - 1
        self._applying_size_max = applying_size_max
        self._applying_size = 0
        self._applying_paused = False

    # ---- reading ----------------------------------------------------------------------------------------------

    def first_index(self) -> int:
        """Return the first index whose entry can be read."""
        snapshot = self.unstable.snapshot
        return snapshot.index + 1 if snapshot is not None else self.storage.first_index()

    def last_index(self) -> int:
        """Return the last index: what is not durable follows the storage's last entry or the snapshot."""
        unstable = self.unstable
        return unstable.offset + len(unstable.entries) - 1

    def term(self, index: int) -> int:
        """Return the term of an entry. Raises Compacted or Unavailable."""
        unstable = self.unstable
        place = index - unstable.offset
        if place >= 0:
            if place < len(unstable.entries):
                return unstable.entries[place].term
            raise Unavailable(f"entry {index} is behind the end of the log")
        if unstable.snapshot is None:
            return self.storage.term(index)
        if index == unstable.snapshot.index:
            return unstable.snapshot.term
        raise Compacted(f"entry {index} is compacted")

    def term_or_zero(self, index: int) -> int:
        """Return the term of an entry, 0 if it can't be read."""
        try:
            return self.term(index)
        except LogError:
            return 0

    def last_term(self) -> int:
        """Return the term of the last entry."""
        return self.term(self.last_index())

    def matches(self, index: int, term: int) -> bool:
        """Return whether the entry at `index` is of `term`."""
        if index > self.last_index():
            return False
        try:
            return self.term(index) == term
        except LogError:
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Return whether a log ending with (index, term) is at least as up-to-date as this one (Raft §5.4.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self.last_index())

    def entries(self, low: int, size_max: int) -> Sequence[Entry]:
        """Return the entries from `low` on, within `size_max` bytes, but at least one if there is one."""
        unstable = self.unstable
        if low >= unstable.offset:
            return limit_size(unstable.entries[low - unstable.offset :], size_max)
        return self.slice(low, self.last_index() + 1, size_max)

    def slice(self, low: int, high: int, size_max: int) -> Sequence[Entry]:
        """Return entries low..high-1 within `size_max` bytes. Raises Compacted."""
        if low < self.first_index():
            raise Compacted(f"entry {low} is compacted")
        if low >= high:
            return ()
        unstable = self.unstable
        offset = unstable.offset
        if low >= offset:
            return limit_size(unstable.entries[low - offset : high - offset], size_max)
        stored_high = min(high, offset)
        stored = self.storage.entries(low, stored_high, size_max)
        if high <= offset or len(stored) < stored_high - low:
            return stored
        return limit_size([*stored, *unstable.entries[: high - offset]], size_max)

    def snapshot(self) -> Snapshot:
        """Return the latest snapshot. Raises SnapshotTemporarilyUnavailable."""
        return self.unstable.snapshot or self.storage.snapshot()

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """Return the highest (index', term') with index' ≤ index and term' ≤ term; term' 0 if it can't be read.

        Skips whole terms when two logs differ, in both directions (RAFT_RULES 39). Terms never fall along a log, so
        bisection finds the place without looking at hundreds of thousands of entries.
        """
        low = self.first_index() - 1
        if index < low or index > self.last_index():
            return index, 0
        place = bisect_right(range(low, index + 1), term, key=self.term)
        if not place:
            return low - 1, 0
        found = low + place - 1
        return found, self.term(found)

    # ---- appending --------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> int:
        """Append entries, replacing what conflicts, and return the last index."""
        if entries:
            if entries[0].index <= self.committed:
                raise AssertionError(f"entry {entries[0].index} would replace a committed one")
            self.unstable.append(entries)
        return self.last_index()

    def maybe_append(self, index: int, term: int, entries: Sequence[Entry], leader_commit: int) -> int | None:
        """Take an append whose predecessor is (index, term); return the last index it proves, None if it fits not.

        Entries are removed only at the first conflicting term, so that a short or old append never shortens the log
        (RAFT_RULES 6); the commit index moves only over what this append proves (RAFT_RULES 7).
        """
        if not self.matches(index, term):
            return None
        last_new = index + len(entries)
        for place, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self.append(entries[place:])
                break
        self.commit_to(min(leader_commit, last_new))
        return last_new

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew behind `snapshot`, which is committed."""
        self.committed = snapshot.index
        self.unstable.restore(snapshot)

    # ---- moving the indexes -----------------------------------------------------------------------------------

    def commit_to(self, index: int) -> None:
        """Advance the commit index, never back. Raises CommitBeyondLog if this log is too short for it."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise CommitBeyondLog(f"entry {index} is committed but this log ends at {self.last_index()}")
        self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to `index` if that entry is of `term`, the leader's own (Raft §5.4.2); say whether it moved."""
        if index > self.committed and self.matches(index, term):
            self.committed = index
            return True
        return False

    def max_appliable(self, *, allow_unstable: bool) -> int:
        """Return the highest index that may be applied: committed and, unless allowed otherwise, durable here."""
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def has_next_committed(self, *, allow_unstable: bool) -> bool:
        """Return whether next_committed would give anything."""
        if self.applying >= self.committed or self._applying_paused or self.unstable.snapshot is not None:
            return False
        return self.applying < self.max_appliable(allow_unstable=allow_unstable)

    def next_committed(self, *, allow_unstable: bool) -> Sequence[Entry]:
        """Return the next entries to apply, within the bound of what may be handed out at once."""
        if not self.has_next_committed(allow_unstable=allow_unstable):
            return ()
        high = self.max_appliable(allow_unstable=allow_unstable) + 1
        return self.slice(self.applying + 1, high, self._applying_size_max - self._applying_size)

    def accept_applying(self, entries: Sequence[Entry], *, allow_unstable: bool) -> None:
        """Take note that `entries` were handed out to the state machine."""
        self.applying = entries[-1].index
        self._applying_size += sum(map(entry_size, entries))
        self._applying_paused = self._applying_size >= self._applying_size_max or self.applying < self.max_appliable(
            allow_unstable=allow_unstable
        )

    def applied_to(self, index: int, size: int) -> None:
        """Take note that entries up to `index` are applied; `size` of them were handed out before."""
        if index < self.applied or index > self.committed:
            raise AssertionError(f"applied {index} is not in [{self.applied}, {self.committed}]")
        self.applied = index
        self.applying = max(self.applying, index)
        self._applying_size = max(0, self._applying_size - size)
        self._applying_paused = self._applying_size >= self._applying_size_max

    def has_unapplied_conf_change(self) -> bool:
        """Return whether a committed change of membership waits to be applied."""
        low = self.applied + 1
        while low <= self.committed:
            batch = self.slice(low, self.committed + 1, 1 << 20)
            if any(entry.type is not EntryType.NORMAL for entry in batch):
                return True
            low += len(batch)
        return False
