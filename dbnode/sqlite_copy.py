"""Copies of a shard's file: going out from a read transaction, and coming in to a file beside it.

Both run in a thread, a chunk at a time, on connections of their own. An import is complete and synced before it takes
the store's place by a rename, so a crash finds the old file or the new one; what an import left unfinished is removed
when the store is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock

from dbnode.changes import Image
from dbnode.snapshot import SnapshotReader, chunks
from dbnode.sqlite_file import Statements, connect, explained, sync_file
from dbnode.store import RunInThread, StoreError


class SqliteExport:
    """An Export from a read transaction, which lasts until `close`; so long the write-ahead log cannot begin anew."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        statements: Statements,
        chunk_bytes: int,
        run_in_thread: RunInThread,
        ended: Callable[[SqliteExport], None],
    ) -> None:
        content = statements.content(connection)
        self.applied_index = content.position.applied_index
        self._path = path
        self._connection: sqlite3.Connection | None = connection
        self._chunks: Iterator[bytes] = chunks(content, chunk_bytes)
        self._run_in_thread = run_in_thread
        self._ended = ended
        self._lock = DeferredLock()

    def next_chunk(self) -> Deferred[bytes | None]:
        """Return the next chunk; StoreError if the store was closed meanwhile."""
        return self._lock.run(self._run_in_thread, self._next)

    def close(self) -> Deferred[None]:
        """End the transaction."""
        return self._lock.run(self._run_in_thread, self._close).addCallback(lambda _: self._ended(self))

    def _next(self) -> bytes | None:
        if self._connection is None:
            raise StoreError(f"{self._path}: the copy was ended")
        try:
            return next(self._chunks, None)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _close(self) -> None:
        if self._connection is not None:
            # Its cursors would go on reading, and keep the write-ahead log from beginning anew.
            self._chunks = iter(())
            self._connection.close()
            self._connection = None


def begin_export(
    path: Path,
    statements: Statements,
    chunk_bytes: int,
    run_in_thread: RunInThread,
    ended: Callable[[SqliteExport], None],
) -> SqliteExport:
    """Open a connection and begin its transaction. Called in a thread."""
    try:
        connection = connect(path)
        connection.execute("BEGIN")
        return SqliteExport(path, connection, statements, chunk_bytes, run_in_thread, ended)
    except sqlite3.Error as error:
        raise explained(error, path) from error


class SqliteImport:
    """An Import into the file `path`, which belongs to it alone and which `swap` puts in the store's place."""

    def __init__(
        self,
        path: Path,
        statements: Statements,
        reader: SnapshotReader,
        run_in_thread: RunInThread,
        swap: Callable[[Path], Deferred[Image]],
    ) -> None:
        self._path = path
        self._statements = statements
        self._reader = reader
        self._run_in_thread = run_in_thread
        self._swap = swap
        self._connection: sqlite3.Connection | None = None
        #: `abort` may be called while a chunk is being written.
        self._lock = DeferredLock()

    def write(self, chunk: bytes) -> Deferred[None]:
        """Take the next chunk."""
        return self._lock.run(self._run_in_thread, lambda: self._write(chunk))

    def finish(self) -> Deferred[Image]:
        """Complete the file and swap it in."""
        return self._lock.run(self._run_in_thread, self._complete).addCallback(lambda _: self._swap(self._path))

    def abort(self) -> Deferred[None]:
        """Remove the file."""
        return self._lock.run(self._run_in_thread, self._remove)

    def _write(self, chunk: bytes) -> None:
        changes = self._reader.read(chunk)
        try:
            if self._connection is None:
                self._connection = self._create()
            self._statements.write(self._connection, changes)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _create(self) -> sqlite3.Connection:
        """Begin a new file in one long transaction without a journal: it counts only once it is complete."""
        self._path.unlink(missing_ok=True)
        connection = connect(self._path)
        connection.execute("PRAGMA synchronous = OFF")
        self._statements.prepare(connection, self._path, "OFF")
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _complete(self) -> None:
        self._reader.check_complete()
        assert self._connection is not None
        try:
            self._connection.execute("COMMIT")
            self._connection.close()
            sync_file(self._path)
        except (sqlite3.Error, OSError) as error:
            raise explained(error, self._path) from error

    def _remove(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._path.unlink(missing_ok=True)
