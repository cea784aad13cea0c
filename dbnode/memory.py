"""A store in memory, for tests and simulations: same behaviour as a real one, with a disk that can be lost.

What `make_durable` has not yet reached can be lost by `crash`, whole transactions at a time and from the end, as a
power cut takes the unsynced tail of a real store's log.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from dbnode.changes import Changes, Image, KeyRecord, Loaded, Page, Position, Results, SessionMark
from dbnode.paging import take_page
from dbnode.schema import Schema
from dbnode.snapshot import Content, SnapshotReader, chunks
from dbnode.store import Export, Import
from dbnode.wire import Row


class _Contents:
    """Everything that a store keeps, and what a transaction does to it."""

    def __init__(self) -> None:
        self.position = Position()
        self.rows: dict[int, Row] = {}
        self.sessions: dict[str, SessionMark] = {}
        self.results: dict[tuple[str, int], Results] = {}
        #: In the order in which they expire.
        self.keys: dict[str, KeyRecord] = {}

    def copy(self) -> _Contents:
        new = _Contents()
        new.position = self.position
        new.rows = dict(self.rows)
        new.sessions = dict(self.sessions)
        new.results = dict(self.results)
        new.keys = dict(self.keys)
        return new

    def apply(self, changes: Changes) -> None:
        self.position = changes.position
        self.rows.update({row[0]: row for row in changes.upserts})
        for id_ in changes.deletes:
            self.rows.pop(id_, None)
        for name in changes.closed:
            self.sessions.pop(name, None)
        self.sessions.update(changes.sessions)
        touched = changes.closed | changes.sessions.keys()
        for name, sequence in [known for known in self.results if known[0] in touched]:
            if name in changes.closed or sequence <= changes.sessions[name].acknowledged:
                del self.results[name, sequence]
        self.results.update(changes.results)
        self._apply_keys(changes.keys)

    def _apply_keys(self, keys: dict[str, KeyRecord]) -> None:
        for key, record in keys.items():
            self.keys.pop(key, None)
            self.keys[key] = record
        while self.keys:
            oldest = next(iter(self.keys))
            if self.keys[oldest].expires_ms > self.position.clock_ms:
                break
            del self.keys[oldest]

    def content(self, schema: Schema) -> Content:
        return Content(
            schema,
            self.position,
            (self.rows[id_] for id_ in sorted(self.rows)),
            iter(sorted(self.sessions.items())),
            ((*known, self.results[known]) for known in sorted(self.results)),
            iter(self.keys.items()),
        )


class MemoryStore:
    """A SnapshotStore in memory. Everything is answered at once."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._live = _Contents()
        self._durable = _Contents()
        self._pending: list[Changes] = []
        self._order: list[int] | None = None

    def open(self) -> Image:
        """Return what the machine needs."""
        return Image(self._live.position, dict(self._live.sessions), dict(self._live.results))

    def load(self, ids: list[int], keys: list[str]) -> Loaded:
        """Return those that exist."""
        rows, records = self._live.rows, self._live.keys
        return Loaded(
            {id_: rows[id_] for id_ in ids if id_ in rows}, {key: records[key] for key in keys if key in records}
        )

    def commit(self, changes: Changes) -> None:
        """Make the changes; they are lost by the next crash until `make_durable`."""
        self._live.apply(changes)
        self._pending.append(changes)
        if changes.upserts or changes.deletes:
            self._order = None

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Page:
        """Return a page of rows low..high."""
        if self._order is None:
            self._order = sorted(self._live.rows)
        start = bisect_left(self._order, low)
        found = (self._live.rows[id_] for id_ in islice(self._order, start, None) if id_ <= high)
        return take_page(found, limit, bytes_max)

    def make_durable(self) -> Deferred[int]:
        """Keep what is committed over a crash."""
        for changes in self._pending:
            self._durable.apply(changes)
        self._pending = []
        return succeed(self._durable.position.applied_index)

    def close(self) -> Deferred[None]:
        """Do nothing: the content stays for the next `open`."""
        return succeed(None)

    def destroy(self) -> Deferred[None]:
        """Forget everything."""
        self._replace(_Contents())
        return succeed(None)

    def crash(self, commits_kept: int = 0) -> None:
        """Lose what is not durable, except the first `commits_kept` transactions of it."""
        self._pending = self._pending[:commits_kept]
        self._live = self._durable.copy()
        for changes in self._pending:
            self._live.apply(changes)
        self._order = None

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a copy of what is committed now."""
        content = self._live.copy().content(self._schema)
        return succeed(_MemoryExport(content.position.applied_index, chunks(content, chunk_bytes)))

    def begin_import(self) -> Import:
        """Begin to replace the content."""
        return _MemoryImport(SnapshotReader(self._schema), self._replace)

    def _replace(self, contents: _Contents) -> Image:
        self._durable, self._pending = contents, []
        self.crash()
        return self.open()


class _MemoryExport:
    """An Export over a copy."""

    def __init__(self, applied_index: int, stream: Iterator[bytes]) -> None:
        self.applied_index = applied_index
        self._stream = stream

    def next_chunk(self) -> Deferred[bytes | None]:
        return succeed(next(self._stream, None))

    def close(self) -> Deferred[None]:
        self._stream = iter(())
        return succeed(None)


class _MemoryImport:
    """An Import into contents of its own."""

    def __init__(self, reader: SnapshotReader, replace: Callable[[_Contents], Image]) -> None:
        self._reader = reader
        self._replace = replace
        self._contents = _Contents()

    def write(self, chunk: bytes) -> Deferred[None]:
        return maybeDeferred(lambda: self._contents.apply(self._reader.read(chunk)))

    def finish(self) -> Deferred[Image]:
        return maybeDeferred(self._finish)

    def abort(self) -> Deferred[None]:
        return succeed(None)

    def _finish(self) -> Image:
        self._reader.check_complete()
        return self._replace(self._contents)
