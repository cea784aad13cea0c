"""A shard's store in PostgreSQL, on the reactor: everything is answered with a Deferred.

The tables are described in dbnode.postgres.statements, how values become columns in dbnode.postgres.values, and what
happens when PostgreSQL goes away in dbnode.postgres.writer: changes wait until it is back, reads fail at once.
"""

from __future__ import annotations

from itertools import count

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from dbnode.changes import Changes, Image, Loaded, Page, Position
from dbnode.postgres.connection import Connect
from dbnode.postgres.copy import PostgresExport, PostgresImport
from dbnode.postgres.place import Place
from dbnode.postgres.reads import Reads
from dbnode.postgres.statements import Statements
from dbnode.postgres.writer import Writer
from dbnode.schema import Schema
from dbnode.store import Export, Import, RunInThread, StoreError


class PostgresStore:
    """A SnapshotStore in the tables at `place`, which nobody else may change."""

    def __init__(
        self, clock: IReactorTime, connect: Connect, place: Place, schema: Schema, run_in_thread: RunInThread
    ) -> None:
        self._clock = clock
        self._connect = connect
        self._place = place
        self._schema = schema
        self._run_in_thread = run_in_thread
        self._statements = Statements(schema, place.namespace)
        self._writer = Writer(clock, connect, place, self._statements, run_in_thread)
        self._reads = Reads(self._statements, self._writer.reading, run_in_thread)
        self._exports: set[PostgresExport] = set()
        self._imports: set[PostgresImport] = set()
        self._import_numbers = count(1)

    def open(self) -> Deferred[Image]:
        """Connect, create the tables if there are none, and return what the machine needs."""
        return Deferred.fromCoroutine(self._writer.open())

    def load(self, ids: list[int], keys: list[str]) -> Deferred[Loaded]:
        """Return those that exist; waits while PostgreSQL is away."""
        return Deferred.fromCoroutine(self._writer.load(ids, keys))

    def commit(self, changes: Changes) -> Deferred[None]:
        """Make the changes; waits while PostgreSQL is away."""
        return Deferred.fromCoroutine(self._writer.commit(changes))

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Deferred[Page]:
        """Return a page; StoreUnavailable while PostgreSQL is away."""
        return maybeDeferred(self._reads.scan, low, high, limit, bytes_max)

    def make_durable(self) -> Deferred[int]:
        """Have a commit waited for, with which all before it are on the disk."""
        return Deferred.fromCoroutine(self._writer.make_durable())

    def close(self) -> Deferred[None]:
        """End exports, imports and connections; an import that was not finished is gone."""
        self._writer.close()
        for incoming in list(self._imports):
            incoming.end()
        return gatherResults([export.close() for export in list(self._exports)]).addCallback(lambda _: None)

    def destroy(self) -> Deferred[None]:
        """Close, and drop the tables. Fails with StoreUnavailable while PostgreSQL is away."""
        return self.close().addCallback(lambda _: Deferred.fromCoroutine(self._place.drop(self._connect)))

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a copy in a transaction of its own; fails with StoreUnavailable while PostgreSQL is away."""
        return Deferred.fromCoroutine(self._export(chunk_bytes))

    def begin_import(self) -> Import:
        """Begin to fill new tables beside the store's."""
        incoming = PostgresImport(
            self._connect,
            self._place,
            self._place.imported(next(self._import_numbers)),
            self._schema,
            run_in_thread=self._run_in_thread,
            swap=self._swap,
            drop=lambda namespace: Deferred.fromCoroutine(self._writer.drop_import(namespace)),
            ended=self._imports.discard,
        )
        self._imports.add(incoming)
        return incoming

    async def _export(self, chunk_bytes: int) -> Export:
        self._writer.reading()  # only of tables in which everything committed is there again
        connection = await self._connect(self._place.parameters)
        export = PostgresExport(
            connection, self._statements, self._schema, chunk_bytes, self._run_in_thread, self._exports.discard
        )
        self._exports.add(export)
        try:
            await export.begin()
        except StoreError:
            await export.close()
            raise
        return export

    def _swap(self, imported: str, position: Position) -> Deferred[Image]:
        # A copy's transaction would keep the old tables from being dropped.
        ended = gatherResults([export.close() for export in list(self._exports)])
        return ended.addCallback(lambda _: Deferred.fromCoroutine(self._writer.replace_with(imported, position)))
