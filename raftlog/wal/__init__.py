"""The write-ahead log that all groups of a process share.

    wal, groups = open_wal(directory, call_from_thread=reactor.callFromThread, on_fatal=die)
    wal.submit([Appended(7, HardState(3, 1, 17), entries)], lambda: ...)   # called once it is on disk

Acknowledged means on disk: every round of records is written and synced before any `done` of it is called. What a
crash leaves is every acknowledged submit, and perhaps some that were not, whole and in order. The bytes on disk are
described in raftlog.wal.framing, what the records mean in raftlog.wal.image; `python -m raftlog.wal DIR` explains a
log.

One case no checksum can tell from a write that a crash cut short: a bit that flips within the last round of the log
while nobody has it open. That round is then dropped, as if it had never been acknowledged.
"""

from raftlog.wal.commit import Stats
from raftlog.wal.errors import InvalidRecord, WalClosed, WalDamaged, WalError, WalLocked, WalOverloaded
from raftlog.wal.memory import MemoryWal
from raftlog.wal.opening import RecoveredGroup, open_on, open_wal
from raftlog.wal.options import Options
from raftlog.wal.records import Appended, Compacted, Created, Record, Removed, SnapshotIncoming, SnapshotInstalled
from raftlog.wal.wal import Wal, WriteAheadLog

__all__ = [
    "Appended",
    "Compacted",
    "Created",
    "InvalidRecord",
    "MemoryWal",
    "Options",
    "Record",
    "RecoveredGroup",
    "Removed",
    "SnapshotIncoming",
    "SnapshotInstalled",
    "Stats",
    "Wal",
    "WalClosed",
    "WalDamaged",
    "WalError",
    "WalLocked",
    "WalOverloaded",
    "WriteAheadLog",
    "open_on",
    "open_wal",
]
