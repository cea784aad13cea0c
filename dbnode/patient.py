"""A store that waits for room: on a full disk a replica stops applying instead of ending its process.

Meanwhile everything else goes on: the log acknowledges as long as it has room itself (it keeps a reserve), what was
applied can be read, and with the first byte of room the replica catches up (RAFT_RULES 16).
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dbnode.changes import Changes, Image, Loaded, Page
from dbnode.store import Answer, DiskFullError, Export, Import, SnapshotStore

#: How often it is tried whether there is room again.
RETRY_SECONDS = 1.0


class PatientStore:
    """A SnapshotStore over another one, whose `commit` ends only when there was room for it."""

    _log = Logger()

    def __init__(self, store: SnapshotStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._retry_call: IDelayedCall | None = None

    def open(self) -> Answer[Image]:
        """See Store."""
        return self._store.open()

    def load(self, ids: list[int], keys: list[str]) -> Answer[Loaded]:
        """See Store."""
        return self._store.load(ids, keys)

    def commit(self, changes: Changes) -> Answer[None]:
        """See Store; on a full disk it fires once there is room, and never after `close`."""
        try:
            committed = self._store.commit(changes)
        except DiskFullError as error:
            return self._wait_for_room(changes, error)
        if committed is not None:
            return committed.addErrback(self._no_room, changes)
        return None

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Answer[Page]:
        """See Store."""
        return self._store.scan(low, high, limit, bytes_max)

    def make_durable(self) -> Deferred[int]:
        """See Store."""
        return self._store.make_durable()

    def close(self) -> Deferred[None]:
        """See Store."""
        self._give_up()
        return self._store.close()

    def destroy(self) -> Deferred[None]:
        """See Store."""
        self._give_up()
        return self._store.destroy()

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """See SnapshotStore."""
        return self._store.export(chunk_bytes)

    def begin_import(self) -> Import:
        """See SnapshotStore."""
        return self._store.begin_import()

    def _no_room(self, failure: Failure, changes: Changes) -> Deferred[None]:
        failure.trap(DiskFullError)
        return self._wait_for_room(changes, failure.value)

    def _wait_for_room(self, changes: Changes, error: BaseException | None) -> Deferred[None]:
        self._log.error("{error}; trying again every {seconds} s", error=error, seconds=RETRY_SECONDS)
        room: Deferred[None] = Deferred()
        self._retry_call = self._clock.callLater(RETRY_SECONDS, room.callback, None)
        return room.addCallback(lambda _: self._retry(changes))

    def _retry(self, changes: Changes) -> Answer[None]:
        self._retry_call = None
        return self.commit(changes)

    def _give_up(self) -> None:
        if self._retry_call is not None:
            self._retry_call.cancel()
            self._retry_call = None
