"""A disk in memory that does what disks do: it loses power, tears writes, flips bits, fills up, and fails to sync.

MemoryDisk is a raftlog.wal Directory, so the real log runs over it, step by step and without a thread. It keeps what a
process can read apart from what would survive a power cut, sector by sector and name by name.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass
from typing import NoReturn

from raftlog.wal.directory import File

#: What a disk writes whole or not at all.
SECTOR_BYTES = 512


class PowerLost(OSError):
    """The power went off during this operation, or before it."""


@dataclass(slots=True)
class _Inode:
    """`cached` is what reading gives; `durable` what is there after a power cut."""

    cached: bytearray
    durable: bytearray


class MemoryDisk:
    """A Directory in memory. All randomness comes from `rng`.

    `operations` counts what changes the disk, `created` the files that were made. When `operations` reaches
    `power_off_at`, that operation happens in part and raises PowerLost, as does everything after it until `restart`.
    """

    def __init__(self, rng: random.Random, capacity_bytes: int = 1 << 40) -> None:
        self.operations = 0
        self.power_off_at: int | None = None
        self.created = 0
        self.capacity_bytes = capacity_bytes
        self._rng = rng
        self._powered = True
        self._faults: dict[str, int] = {}
        self._files: dict[str, _Inode] = {}
        #: The directory as a power cut may leave it: as it was synced, or after any operation since.
        self._possible: list[dict[str, _Inode]] = [{}]

    @property
    def is_on(self) -> bool:
        """Whether the power is on."""
        return self._powered

    # What a test does to it.

    def fail_next(self, operation: str, number: int) -> None:
        """Let the next "write", "create", "rename", "remove" or "sync" fail with this errno.

        A write that fails may be on disk in part, can be read back in full, and is never written again: what Linux
        does when writing back fails.
        """
        self._faults[operation] = number

    def restart(self, power_off: bool = True) -> None:
        """Come back; after a power cut with what was durable and some of what was not, else with what was readable."""
        self._powered = True
        self.power_off_at = None
        self._faults.clear()
        if not power_off:
            return
        self._files = dict(self._rng.choice(self._possible))
        self._possible = [dict(self._files)]
        for inode in self._files.values():
            inode.cached[:] = inode.durable

    def flip(self, name: str, bit: int) -> None:
        """Flip one bit of a file, for good."""
        inode = self._files[name]
        for content in (inode.cached, inode.durable):
            content[bit // 8] ^= 1 << bit % 8

    def content(self, name: str) -> bytes:
        """Return what a file reads as."""
        return bytes(self._files[name].cached)

    def replace(self, name: str, content: bytes) -> None:
        """Put a file there, durably."""
        inode = _Inode(bytearray(content), bytearray(content))
        for files in (self._files, *self._possible):
            files[name] = inode

    # Directory

    def names(self) -> list[str]:
        """See Directory."""
        return sorted(self._files)

    def open(self, name: str) -> File:
        """See Directory."""
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return MemoryFile(self, self._files[name])

    def create(self, name: str, length: int) -> File:
        """See Directory."""
        lost = self._begin("create")
        if length > self.free_bytes() + len(self._files[name].cached if name in self._files else b""):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        self.created += 1
        self._files[name] = _Inode(bytearray(length), bytearray(length))
        self._names_changed(lost)
        return self.open(name)

    def rename(self, old: str, new: str) -> None:
        """See Directory."""
        lost = self._begin("rename")
        self._files[new] = self._files.pop(old)
        self._names_changed(lost)

    def remove(self, name: str) -> None:
        """See Directory."""
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        lost = self._begin("remove")
        del self._files[name]
        self._names_changed(lost)

    def sync(self) -> None:
        """See Directory."""
        if self._begin("sync"):
            _lose_power()
        self._possible = [dict(self._files)]

    def free_bytes(self) -> int:
        """See Directory."""
        return self.capacity_bytes - sum(len(inode.cached) for inode in self._files.values())

    # For MemoryFile

    def write_to(self, inode: _Inode, offset: int, data: bytes) -> None:
        """Write as File.write does."""
        try:
            lost = self._begin("write")
        except PowerLost:
            raise
        except OSError:
            inode.cached[offset : offset + len(data)] = data
            self._write_some_sectors(inode, offset, data)
            raise
        if lost:
            self._write_some_sectors(inode, offset, data)
            _lose_power()
        inode.cached[offset : offset + len(data)] = data
        inode.durable[offset : offset + len(data)] = data

    def truncate(self, inode: _Inode, length: int) -> None:
        """Truncate as File.truncate does: whether it survives a power cut is a matter of luck."""
        lost = self._begin("truncate")
        del inode.cached[length:]
        if self._rng.random() < 0.5:
            del inode.durable[length:]
        if lost:
            _lose_power()

    def _begin(self, operation: str) -> bool:
        """Count an operation; True if the power goes off during it."""
        if not self._powered:
            _lose_power()
        self.operations += 1
        if self.operations == self.power_off_at:
            self._powered = False
            return True
        number = self._faults.pop(operation, 0)
        if number:
            raise OSError(number, os.strerror(number))
        return False

    def _names_changed(self, lost: bool) -> None:
        self._possible.append(dict(self._files))
        if lost:
            _lose_power()

    def _write_some_sectors(self, inode: _Inode, offset: int, data: bytes) -> None:
        """Write none, all, the first few, or any of the sectors that the data touches."""
        begin = offset - offset % SECTOR_BYTES
        sectors = range(begin, offset + len(data), SECTOR_BYTES)
        share = self._rng.choice((0.0, 0.5, 1.0))
        prefix = self._rng.randrange(len(sectors) + 1) if self._rng.random() < 0.5 else len(sectors)
        for sector in sectors[:prefix]:
            if self._rng.random() < share:
                low, high = max(sector, offset), min(sector + SECTOR_BYTES, offset + len(data))
                inode.durable[low:high] = data[low - offset : high - offset]


class MemoryFile:
    """A File of a MemoryDisk."""

    def __init__(self, disk: MemoryDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def read(self, length: int | None = None) -> bytes:
        """See File."""
        return bytes(self._inode.cached[:length])

    def write(self, offset: int, data: bytes) -> None:
        """See File."""
        self._disk.write_to(self._inode, offset, data)

    def truncate(self, length: int) -> None:
        """See File."""
        self._disk.truncate(self._inode, length)

    def close(self) -> None:
        """See File."""


def _lose_power() -> NoReturn:
    raise PowerLost(errno.EIO, "the power went off")
