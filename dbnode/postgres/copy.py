"""Copies of a replica's tables: going out from a repeatable-read transaction, and coming in to a schema beside them.

Each has a connection of its own. An export declares cursors and fetches a chunk at a time; sizes are fetched ahead of
rows, so that long rows never come in numbers. (psycopg2 has cursors with names only where it may block.) An import is
one transaction, waited for on the disk; then it takes the store's place by a change of names, in one transaction again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed

from dbnode.changes import Image, Position
from dbnode.postgres.connection import Connect, Connection
from dbnode.postgres.place import Place
from dbnode.postgres.settings import SETTINGS
from dbnode.postgres.statements import Query, Statements, records_from_sql, results_from_sql, sessions_from_sql
from dbnode.schema import Schema
from dbnode.snapshot import SnapshotReader, SnapshotWriter
from dbnode.store import RunInThread, StoreError, StoreUnavailable

#: Sizes of rows fetched at a time.
_SIZES_PER_FETCH = 8192
#: Sessions, results or keys fetched at a time; each is some hundred bytes.
_ITEMS_PER_FETCH = 1024


class PostgresExport:
    """An Export from a transaction of its own, which lasts until `close`; `begin` comes first."""

    def __init__(
        self,
        connection: Connection,
        statements: Statements,
        schema: Schema,
        chunk_bytes: int,
        run_in_thread: RunInThread,
        ended: Callable[[PostgresExport], None],
    ) -> None:
        self.applied_index = 0
        self._connection = connection
        self._statements = statements
        self._writer = SnapshotWriter(schema, chunk_bytes)
        self._chunk_bytes = chunk_bytes
        self._run_in_thread = run_in_thread
        self._ended = ended
        self._made: deque[bytes] = deque()
        self._sizes: deque[int] = deque()
        #: What is still to be copied; each makes some chunks and tells whether there is nothing more of its kind.
        self._parts: deque[Callable[[], Awaitable[bool]]] = deque(
            [self._copy_rows, self._copy_sessions, self._copy_results, self._copy_keys, self._copy_end]
        )

    async def begin(self) -> None:
        """Begin the transaction: what is committed later is not in the copy."""
        run = self._connection.run
        await run((SETTINGS, ()))
        # No sorting: that would read everything before the first row, and keep it.
        await run(("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_sort = off", ()))
        [position] = await run(self._statements.position())
        await run((self._statements.cursors(), ()))
        self.applied_index = position[0]
        self._made.append(self._writer.header(Position(*position)))

    def next_chunk(self) -> Deferred[bytes | None]:
        """Return the next chunk; StoreUnavailable if the connection was lost or closed meanwhile."""
        return Deferred.fromCoroutine(self._next_chunk())

    def close(self) -> Deferred[None]:
        """End the transaction."""
        self._connection.close()
        self._ended(self)
        return succeed(None)

    async def _next_chunk(self) -> bytes | None:
        while not self._made and self._parts:
            if await self._parts[0]():
                self._parts.popleft()
        return self._made.popleft() if self._made else None

    async def _fetch(self, cursor: str, count: int) -> list[tuple[Any, ...]]:
        return await self._connection.run((f"FETCH {count:d} FROM {cursor}", ()))

    async def _copy_rows(self) -> bool:
        if not self._sizes:
            self._sizes.extend(size for (size,) in await self._fetch("sizes", _SIZES_PER_FETCH))
        count = size = 0
        while self._sizes and size < self._chunk_bytes:
            size += self._sizes.popleft()
            count += 1
        if not count:
            return True
        found = await self._fetch("rows", count)
        self._made.extend(await self._run_in_thread(lambda: self._rows_chunks(found)))
        return False

    def _rows_chunks(self, found: list[tuple[Any, ...]]) -> list[bytes]:
        return list(self._writer.rows(self._statements.columns.from_sql(found)))

    async def _copy_sessions(self) -> bool:
        return self._take(self._writer.sessions(sessions_from_sql(await self._fetch("sessions", _ITEMS_PER_FETCH))))

    async def _copy_results(self) -> bool:
        return self._take(self._writer.results(results_from_sql(await self._fetch("results", _ITEMS_PER_FETCH))))

    async def _copy_keys(self) -> bool:
        return self._take(self._writer.keys(records_from_sql(await self._fetch("keys", _ITEMS_PER_FETCH))))

    async def _copy_end(self) -> bool:
        self._made.append(self._writer.end())
        return True

    def _take(self, chunks: Iterator[bytes]) -> bool:
        before = len(self._made)
        self._made.extend(chunks)
        return len(self._made) == before


class PostgresImport:
    """An Import into the schema `namespace`, which belongs to it alone.

    `swap` puts it in the store's place, `drop` removes it.
    """

    def __init__(
        self,
        connect: Connect,
        place: Place,
        namespace: str,
        schema: Schema,
        *,
        run_in_thread: RunInThread,
        swap: Callable[[str, Position], Deferred[Image]],
        drop: Callable[[str], Deferred[None]],
        ended: Callable[[PostgresImport], None],
    ) -> None:
        self._connect = connect
        self._place = place
        self._namespace = namespace
        self._statements = Statements(schema, namespace)
        self._reader = SnapshotReader(schema)
        self._run_in_thread = run_in_thread
        self._swap = swap
        self._drop = drop
        self._ended = ended
        self._connection: Connection | None = None
        self._applied_index = 0
        self._stored = False
        self._given_up = False
        self._lock = DeferredLock()

    def write(self, chunk: bytes) -> Deferred[None]:
        """Take the next chunk; the last one is on the disk once this fires."""
        return self._lock.run(lambda: Deferred.fromCoroutine(self._write(chunk)))

    def finish(self) -> Deferred[Image]:
        """Swap the copy in."""
        return self._lock.run(lambda: Deferred.fromCoroutine(self._finish()))

    def abort(self) -> Deferred[None]:
        """End the transaction, and remove what it has stored."""
        self.end()
        return self._lock.run(lambda: Deferred.fromCoroutine(self._remove()))

    def end(self) -> None:
        """Let go of the connection now; what is in flight fails."""
        self._given_up = True
        self._hang_up()
        self._ended(self)

    async def _write(self, chunk: bytes) -> None:
        query = await self._run_in_thread(lambda: self._query(chunk))
        connection = self._connection
        if connection is None:
            connection = await self._begin()
        await connection.run(query)
        if self._reader.is_complete:
            await connection.run(("SET LOCAL synchronous_commit = on; COMMIT", ()))
            self._stored = True
            self._hang_up()

    def _query(self, chunk: bytes) -> Query:
        changes = self._reader.read(chunk)
        applied_before, self._applied_index = self._applied_index, changes.position.applied_index
        return self._statements.write(changes, applied_before)

    async def _begin(self) -> Connection:
        self._check_wanted()
        connection = await self._connect(self._place.parameters)
        self._connection = connection
        self._check_wanted()
        await connection.run((SETTINGS + " BEGIN", ()))
        await connection.run(self._statements.create())
        await connection.run((self._statements.prepare_writes(), ()))
        return connection

    def _check_wanted(self) -> None:
        if self._given_up:
            self._hang_up()
            raise StoreUnavailable(f"the import {self._namespace} was given up")

    async def _finish(self) -> Image:
        self._reader.check_complete()
        self._check_wanted()
        image = await self._swap(self._namespace, self._reader.position)
        self._ended(self)
        return image

    async def _remove(self) -> None:
        if self._stored:
            try:
                await self._drop(self._namespace)
            except StoreError:
                # The store is closed; what is left is cleared away when it is opened.
                return

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
