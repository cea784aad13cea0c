"""A shard's store in one SQLite file.

Small reads and commits are made on the spot: they take less time than a thread takes to wake up. Long scans, large
commits, checkpoints, syncs and copies run in a thread, on connections of their own; with SQLite's write-ahead log
(WAL) readers and the writer go on side by side.

The WAL is not synced per commit (synchronous = NORMAL): a power cut takes its tail, which the Raft log replays.
`make_durable` syncs the WAL itself: SQLite syncs the database before it reuses the WAL, so whatever a commit wrote is
in the one or the other (SQLite, "Write-Ahead Logging", §2.3). SQLite puts no lock on the WAL file, so opening and
closing it here drops none, as it would on the database file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.changes import Changes, Image, Loaded, Page, Position
from dbnode.schema import Schema
from dbnode.snapshot import SnapshotReader
from dbnode.sqlite_copy import SqliteExport, SqliteImport, begin_export
from dbnode.sqlite_file import Statements, connect, explained, sync_directory, sync_file
from dbnode.store import Answer, DiskFailedError, Export, Import, RunInThread, StoreError, WrongFileError

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode

#: Rows that a scan may return and still be made on the spot: one or two milliseconds. The same scan in a thread takes a
#: busy process ten times as long and holds up its reactor, since the two pass the interpreter to and fro for each row.
ROWS_INLINE_MAX = 2048
#: Rows that a commit may change and still be made on the spot: a few milliseconds, far from a heartbeat's interval.
CHANGES_INLINE_MAX = 2048
#: The same for the bytes of these rows, as MessagePack, and of those that they may replace, by the table's average.
CHANGES_INLINE_BYTES_MAX = 512 << 10
#: The WAL is carried over into the database when it is longer, and begins anew in the same file: to write over what has
#: blocks on the disk and pages in memory already costs less than to make a file grow.
WAL_BYTES_MAX = 16 << 20
#: An average over fewer rows than this would tell more of the rest of the file.
ROWS_MEASURED_MIN = 1024
#: Commits between two looks at the lengths of the WAL and of rows.
COMMITS_PER_LOOK = 64

#: Tells the files of imports apart: one that was given up may be removed when the next one is under way already, and
#: so may the last one of a replica that was destroyed when its shard has another replica here.
_import_numbers = count(1)


class SqliteStore:
    """A SnapshotStore in the file `path`, whose directory must exist."""

    def __init__(self, path: Path, schema: Schema, run_in_thread: RunInThread) -> None:
        self._path = path
        self._wal_path = path.with_name(path.name + "-wal")
        self._schema = schema
        self._run_in_thread = run_in_thread
        self._statements = Statements(schema)
        self._connection: sqlite3.Connection | None = None
        #: The thread's connection, opened when first needed and used under the lock only.
        self._thread_connection: sqlite3.Connection | None = None
        self._lock = DeferredLock()
        self._exports: set[SqliteExport] = set()
        self._position = Position()
        self._commits_to_look = COMMITS_PER_LOOK
        #: The average length of a row, when it was last looked at.
        self._row_bytes = 0
        self._wal_bytes_next = WAL_BYTES_MAX
        self._checkpointing = False
        #: The WAL is about to begin anew, for which there must be no writer: commits queue behind it in the thread.
        self._finishing = False
        self._destroyed = False
        #: Set for good: nothing may build on a disk of unknown content.
        self._failed: DiskFailedError | None = None

    def open(self) -> Image:
        """Open or create the file, and return what the machine needs."""
        try:
            for left in self._imports():
                left.unlink(missing_ok=True)
            self._connection = connect(self._path, WAL_BYTES_MAX)
            self._statements.prepare(self._connection, self._path, "WAL")
            image = self._statements.image(self._connection)
            self._position = image.position
            self._measure_rows(self._connection)
        except (sqlite3.Error, OSError) as error:
            raise explained(error, self._path) from error
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise WrongFileError(f"{self._path} is damaged: {error}") from error
        return image

    def load(self, ids: list[int], keys: list[str]) -> Answer[Loaded]:
        """Return those that exist, on the spot if they are few."""
        if self._are_many(len(ids)):
            return self._in_thread(lambda connection: self._statements.load(connection, ids, keys))
        try:
            return self._statements.load(self._opened(), ids, keys)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def commit(self, changes: Changes) -> Answer[None]:
        """Make the changes, on the spot if they are few."""
        if self._failed is not None:
            raise self._failed
        if self._finishing or self._is_long(changes):
            later = self._in_thread(lambda connection: self._statements.commit(connection, changes))
            return later.addCallback(lambda _: self._committed(changes, look=True))
        try:
            self._statements.commit(self._opened(), changes)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        self._committed(changes)
        return None

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Answer[Page]:
        """Return a page, on the spot if it can only be small."""
        rows_max = min(high - low + 1, self._position.row_count, limit or self._position.row_count)
        if rows_max > ROWS_INLINE_MAX:
            return self._in_thread(lambda connection: self._statements.scan(connection, low, high, limit, bytes_max))
        try:
            return self._statements.scan(self._opened(), low, high, limit, bytes_max)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def make_durable(self) -> Deferred[int]:
        """Sync the WAL. After a failed sync every commit fails for good."""
        applied_index = self._position.applied_index
        return self._in_thread(lambda _: self._sync_wal()).addCallback(lambda _: applied_index)

    def close(self) -> Deferred[None]:
        """End the exports, wait for the thread, and close the file; SQLite empties the WAL by that."""
        ended = gatherResults([export.close() for export in list(self._exports)], consumeErrors=True)
        return ended.addCallback(lambda _: self._lock.run(self._run_in_thread, self._close_connections))

    def destroy(self) -> Deferred[None]:
        """Close, and remove the files; an import that is about to take their place does not any more."""
        self._destroyed = True
        return self.close().addCallback(lambda _: self._run_in_thread(self._remove_files))

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a copy from a read transaction of its own."""
        return self._lock.run(self._run_in_thread, lambda: self._begin_export(chunk_bytes)).addCallback(self._exporting)

    def begin_import(self) -> Import:
        """Begin to fill a new file beside the store's."""
        reader = SnapshotReader(self._schema)
        path = self._path.with_name(f"{self._path.name}.import{next(_import_numbers)}")
        return SqliteImport(path, self._statements, reader, self._run_in_thread, self._swap)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self._path} is closed, or another replica's copy is taking its place")
        return self._connection

    def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        return self._lock.run(self._run_in_thread, lambda: self._with_thread_connection(work))

    def _with_thread_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._opened()
        try:
            if self._thread_connection is None:
                self._thread_connection = connect(self._path, WAL_BYTES_MAX)
            return work(self._thread_connection)
        except (sqlite3.Error, OSError) as error:
            failed = explained(error, self._path)
            if isinstance(failed, DiskFailedError):
                self._failed = failed
            raise failed from error

    def _committed(self, changes: Changes, *, look: bool = False) -> None:
        self._position = changes.position
        self._commits_to_look -= 1
        if look or self._commits_to_look <= 0:
            self._commits_to_look = COMMITS_PER_LOOK
            if self._connection is not None:
                self._measure_rows(self._connection)
            if os.stat(self._wal_path).st_size > self._wal_bytes_next and not self._checkpointing:
                in_background(Deferred.fromCoroutine(self._checkpoint()), "a checkpoint")

    def _measure_rows(self, connection: sqlite3.Connection) -> None:
        self._row_bytes = self._statements.used_bytes(connection) // max(self._position.row_count, ROWS_MEASURED_MIN)

    def _are_many(self, rows: int) -> bool:
        return rows > CHANGES_INLINE_MAX or rows * self._row_bytes > CHANGES_INLINE_BYTES_MAX

    def _is_long(self, changes: Changes) -> bool:
        if self._are_many(len(changes.upserts) + len(changes.deletes)):
            return True
        return len(_encode(changes.upserts)) > CHANGES_INLINE_BYTES_MAX

    # ---- the WAL ----------------------------------------------------------------------------------------------

    async def _checkpoint(self) -> None:
        """Carry the WAL over while commits go on, then hold them for the short rest, so that the next begins it anew.

        Without the second step a busy writer would always be ahead, and the WAL would grow without end.
        """
        self._checkpointing = True
        begins_anew = False
        try:
            await self._in_thread(lambda connection: _run_checkpoint(connection, "PASSIVE"))
            self._finishing = True
            begins_anew = await self._in_thread(lambda connection: _run_checkpoint(connection, "RESTART"))
        finally:
            self._checkpointing = self._finishing = False
            # A long export keeps the WAL; look again when it has grown by as much.
            self._wal_bytes_next = WAL_BYTES_MAX if begins_anew else self._wal_bytes_next + WAL_BYTES_MAX

    def _sync_wal(self) -> None:
        if self._wal_path.exists():
            sync_file(self._wal_path)
        sync_directory(self._path.parent)

    # ---- closing and replacing ----------------------------------------------------------------------------------

    def _close_connections(self) -> None:
        for connection in (self._thread_connection, self._connection):
            if connection is not None:
                connection.close()
        self._thread_connection = self._connection = None

    def _remove_files(self) -> None:
        shared_memory = self._path.with_name(self._path.name + "-shm")
        for path in (self._wal_path, shared_memory, *self._imports(), self._path):
            path.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def _imports(self) -> list[Path]:
        """Return the files of imports, at work or left by a crash."""
        return list(self._path.parent.glob(f"{self._path.name}.import*"))

    def _begin_export(self, chunk_bytes: int) -> SqliteExport:
        return begin_export(self._path, self._statements, chunk_bytes, self._run_in_thread, self._exports.discard)

    def _exporting(self, export: SqliteExport) -> Export:
        self._exports.add(export)
        return export

    def _swap(self, imported: Path) -> Deferred[Image]:
        closed = self.close().addCallback(lambda _: self._run_in_thread(lambda: self._replace_file(imported)))
        return closed.addBoth(self._reopen)

    def _replace_file(self, imported: Path) -> None:
        self._check_not_destroyed()
        # SQLite would play a WAL left by the old file into the new one. After a clean close there is none.
        if self._wal_path.exists():
            raise StoreError(f"{self._wal_path} could not be emptied; the copy cannot take the store's place")
        os.replace(imported, self._path)
        sync_directory(self._path.parent)

    def _check_not_destroyed(self) -> None:
        if self._destroyed:
            raise StoreError(f"{self._path} was destroyed meanwhile")

    def _reopen(self, replaced: Failure | None) -> Image:
        self._check_not_destroyed()
        image = self.open()
        if replaced is not None:
            replaced.raiseException()
        return image


def _run_checkpoint(connection: sqlite3.Connection, mode: str) -> bool:
    busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return not busy
