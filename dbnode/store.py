"""Where a shard's rows and state live: the Protocols that every storage engine fulfils.

A store answers at once, or with a Deferred where its engine works elsewhere; callers take both. It is owned by one
replica, which never starts a commit before the one before it has ended. What is committed survives the death of the
process at once, and the machine's only once `make_durable` said so: the Raft log replays the rest (RAFT_RULES 8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

from dbnode.changes import Changes, Image, Loaded, Page

T = TypeVar("T")
#: An answer that may already be there.
Answer: TypeAlias = T | Deferred[T]


class RunInThread(Protocol):
    """Runs work in a thread of a pool that the composition root owns."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """Fire with what `work` returns or raises."""


class StoreError(Exception):
    """The store cannot do what it was asked; a commit that failed so changed nothing."""


class StoreUnavailable(StoreError):
    """The engine cannot be reached for now, which the store tries to mend by itself; what was asked is not done."""


class DiskFullError(StoreError):
    """There was no room for a commit; it may be tried again once there is (RAFT_RULES 16)."""


class WrongFileError(StoreError):
    """What is there is damaged, foreign, of a newer format or of another table. The message names it."""


class DiskFailedError(StoreError):
    """A sync or another operation of the disk failed, so what it holds is unknown.

    The process must end: to go on, or to sync again, would take for stored what is not (RAFT_RULES 13).
    """


class Store(Protocol):
    """The rows and the state of one replica of a shard."""

    def open(self) -> Answer[Image]:
        """Make ready, creating an empty store if there is none, and return what the machine needs.

        Must come first. Raises WrongFileError.
        """

    def load(self, ids: list[int], keys: list[str]) -> Answer[Loaded]:
        """Return those of the rows and idempotency keys that exist; expired keys may be among them."""

    def commit(self, changes: Changes) -> Answer[None]:
        """Make all changes in one transaction, or fail with StoreError and make none."""

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Answer[Page]:
        """Return rows low..high (both inclusive) by id, in pages.

        A page has at most `limit` rows (0: no limit) and ends soon after `bytes_max` bytes (0: no limit), but has at
        least one row if the range has any. Each page is consistent; pages see later commits.
        """

    def make_durable(self) -> Deferred[int]:
        """Bring everything committed so far to the disk; fires with an applied index that is certainly there."""

    def close(self) -> Deferred[None]:
        """Let go of everything; fires when nothing is running any more. Nothing else may be called after it."""

    def destroy(self) -> Deferred[None]:
        """Close and remove all that is stored. A crash in the middle leaves a store that can be destroyed again."""


class Export(Protocol):
    """A consistent copy of a store, on its way out, in chunks (dbnode.snapshot says what is in them)."""

    @property
    def applied_index(self) -> int:
        """The position of the copy."""

    def next_chunk(self) -> Deferred[bytes | None]:
        """Return the next chunk, None after the last. One call at a time."""

    def close(self) -> Deferred[None]:
        """Give up the copy; may be called at any time and again."""


class Import(Protocol):
    """A copy on its way in, built beside the store and swapped in at the end."""

    def write(self, chunk: bytes) -> Deferred[None]:
        """Take the next chunk. One call at a time. Fails with SnapshotError if it is not what must come next."""

    def finish(self) -> Deferred[Image]:
        """Put the copy in the store's place, durably, and reopen the store on it.

        Whatever fails or crashes before this fires leaves the old content or the new one, never a mixture. Exports
        that run are ended.
        """

    def abort(self) -> Deferred[None]:
        """Drop what was written, also in the middle of a `write`; the store stays as it is."""


class SnapshotStore(Store, Protocol):
    """A store that can be copied as a whole."""

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a copy of what is committed now; commits go on meanwhile. Chunks are about `chunk_bytes` long."""

    def begin_import(self) -> Import:
        """Begin to replace the content; the store goes on as it is until `finish`.

        One at a time, but one that was given up need not be gone yet.
        """
