"""What store_bench measures: our two stores under the state machine, and their engines asked without them.

All take the same rows in batches, and answer the same reads. With PostgreSQL all wait for a round trip per question;
commits are not waited for on the disk, as they are not with SQLite.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from txpostgres import txpostgres

from dbnode.apply import apply_items
from dbnode.machine import Machine, command_from_bytes
from dbnode.schema import Schema
from dbnode.store import SnapshotStore
from dbnode.wire import Batch, OpenSession, Row, Write

STUDENTS = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))


def rows(count: int) -> list[Row]:
    """Return rows with distinct ids in a random order that is the same each time."""
    ids = random.Random(7).sample(range(count), count)
    return [(id_, f"student number {id_}", id_ % 100) for id_ in ids]


def batched(items: list[Row], size: int) -> Iterator[list[Row]]:
    """Yield runs of `size` items."""
    iterator = iter(items)
    while run := list(itertools.islice(iterator, size)):
        yield run


class Subject(Protocol):
    """Something that stores rows."""

    async def open(self) -> None:
        """Make ready, with an empty table."""

    async def write(self, items: list[Row], size: int) -> float:
        """Return the seconds that it takes to store rows, `size` in a transaction."""

    async def read(self, low: int, high: int) -> None:
        """Read a range."""

    async def close(self) -> None:
        """Let go of everything."""


class Ours:
    """A machine over a store: entries as a balancer's coalesced requests are, from their bytes to the transaction."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._machine = Machine()

    async def open(self) -> None:
        """See Subject."""
        opened = self._store.open()
        self._machine.restore(await opened if isinstance(opened, Deferred) else opened)
        await self._apply(1, OpenSession("session", 0))

    async def write(self, items: list[Row], size: int) -> float:
        """See Subject."""
        entries = []
        for sequence, run in enumerate(batched(items, size), start=1):
            operations = tuple(Write((row,)) for row in run)
            batch = Batch("session", sequence, max(0, sequence - 8), sequence, operations)
            entries.append((sequence + 1, msgspec.msgpack.encode(batch)))
        start = perf_counter()
        for index, data in entries:
            await self._apply(index, command_from_bytes(STUDENTS, data))
        return perf_counter() - start

    async def read(self, low: int, high: int) -> None:
        """See Subject."""
        page = self._store.scan(low, high, 0, 1 << 20)
        if isinstance(page, Deferred):
            await page

    async def close(self) -> None:
        """See Subject."""
        await self._store.close()

    async def _apply(self, index: int, command: Any) -> None:
        applied = apply_items(self._machine, self._store, [(index, command)])
        if isinstance(applied, Deferred):
            await applied


class RawSqlite:
    """sqlite3 with the same settings and no questions asked: it inserts rows and updates one counter."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    async def open(self) -> None:
        """See Subject."""
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, c1, c2)",
            "CREATE TABLE state (applied_index INTEGER)",
            "INSERT INTO state VALUES (0)",
        ):
            self._connection.execute(statement)

    async def write(self, items: list[Row], size: int) -> float:
        """See Subject."""
        runs = list(batched(items, size))
        start = perf_counter()
        for index, run in enumerate(runs):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", run)
            self._connection.execute("UPDATE state SET applied_index = ?", (index,))
            self._connection.execute("COMMIT")
        return perf_counter() - start

    async def read(self, low: int, high: int) -> None:
        """See Subject."""
        self._connection.execute("SELECT * FROM rows WHERE id BETWEEN ? AND ? ORDER BY id", (low, high)).fetchall()

    async def close(self) -> None:
        """See Subject."""
        self._connection.close()


class RawPostgres:
    """txpostgres as its own documentation has it: an interaction for each transaction, a query for each read."""

    def __init__(self, reactor: Any, parameters: dict[str, str]) -> None:
        self._connection = txpostgres.Connection(reactor)
        self._parameters = parameters

    async def open(self) -> None:
        """See Subject."""
        await self._connection.connect(**self._parameters)
        for statement in (
            "SET synchronous_commit = off",
            "DROP SCHEMA IF EXISTS alone CASCADE",
            "CREATE SCHEMA alone",
            "SET search_path = alone",
            "CREATE TABLE rows (id bigint PRIMARY KEY, c1 text, c2 text)",
            "CREATE TABLE state (applied_index bigint)",
            "INSERT INTO state VALUES (0)",
        ):
            await self._connection.runOperation(statement)

    async def write(self, items: list[Row], size: int) -> float:
        """See Subject."""
        runs = list(batched(items, size))
        start = perf_counter()
        for index, run in enumerate(runs):
            await self._connection.runInteraction(self._insert, index, run)
        return perf_counter() - start

    def _insert(self, cursor: Any, index: int, run: list[Row]) -> Deferred[Any]:
        insert = "INSERT INTO rows VALUES " + ", ".join(["(%s, %s, %s)"] * len(run))
        inserted: Deferred[Any] = cursor.execute(insert, [value for row in run for value in row])
        return inserted.addCallback(lambda _: cursor.execute("UPDATE state SET applied_index = %s", (index,)))

    async def read(self, low: int, high: int) -> None:
        """See Subject."""
        await self._connection.runQuery("SELECT * FROM rows WHERE id BETWEEN %s AND %s ORDER BY id", (low, high))

    async def close(self) -> None:
        """See Subject."""
        self._connection.close()
