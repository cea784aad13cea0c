"""A log in memory that is durable when its test says so, and can crash."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from raftlog.wal.errors import InvalidRecord, WalClosed
from raftlog.wal.image import Images
from raftlog.wal.opening import RecoveredGroup, copy_group
from raftlog.wal.records import Record
from raftlog.wal.wal import acknowledge


class MemoryWal:
    """A WriteAheadLog that keeps its records as they are.

    With `auto` every submit is durable, and acknowledged, at once; else when `sync` is called. `overloaded` and
    `free_bytes_low` are what the test sets them to.
    """

    def __init__(self, auto: bool = False) -> None:
        self.auto = auto
        self.overloaded = False
        self.free_bytes_low = False
        self._durable: list[Record] = []
        self._images = Images()
        self._queued: deque[tuple[tuple[Record, ...], Callable[[], None]]] = deque()
        self._closed = False

    @property
    def tombstones(self) -> frozenset[int]:
        """The ids of the replicas that were destroyed here."""
        return frozenset(self._images.tombstones)

    def submit(self, records: Sequence[Record], done: Callable[[], None]) -> None:
        """See Wal.submit. Raises WalClosed after `close` or `crash`; never WalOverloaded."""
        if self._closed:
            raise WalClosed("the log is closed")
        try:
            for record in records:
                self._images.apply(record, 1)
        except InvalidRecord:
            self._closed = True
            raise
        self._queued.append((tuple(records), done))
        if self.auto:
            self.sync()

    def sync(self) -> None:
        """Make everything submitted so far durable, then acknowledge it."""
        settled, self._queued = self._queued, deque()
        for records, _ in settled:
            self._durable += records
        for _, done in settled:
            acknowledge(done)

    def crash(self) -> tuple[MemoryWal, dict[int, RecoveredGroup]]:
        """Lose what was not synced; the log as the next process opens it, and what it finds there."""
        self._closed = True
        self._queued.clear()
        reopened = MemoryWal(self.auto)
        for record in self._durable:
            reopened._images.apply(record, 1)
        reopened._durable = list(self._durable)
        return reopened, {group.group_id: copy_group(group) for group in reopened._images.groups.values()}

    def group_bytes(self, group_id: int) -> int:
        """See WriteAheadLog."""
        return self._images.groups[group_id].bytes

    def pinning_groups(self) -> list[int]:
        """See WriteAheadLog; memory has no segments."""
        return []

    def oldest_unsynced_seconds(self) -> float:
        """See WriteAheadLog; memory has no time."""
        return 0.0

    def close(self) -> None:
        """See WriteAheadLog."""
        if not self._closed:
            self.sync()
            self._closed = True
