"""Engines beside one another: what one holds, another one takes over, and equal logs make equal stores of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute

from dbnode.changes import Changes, Image, KeyRecord, Position, SessionMark
from dbnode.digest import rows_digest
from dbnode.memory import MemoryStore
from dbnode.schema import Schema
from dbnode.sqlite import SqliteStore
from dbnode.store import Answer, SnapshotStore
from dbnode.test.postgres_rig import PostgresCase, waited
from dbnode.test.properties import same_each_time
from dbnode.test.test_exactly_once import TABLE, Replica, logs
from dbnode.wire import Done, NotFound, Stored

CHUNK_BYTES = 300

KINDS = Schema(("id", "a", "b"), ("Number", "String", "Float"))
CONTENT = Changes(
    Position(9, 70, 100),
    upserts=[(id_, [True, None, 2.0, -0.0, 2, "2", 1e300][id_ % 7], "ä|\n" * (id_ % 9)) for id_ in range(100)],
    sessions={"a": SessionMark(4, 0, -3), "B": SessionMark(5, 0, 10)},
    results={("a", 1): (Stored(2), NotFound()), ("a", 2): (), ("B", 1): ()},
    keys={"k": KeyRecord(b"1", Stored(1), 500), "K": KeyRecord(b"\xff\x00", Done(), 600)},
)


def answered(answer: Answer[Any]) -> Any:
    """Return what a store answers, at once or after a while."""
    return waited(answer) if isinstance(answer, Deferred) else answer


class Engines(PostgresCase):
    def setUp(self) -> None:
        """Choose a directory for files."""
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.made = 0

    def opened(self, engine: str) -> SnapshotStore:
        """Return an empty store, which is open."""
        self.made += 1
        store: SnapshotStore = MemoryStore(KINDS)
        if engine == "sqlite":
            store = SqliteStore(self.directory / f"{self.made}.sqlite", KINDS, execute)
        elif engine == "postgres":
            store = self.new_store_at(self.new_place(), KINDS)
        answered(store.open())
        return store

    def digest(self, store: SnapshotStore) -> str:
        """Return what replicas compare."""
        return waited(Deferred.fromCoroutine(rows_digest(store))).digest

    def copied(self, source: SnapshotStore, target: SnapshotStore) -> Image:
        """Have one store take over what another one holds."""
        export = waited(source.export(CHUNK_BYTES))
        incoming = target.begin_import()
        while (chunk := waited(export.next_chunk())) is not None:
            waited(incoming.write(chunk))
        waited(export.close())
        return waited(incoming.finish())

    def test_copies_go_between_engines(self) -> None:
        """Each engine takes over a copy of each other one, whole, and has its digest then."""
        digests = set()
        for one, other in product(("memory", "sqlite", "postgres"), repeat=2):
            source, target = self.opened(one), self.opened(other)
            answered(source.commit(CONTENT))

            image = self.copied(source, target)

            self.assertEqual(
                (image.position, image.sessions, image.results), (CONTENT.position, CONTENT.sessions, CONTENT.results)
            )
            self.assertEqual(answered(target.load([3], ["k", "K"])).keys, CONTENT.keys)
            digests |= {self.digest(source), self.digest(target)}

        self.assertEqual(len(digests), 1)

    def test_equal_logs_make_equal_stores(self) -> None:
        """PostgreSQL gives a log's commands the outcomes that memory gives them, and ends with the same."""

        @settings(same_each_time, max_examples=15)
        @given(logs(), st.integers(1, 8))
        def check(log: list[Any], group_size: int) -> None:
            in_memory = Replica(MemoryStore(TABLE))
            store = self.new_store_at(self.place, TABLE)
            in_postgres = Replica(store, answered)

            outcomes = in_postgres.feed(log, group_size)

            self.assertEqual(outcomes, in_memory.feed(log, 1))
            self.assertEqual(repr(in_postgres.rows()), repr(in_memory.rows()))
            self.assertEqual(in_postgres.machine.image(), in_memory.machine.image())
            waited(store.close())
            again = self.new_store_at(self.place, TABLE)
            self.assertEqual(waited(again.open()), in_memory.machine.image())
            waited(again.destroy())

        check()
