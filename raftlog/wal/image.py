"""What the records add up to: the state of every group, and the oldest segment that each one still needs.

The same fold runs over records when they are submitted and when they are read back, so what recovery finds is what the
writer believed. A record that cannot follow the ones before it raises InvalidRecord and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from raftlog.messages import EMPTY_HARD_STATE, Entry, HardState, Snapshot
from raftlog.wal.errors import InvalidRecord
from raftlog.wal.records import (
    Appended,
    Compacted,
    Created,
    GroupRestated,
    Record,
    Removed,
    SnapshotIncoming,
    SnapshotInstalled,
)

#: What an entry costs in the log beside its data, roughly: term, index, type and the array around them.
ENTRY_OVERHEAD_BYTES = 16


def entries_bytes(entries: Iterable[Entry]) -> int:
    """Return the size that entries have in the log, near enough to decide by."""
    return sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries)


@dataclass(slots=True)
class GroupImage:
    """The durable state of one group.

    `entries` begin right after `max(snapshot.index, missing_index)`. `missing_index` is above the snapshot only while
    a log is read whose oldest segments are gone: entries up to there were in them, and a later record must say that
    they are not needed.
    """

    group_id: int
    replica_id: int
    snapshot: Snapshot
    hard_state: HardState = EMPTY_HARD_STATE
    entries: list[Entry] = field(default_factory=list)
    missing_index: int = 0
    #: A snapshot whose content was about to be put in the state machine's place.
    incoming: Snapshot | None = None
    #: Live size, and where it lies: (first index, segment), both ascending; the first one pins its segment.
    bytes: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def first_index(self) -> int:
        """The index of the first entry, present or about to be appended."""
        return max(self.snapshot.index, self.missing_index) + 1

    @property
    def last_index(self) -> int:
        """The index of the last entry, or of what stands in its place."""
        return self.first_index + len(self.entries) - 1

    @property
    def pinned_segment(self) -> int | None:
        """The oldest segment with a live entry of this group; None if it has none."""
        return self.runs[0][1] if self.runs else None

    def append(self, entries: tuple[Entry, ...], segment: int) -> None:
        """Put entries at their place, dropping whatever was there and after."""
        first, last = entries[0].index, self.last_index
        if not self.snapshot.index < first <= last + 1 or entries[-1].index - first != len(entries) - 1:
            raise InvalidRecord(
                f"group {self.group_id}: entries {first} to {entries[-1].index} do not follow index {last}"
            )
        if first <= last:
            self._truncate(first)
        self.entries.extend(entries)
        self.bytes += entries_bytes(entries)
        if not self.runs or self.runs[-1][1] != segment:
            self.runs.append((first, segment))

    def _truncate(self, index: int) -> None:
        if index < self.first_index:
            self.missing_index = index - 1
            self.forget_entries()
            return
        keep = index - self.first_index
        if not keep:
            self.forget_entries()
            return
        self.bytes -= entries_bytes(self.entries[keep:])
        del self.entries[keep:]
        while self.runs and self.runs[-1][0] >= index:
            self.runs.pop()

    def compact(self, snapshot: Snapshot) -> None:
        """Drop the entries that the snapshot covers."""
        if not self.snapshot.index <= snapshot.index <= self.last_index:
            raise InvalidRecord(
                f"group {self.group_id}: cannot compact to index {snapshot.index}:"
                f" its log spans {self.snapshot.index} to {self.last_index}"
            )
        drop = max(0, snapshot.index + 1 - self.first_index)
        self.bytes -= entries_bytes(self.entries[:drop])
        del self.entries[:drop]
        self.snapshot = snapshot
        self.missing_index = 0 if snapshot.index >= self.missing_index else self.missing_index
        if not self.entries:
            self.runs.clear()
        while len(self.runs) > 1 and self.runs[1][0] <= snapshot.index + 1:
            del self.runs[0]

    def forget_entries(self) -> None:
        """Drop every entry."""
        self.entries.clear()
        self.runs.clear()
        self.bytes = 0


class Images:
    """All groups of one log. `tombstones` are the ids of replicas that were destroyed."""

    def __init__(self) -> None:
        self.groups: dict[int, GroupImage] = {}
        self.tombstones: set[int] = set()
        self._pins: Counter[int] = Counter()

    def oldest_pinned(self, current: int) -> int:
        """Return the oldest segment that holds a live entry; `current` if none does."""
        return min(self._pins, default=current)

    def check_complete(self) -> None:
        """Raise InvalidRecord if entries that were in deleted segments are still needed."""
        for group in self.groups.values():
            if group.missing_index > group.snapshot.index:
                raise InvalidRecord(
                    f"entries {group.snapshot.index + 1} to {group.missing_index} of group {group.group_id} are nowhere"
                )

    def apply(self, record: Record, segment: int) -> None:
        """Fold in a record that lies in `segment`."""
        if isinstance(record, Created):
            self._create(record)
            return
        group = self.groups.get(record.group_id)
        if group is None:
            raise InvalidRecord(f"group {record.group_id}: {type(record).__name__} before it was created")
        before = group.pinned_segment
        if isinstance(record, Appended):
            if record.entries:
                group.append(record.entries, segment)
            if record.hard_state is not None:
                group.hard_state = record.hard_state
        elif isinstance(record, Compacted):
            group.compact(Snapshot(record.index, record.term, record.conf_state))
        elif isinstance(record, SnapshotInstalled):
            self._install(group, record)
        elif isinstance(record, SnapshotIncoming):
            group.incoming = record.snapshot
        else:
            self._remove(group, record)
        self._repin(before, group.pinned_segment)

    def restate(self, record: GroupRestated, segment: int, known: bool = True) -> None:
        """Fold in the state that a segment begins with: the group is `known`, and then must agree, or it is new."""
        group = self.groups.get(record.group_id)
        if group is None and not known:
            group = self.groups[record.group_id] = GroupImage(
                record.group_id, record.replica_id, record.snapshot, record.hard_state
            )
            group.missing_index = record.last_index
            group.incoming = record.incoming
        elif group is None or (
            group.replica_id,
            group.hard_state,
            group.snapshot,
            group.last_index,
            group.incoming,
        ) != (record.replica_id, record.hard_state, record.snapshot, record.last_index, record.incoming):
            raise InvalidRecord(f"group {record.group_id} is not what the segments before make of it")
        if record.entries:
            if (record.entries[0].index, record.entries[-1].index) != (record.snapshot.index + 1, record.last_index):
                raise InvalidRecord(f"group {record.group_id} is restated with only some of its entries")
            before = group.pinned_segment
            group.missing_index = 0
            group.forget_entries()
            group.append(record.entries, segment)
            self._repin(before, segment)

    def _create(self, record: Created) -> None:
        if record.group_id in self.groups:
            raise InvalidRecord(f"group {record.group_id} exists already")
        if record.replica_id in self.tombstones:
            raise InvalidRecord(f"replica {record.replica_id} of group {record.group_id} was destroyed before")
        self.groups[record.group_id] = GroupImage(
            record.group_id, record.replica_id, Snapshot(conf_state=record.conf_state)
        )

    def _install(self, group: GroupImage, record: SnapshotInstalled) -> None:
        if record.snapshot.index < group.snapshot.index:
            raise InvalidRecord(
                f"group {group.group_id}: snapshot at index {record.snapshot.index} is older than"
                f" the one at {group.snapshot.index}"
            )
        group.snapshot = record.snapshot
        group.incoming = None
        group.hard_state = record.hard_state
        group.missing_index = 0
        group.forget_entries()

    def _remove(self, group: GroupImage, record: Removed) -> None:
        if record.replica_id != group.replica_id:
            raise InvalidRecord(
                f"group {group.group_id}: replica {record.replica_id} removed, but {group.replica_id} is here"
            )
        del self.groups[group.group_id]
        group.forget_entries()
        self.tombstones.add(record.replica_id)

    def _repin(self, before: int | None, after: int | None) -> None:
        if before == after:
            return
        if after is not None:
            self._pins[after] += 1
        if before is not None:
            self._pins[before] -= 1
            if not self._pins[before]:
                del self._pins[before]
