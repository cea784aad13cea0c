"""A replica of a shard over a store in memory that takes its time and loses power."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from dbnode.changes import Changes, Image, Loaded, Page
from dbnode.memory import MemoryStore
from dbnode.replica import Replica
from dbnode.schema import Schema
from dbnode.store import Answer, Export, Import
from raftlog.messages import Entry
from raftlog.testing.simulation.world import GROUP

TABLE = Schema(("id", "value"), ("Number", "String"))
#: Snapshots go out in pieces of this size at most, so that they have several.
CHUNK_BYTES = 200
#: The longest that a slow store takes for one thing.
STORE_SECONDS_MAX = 0.03


class SlowStore:
    """A SnapshotStore that does everything a little later, as one that works in a thread or in another process.

    What it has not done when its process dies never happens. If `is_slow` is False, applying and reading happen at
    once, as with SQLite, and only the rest takes time.
    """

    def __init__(self, store: MemoryStore, clock: IReactorTime, rng: random.Random, *, is_slow: bool) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._is_slow = is_slow

    def _later(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._clock.callLater(
            self._rng.uniform(0, STORE_SECONDS_MAX), lambda: maybeDeferred(work).addBoth(done.callback)
        )
        return done

    def open(self) -> Image:
        """See Store."""
        return self._store.open()

    def load(self, ids: list[int], keys: list[str]) -> Answer[Loaded]:
        """See Store."""
        if self._is_slow:
            return self._later(lambda: self._store.load(ids, keys))
        return self._store.load(ids, keys)

    def commit(self, changes: Changes) -> Answer[None]:
        """See Store."""
        if self._is_slow:
            return self._later(lambda: self._store.commit(changes))
        self._store.commit(changes)
        return None

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Answer[Page]:
        """See Store."""
        if self._is_slow:
            return self._later(lambda: self._store.scan(low, high, limit, bytes_max))
        return self._store.scan(low, high, limit, bytes_max)

    def make_durable(self) -> Deferred[int]:
        """See Store."""
        return self._later(self._store.make_durable)

    def close(self) -> Deferred[None]:
        """See Store."""
        return self._store.close()

    def destroy(self) -> Deferred[None]:
        """See Store."""
        return self._store.destroy()

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """See SnapshotStore: the copy is that of now, even if it is handed over later."""
        copy = self._store.export(chunk_bytes)
        return self._later(lambda: copy)

    def begin_import(self) -> Import:
        """See SnapshotStore."""
        return _SlowImport(self._store.begin_import(), self._later)


class _SlowImport:
    """An Import whose every step takes time."""

    def __init__(self, content: Import, later: Callable[[Callable[[], Any]], Deferred[Any]]) -> None:
        self._content = content
        self._later = later

    def write(self, chunk: bytes) -> Deferred[None]:
        return self._later(lambda: self._content.write(chunk))

    def finish(self) -> Deferred[Image]:
        return self._later(self._content.finish)

    def abort(self) -> Deferred[None]:
        return self._content.abort()


class ShardMachine:
    """A SimulatedMachine: dbnode's replica in the process that runs, over a store that outlives it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._store = MemoryStore(TABLE)
        self._replica: Replica | None = None

    @property
    def replica(self) -> Replica:
        """The replica in the process that runs, or ran last."""
        assert self._replica is not None
        return self._replica

    def begin(self, clock: IReactorTime) -> None:
        """See SimulatedMachine."""
        store = SlowStore(self._store, clock, self._rng, is_slow=self._rng.random() < 0.5)
        self._replica = Replica(GROUP, 0, "shard", TABLE, store)
        opened = Deferred.fromCoroutine(self._replica.open())
        assert opened.called

    def crash(self, *, power_off: bool) -> None:
        """See SimulatedMachine."""
        if power_off:
            self._store.crash(self._rng.randrange(4))

    def content(self) -> object:
        """See SimulatedMachine: rows, sessions and position."""
        page = self._store.scan(-(1 << 62), 1 << 62, 0, 0)
        return page.rows, self._store.open()

    @property
    def applied_index(self) -> int:
        """See raftlog.statemachine.StateMachine."""
        return self.replica.applied_index

    def apply(self, entries: Sequence[Entry]) -> Sequence[Any] | Deferred[Sequence[Any]]:
        """See raftlog.statemachine.StateMachine."""
        return self.replica.apply(entries)

    def make_durable(self) -> Deferred[int]:
        """See raftlog.statemachine.StateMachine."""
        return self.replica.make_durable()

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """See raftlog.statemachine.StateMachine."""
        return self.replica.export(min(chunk_bytes, CHUNK_BYTES))

    def begin_import(self) -> Import:
        """See raftlog.statemachine.StateMachine."""
        return self.replica.begin_import()
