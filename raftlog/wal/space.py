"""Keeps an eye on the room left on the disk, and a file in reserve for when there is none.

Running out is survived by not getting there: below a threshold `low` tells the driver to take no more proposals,
while compaction and votes go on. If the disk is filled up all the same (by others, or while this process was down),
the reserve gives room for one more segment, in which a compaction can free the old ones.
"""

from __future__ import annotations

import errno

from raftlog.wal.directory import RESERVE_NAME, Directory


class Space:
    """The free room of a directory's disk. `low` is read by other threads."""

    def __init__(self, directory: Directory, reserve_bytes: int, free_bytes_min: int) -> None:
        self.low = False
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._free_bytes_min = free_bytes_min
        self._reserved = False

    def start(self) -> None:
        """Find out how things stand."""
        self._reserved = RESERVE_NAME in self._directory.names()

    def check(self) -> None:
        """Look again, and set the reserve aside if it is missing and there is room for it and more."""
        free = self._directory.free_bytes()
        if not self._reserved and free >= self._free_bytes_min + self._reserve_bytes:
            self._reserve()
            free -= self._reserve_bytes
        # Once low, a quarter more must be free before proposals are taken again, so that the state does not flap.
        enough = self._free_bytes_min * 5 // 4 if self.low else self._free_bytes_min
        self.low = not self._reserved or free < enough

    def release(self) -> bool:
        """Give the reserve up; whether there was one."""
        if not self._reserved:
            return False
        self._reserved = False
        self.low = True
        self._directory.remove(RESERVE_NAME)
        return True

    def _reserve(self) -> None:
        try:
            self._directory.create(RESERVE_NAME, self._reserve_bytes).close()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        else:
            self._reserved = True
