"""What can go wrong with a write-ahead log, and what each of its callers should do about it.

WalError and its kin end the process: the log on disk can no longer be trusted, or never could be. The others are
answers to one call and leave the log as it was.
"""

from __future__ import annotations


class WalError(Exception):
    """The log cannot be opened, or cannot be continued. The process should say so and end."""


class WalDamaged(WalError):
    """A file of the log holds what this program never wrote there.

    `file` is its name within the directory and `offset` the byte at which reading failed.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(f"{file}: damaged at byte {offset}: {reason}")
        self.file = file
        self.offset = offset
        self.reason = reason


class WalLocked(WalError):
    """Another process has the directory open."""


class WalOverloaded(Exception):
    """The queue is full; nothing was staged. Ask `Wal.overloaded` before taking work from a core."""


class WalClosed(Exception):
    """The log was closed, or has failed for good; nothing was staged."""


class InvalidRecord(ValueError):
    """A record that cannot follow the ones before it: a bug of whoever submitted it.

    Written to disk, it would make the log unreadable.
    """
