"""The file of one shard in SQLite: its format, its connections, and the statements that read and write it.

Columns have no declared type, so SQLite converts nothing and the kind of a JSON value survives (SQLite, "Datatypes",
§3.1: affinity BLOB). A boolean, for which SQLite has no kind, is a blob of one byte; no other blobs occur in rows.
The user's column names stand in the state as JSON; in SQL a column is called by its place.

Nothing here knows of Twisted: a connection is used by one thread at a time, and sqlite3's errors pass through.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dbnode.changes import Changes, Image, KeyRecord, Loaded, Page, Position, Results, SessionMark
from dbnode.paging import take_page
from dbnode.schema import Schema
from dbnode.snapshot import Content
from dbnode.store import DiskFailedError, DiskFullError, StoreError, WrongFileError
from dbnode.wire import Row

#: "SHLB" in the file's header (SQLite, "Database File Format", §1.3.17) tells our files from others'.
APPLICATION_ID = 0x53484C42
#: Kept as user_version. A release reads its own format; it refuses a newer one.
FORMAT = 1
#: How long a connection waits for another's lock: for a foreign program's, since a store's own never meet, or, while
#: commits are held, for a copy's to let the write-ahead log begin anew, which can as well be done later.
LOCK_TIMEOUT_SECONDS = 0.05
#: Expired idempotency keys removed per new one; more than 1, so that removal keeps up.
EXPIRED_PER_KEY = 4

# What changes with every commit is kept close together: each page that a commit touches costs about as much as a row.
# In `state` a session's row has sequence 0, its results have theirs, and the position stands before all.
_CREATE = (
    "CREATE TABLE about (columns TEXT NOT NULL)",
    "CREATE TABLE state (session TEXT NOT NULL, sequence INTEGER NOT NULL, data BLOB NOT NULL,"
    " PRIMARY KEY (session, sequence)) WITHOUT ROWID",
    "CREATE TABLE keys (key TEXT PRIMARY KEY, record BLOB NOT NULL, expires_ms INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX keys_by_expiry ON keys (expires_ms)",
)
_POSITION = ("", -1)
_BOOLEANS: dict[object, bool | bytes] = {False: b"\0", True: b"\1", b"\0": False, b"\1": True}

_encode = msgspec.msgpack.Encoder().encode
_encode_ids = msgspec.json.Encoder().encode
_decode_position = msgspec.msgpack.Decoder(Position).decode
_decode_mark = msgspec.msgpack.Decoder(SessionMark).decode
_decode_results = msgspec.msgpack.Decoder(Results).decode
_decode_record = msgspec.msgpack.Decoder(KeyRecord).decode


def connect(path: Path, wal_bytes_kept: int = 0) -> sqlite3.Connection:
    """Return a connection that any one thread at a time may use; transactions are begun by hand.

    When the write-ahead log begins anew `wal_bytes_kept` of its file stay, to be written over.
    """
    connection = sqlite3.connect(
        path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {wal_bytes_kept}")
    return connection


def explained(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """Return what a failure means for the store."""
    if isinstance(error, OSError):
        return DiskFailedError(f"{path}: {error}")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return WrongFileError(f"{path} is damaged or not a shard of shardlb: {error}")
    if code == sqlite3.SQLITE_IOERR:
        return DiskFailedError(f"{path}: {error}")
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(f"{path}: {error}")
    return StoreError(f"{path}: {error}")


def sync_directory(directory: Path) -> None:
    """Make creations, renames and removals in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make what was written to a file durable, by whatever descriptor it was written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Statements:
    """What is read from and written to a shard's file whose table has the schema's columns."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        places = range(1, len(schema.columns))
        self._create_rows = f"CREATE TABLE rows ({', '.join(['id INTEGER PRIMARY KEY', *(f'c{n}' for n in places)])})"
        self._upsert = f"INSERT OR REPLACE INTO rows VALUES ({', '.join('?' * len(schema.columns))})"

    # ---- opening ----------------------------------------------------------------------------------------------

    def prepare(self, connection: sqlite3.Connection, path: Path, journal_mode: str) -> None:
        """Create the tables in a new file, or check that the file is one of ours and of this table.

        `journal_mode` is set only on files that are ours.
        """
        application_id = _number(connection, "PRAGMA application_id")
        tables = _number(connection, "SELECT count(*) FROM sqlite_schema")
        if application_id == 0 and tables == 0:
            connection.execute(f"PRAGMA journal_mode = {journal_mode}")
            self._create(connection)
            return
        if application_id != APPLICATION_ID:
            raise WrongFileError(f"{path} is a database of another program, not a shard of shardlb")
        version = _number(connection, "PRAGMA user_version")
        if version != FORMAT:
            raise WrongFileError(f"{path} has format {version}; this release reads {FORMAT}")
        columns = connection.execute("SELECT columns FROM about").fetchone()[0]
        if columns != self._columns_text():
            raise WrongFileError(f"{path} holds a table of {columns}, not of {self._columns_text()}")
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")

    def used_bytes(self, connection: sqlite3.Connection) -> int:
        """Return how much of the file is in use, which is mostly by rows."""
        pages = _number(connection, "PRAGMA page_count") - _number(connection, "PRAGMA freelist_count")
        return pages * _number(connection, "PRAGMA page_size")

    def image(self, connection: sqlite3.Connection) -> Image:
        """Read what a machine keeps in memory."""
        results = {(name, sequence): found for name, sequence, found in _results(connection)}
        return Image(_position(connection), dict(_sessions(connection)), results)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in (*_CREATE, self._create_rows, f"PRAGMA user_version = {FORMAT}"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("INSERT INTO about VALUES (?)", (self._columns_text(),))
        connection.execute("INSERT INTO state VALUES (?, ?, ?)", (*_POSITION, _encode(Position())))
        connection.execute("COMMIT")

    def _columns_text(self) -> str:
        return msgspec.json.encode(self._schema.to_json()).decode()

    # ---- reading ----------------------------------------------------------------------------------------------

    def load(self, connection: sqlite3.Connection, ids: list[int], keys: list[str]) -> Loaded:
        """Return those of the rows and keys that exist."""
        if len(ids) == 1:
            found = connection.execute("SELECT * FROM rows WHERE id = ?", ids)
        else:
            # One statement for any number of ids: it is prepared once and then found in the cache.
            listed = (_encode_ids(ids).decode(),)
            found = connection.execute("SELECT * FROM rows WHERE id IN (SELECT value FROM json_each(?))", listed)
        records = {}
        for key in keys:
            for (record,) in connection.execute("SELECT record FROM keys WHERE key = ?", (key,)):
                records[key] = _decode_record(record)
        return Loaded({row[0]: row for row in _rows_out(found.fetchall())}, records)

    def scan(self, connection: sqlite3.Connection, low: int, high: int, limit: int, bytes_max: int) -> Page:
        """Return a page of rows."""
        if low == high:
            return Page(_rows_out(connection.execute("SELECT * FROM rows WHERE id = ?", (low,)).fetchall()), None)
        cursor = connection.execute(
            "SELECT * FROM rows WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?", (low, high, limit + 1 if limit else -1)
        )
        page = take_page(cursor, limit, bytes_max)
        cursor.close()  # an unfinished statement would hold its read transaction open
        return Page(_rows_out(page.rows), page.next)

    def content(self, connection: sqlite3.Connection) -> Content:
        """Return everything, as of the transaction that the connection is in."""
        cursor = connection.execute("SELECT * FROM rows ORDER BY id")
        rows = (row if bytes not in map(type, row) else _replaced(row, bytes) for row in cursor)
        keys = ((key, _decode_record(record)) for key, record in connection.execute("SELECT key, record FROM keys"))
        return Content(self._schema, _position(connection), rows, _sessions(connection), _results(connection), keys)

    # ---- writing ----------------------------------------------------------------------------------------------

    def commit(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Make the changes in one transaction."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            self.write(connection, changes)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def write(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Make the changes in the transaction that the connection is in."""
        if changes.upserts:
            connection.executemany(self._upsert, _rows_in(changes.upserts))
        if changes.deletes:
            connection.executemany("DELETE FROM rows WHERE id = ?", [(id_,) for id_ in changes.deletes])
        if changes.closed:
            connection.executemany("DELETE FROM state WHERE session = ?", [(name,) for name in changes.closed])
        if changes.keys:
            _write_keys(connection, changes.keys, changes.position.clock_ms)
        _write_state(connection, changes)


def _write_state(connection: sqlite3.Connection, changes: Changes) -> None:
    state = [(*_POSITION, _encode(changes.position))]
    for name, mark in changes.sessions.items():
        state.append((name, 0, _encode(mark)))
        connection.execute(
            "DELETE FROM state WHERE session = ? AND sequence BETWEEN 1 AND ?", (name, mark.acknowledged)
        )
    for (name, sequence), found in changes.results.items():
        state.append((name, sequence, _encode(found)))
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", state)


def _write_keys(connection: sqlite3.Connection, keys: dict[str, KeyRecord], clock_ms: int) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO keys VALUES (?, ?, ?)",
        [(key, _encode(record), record.expires_ms) for key, record in keys.items()],
    )
    connection.execute(
        "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?)",
        (clock_ms, EXPIRED_PER_KEY * len(keys)),
    )


def _position(connection: sqlite3.Connection) -> Position:
    query = "SELECT data FROM state WHERE session = ? AND sequence = ?"
    return _decode_position(connection.execute(query, _POSITION).fetchone()[0])


def _sessions(connection: sqlite3.Connection) -> Iterator[tuple[str, SessionMark]]:
    for name, data in connection.execute("SELECT session, data FROM state WHERE sequence = 0 ORDER BY session"):
        yield name, _decode_mark(data)


def _results(connection: sqlite3.Connection) -> Iterator[tuple[str, int, Results]]:
    for name, sequence, data in connection.execute("SELECT * FROM state WHERE sequence > 0 ORDER BY session, sequence"):
        yield name, sequence, _decode_results(data)


def _rows_in(rows: list[Row]) -> list[Row]:
    return [row if bool not in map(type, row) else _replaced(row, bool) for row in rows]


def _rows_out(rows: list[Row]) -> list[Row]:
    return [row if bytes not in map(type, row) else _replaced(row, bytes) for row in rows]


def _replaced(row: Row, kind: type) -> Row:
    return tuple([_BOOLEANS[value] if type(value) is kind else value for value in row])


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
