"""What every store does, whatever its engine: one suite, run for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dbnode.changes import Changes, Image, KeyRecord, Position, SessionMark
from dbnode.digest import rows_digest
from dbnode.memory import MemoryStore
from dbnode.postgres.store import PostgresStore
from dbnode.schema import INT64_MAX, INT64_MIN, Schema
from dbnode.snapshot import SnapshotError
from dbnode.sqlite import SqliteStore
from dbnode.store import Answer, SnapshotStore
from dbnode.test.postgres_rig import PostgresCase, turned, waited
from dbnode.test.properties import VALUES, same_each_time
from dbnode.wire import Done, NotFound, Row, Stored

if TYPE_CHECKING:
    Case = SynchronousTestCase
else:
    Case = object

T = TypeVar("T")

STUDENTS = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))


def wrote(index: int, *rows: Row, row_count: int = 0) -> Changes:
    """Return a transaction that stores rows."""
    return Changes(Position(index, 0, row_count), upserts=list(rows))


class StoreSuite(Case):
    """Needs `new_store`, which returns a store on the same content each time it is called within one test."""

    #: Examples of a property, as many as take a second or two.
    examples = 100

    def new_store(self) -> SnapshotStore:
        """Return a store that is not open."""
        raise NotImplementedError

    def value(self, answer: Answer[T]) -> T:
        """Return what a store answered, at once or with a Deferred that has fired."""
        return self.fired(answer) if isinstance(answer, Deferred) else answer

    def fired(self, deferred: Deferred[T]) -> T:
        """Return the result of a Deferred that must have fired."""
        result: T = self.successResultOf(deferred)
        return result

    def assert_refused(self, deferred: Deferred[Any], kind: type[Exception]) -> None:
        """Check that a Deferred has failed so."""
        self.failureResultOf(deferred, kind)

    def opened(self, *commits: Changes) -> SnapshotStore:
        """Return an open store after some commits."""
        store = self.new_store()
        self.value(store.open())
        for changes in commits:
            self.value(store.commit(changes))
        return store

    def reopened(self, store: SnapshotStore) -> tuple[SnapshotStore, Image]:
        """Return another store on the content of one that is closed."""
        self.fired(store.close())
        again = self.new_store()
        return again, self.value(again.open())

    def all_rows(self, store: SnapshotStore) -> list[Row]:
        """Return what the store has."""
        return self.value(store.scan(INT64_MIN, INT64_MAX, 0, 0)).rows

    def copied(self, store: SnapshotStore, chunk_bytes: int) -> list[bytes]:
        """Return all chunks of a copy."""
        export = self.fired(store.export(chunk_bytes))
        chunks = []
        while (chunk := self.fired(export.next_chunk())) is not None:
            chunks.append(chunk)
        self.fired(export.close())
        return chunks

    # ---- rows -------------------------------------------------------------------------------------------------

    def test_new_store_is_empty(self) -> None:
        """A store that nobody wrote to is at position 0 and has no rows."""
        store = self.new_store()

        image = self.value(store.open())

        self.assertEqual(image, Image(Position(0, 0, 0), {}, {}))
        self.assertEqual(self.all_rows(store), [])

    def test_rows_come_back(self) -> None:
        """What was committed is there, also after closing; an id that is not there is just missing."""
        store = self.opened(wrote(1, (1, "a", 2), (0, "b", None), row_count=2))

        store, image = self.reopened(store)

        self.assertEqual(image.position, Position(1, 0, 2))
        self.assertEqual(self.value(store.load([1, 5], [])).rows, {1: (1, "a", 2)})
        self.assertEqual(self.value(store.load([5], [])).rows, {})
        self.assertEqual(self.value(store.load([0], [])).rows, {0: (0, "b", None)})

    def test_rows_are_replaced_and_removed(self) -> None:
        """A stored row takes the place of the one with its id; removing an absent one does nothing."""
        store = self.opened(wrote(1, (1, "a", 2), (2, "b", 3)))

        self.value(store.commit(Changes(Position(2), upserts=[(1, "A", 5)], deletes=[2, 9])))

        self.assertEqual(self.all_rows(store), [(1, "A", 5)])

    def test_ends_of_64_bits(self) -> None:
        """The least and the greatest id are ordinary ids."""
        store = self.opened(wrote(1, (INT64_MIN, "low", 0), (INT64_MAX, "high", 0)))

        self.assertEqual([row[0] for row in self.all_rows(store)], [INT64_MIN, INT64_MAX])
        page = self.value(store.scan(INT64_MAX, INT64_MAX, 1, 1))
        self.assertEqual((page.rows, page.next), ([(INT64_MAX, "high", 0)], None))

    def test_many_rows_in_one_transaction(self) -> None:
        """A transaction of thousands of rows is one transaction like others."""
        rows = [(id_, f"name {id_}", id_ % 2 == 0) for id_ in range(5000)]
        store = self.opened(wrote(1, *rows, row_count=5000))

        self.value(store.commit(Changes(Position(2, 0, 0), deletes=list(range(1, 5000)))))

        self.assertEqual(self.all_rows(store), [(0, "name 0", True)])

    def test_values_keep_their_kind(self) -> None:
        """Every string, integer, double, boolean and null comes back as it went in, to the sign of a zero."""

        @settings(same_each_time, max_examples=self.examples)
        @given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=8))
        def check(values: list[tuple[Any, Any]]) -> None:
            rows = [(id_, *pair) for id_, pair in enumerate(values)]
            store = self.opened(wrote(1, *rows, row_count=len(rows)))

            found = self.value(store.load(list(range(len(rows))), [])).rows

            self.assertEqual([repr(found[row[0]]) for row in rows], [repr(row) for row in rows])
            self.assertEqual(repr(self.all_rows(store)), repr(rows))
            self.fired(store.destroy())

        check()

    # ---- pages ------------------------------------------------------------------------------------------------

    def test_scan_is_by_id_and_inclusive(self) -> None:
        """A range includes both of its ends and comes in order of id."""
        store = self.opened(wrote(1, *((id_, "x", 0) for id_ in (7, 3, 5, 1, 9)), row_count=5))

        page = self.value(store.scan(3, 7, 0, 0))

        self.assertEqual(([row[0] for row in page.rows], page.next), ([3, 5, 7], None))
        self.assertEqual(self.value(store.scan(4, 4, 0, 0)).rows, [])

    def test_limit_of_rows(self) -> None:
        """A page stops at its limit and names the id to go on from, unless nothing is left."""
        store = self.opened(wrote(1, *((id_, "x", 0) for id_ in range(0, 400, 2)), row_count=200))

        for limit in (1, 127, 128, 129, 199):
            page = self.value(store.scan(0, 1000, limit, 0))
            self.assertEqual((len(page.rows), page.next), (limit, limit * 2))
        for limit in (200, 201):
            page = self.value(store.scan(0, 1000, limit, 0))
            self.assertEqual((len(page.rows), page.next), (200, None))

    def test_limit_of_bytes(self) -> None:
        """Pages cut by bytes hold at least a row, never much more than asked, and together the whole range."""
        rows = [(id_, "x" * 1000, 0) for id_ in range(0, 2100, 3)]
        store = self.opened(wrote(1, *rows, row_count=700))

        found: list[Row] = []
        low: int | None = 0
        while low is not None:
            page = self.value(store.scan(low, 2100, 0, 100_000))
            self.assertTrue(0 < len(page.rows) <= 256)
            self.assertEqual(page.rows[0][0], low)
            found += page.rows
            low = page.next

        self.assertEqual(found, rows)

    def test_limit_of_bytes_holds_for_long_rows(self) -> None:
        """A page ends with the row that fills it, also where long rows follow many short ones."""
        short = [(id_, "x", 0) for id_ in range(4000)]
        long = [(id_, "y" * 100_000, 0) for id_ in range(4000, 4160)]
        store = self.opened(wrote(1, *short, row_count=4000), wrote(2, *long, row_count=4160))

        inline = self.value(store.scan(3900, 4159, 0, 250_000))
        in_thread = self.value(store.scan(0, 4159, 0, 250_000))
        from_long = self.value(store.scan(4000, 4159, 0, 250_000))

        self.assertEqual((len(inline.rows), inline.next), (103, 4003))
        self.assertEqual((len(in_thread.rows), in_thread.next), (4003, 4003))
        self.assertEqual((len(from_long.rows), from_long.next), (3, 4003))

    # ---- state beside the rows --------------------------------------------------------------------------------

    def test_sessions_and_results(self) -> None:
        """Sessions and results come back; acknowledged results go, and all go with their session."""
        first = Changes(
            Position(5, 70, 0),
            sessions={"a": SessionMark(4, 0, -3), "b": SessionMark(5, 0, 10)},
            results={("a", 1): (Stored(2), NotFound()), ("a", 2): (Done(),), ("b", 1): ()},
        )
        second = Changes(
            Position(6, 71, 0), closed={"b"}, sessions={"a": SessionMark(6, 1, -3)}, results={("a", 3): ()}
        )
        store = self.opened(first, second)

        store, image = self.reopened(store)

        self.assertEqual(image.position, Position(6, 71, 0))
        self.assertEqual(image.sessions, {"a": SessionMark(6, 1, -3)})
        self.assertEqual(image.results, {("a", 2): (Done(),), ("a", 3): ()})

    def test_session_closed_and_opened_in_one_transaction(self) -> None:
        """A name that is forgotten and opened again begins without results."""
        store = self.opened(
            Changes(Position(1), sessions={"a": SessionMark(1, 0, 0)}, results={("a", 7): ()}),
            Changes(Position(2), closed={"a"}, sessions={"a": SessionMark(2, 0, 0)}, results={("a", 1): ()}),
        )

        _, image = self.reopened(store)

        self.assertEqual(image.results, {("a", 1): ()})

    def test_keys_go_once_expired(self) -> None:
        """Idempotency keys are found until they expire, and expired ones are removed as new ones come."""
        old, new = KeyRecord(b"1", Stored(1), 50), KeyRecord(b"2", Done(), 90)
        store = self.opened(Changes(Position(1, 10), keys={"old": old, "kept": new}))
        self.assertEqual(self.value(store.load([], ["old", "none"])).keys, {"old": old})

        self.value(store.commit(Changes(Position(2, 60), keys={"new": new})))

        self.assertEqual(self.value(store.load([], ["old", "new", "kept"])).keys, {"new": new, "kept": new})

    def test_key_used_again(self) -> None:
        """A later record under the same key takes the place of the earlier one, and expires later."""
        first, again = KeyRecord(b"1", Stored(1), 50), KeyRecord(b"2", Done(), 150)
        store = self.opened(
            Changes(Position(1, 10), keys={"k": first}),
            Changes(Position(2, 60), keys={"k": again}),
            Changes(Position(3, 100), keys={"other": again}),
        )

        self.assertEqual(self.value(store.load([], ["k"])).keys, {"k": again})

    def test_durable_index(self) -> None:
        """make_durable answers with an index up to which everything is on disk."""
        store = self.opened(wrote(1, (1, "a", 1)), wrote(2, (2, "b", 2)))

        self.assertEqual(self.fired(store.make_durable()), 2)

    # ---- copies -----------------------------------------------------------------------------------------------

    def filled(self) -> SnapshotStore:
        """Return a store with something of everything."""
        return self.opened(
            Changes(
                Position(9, 70, 500),
                upserts=[(id_, "name" * (id_ % 7), [True, None, 2.0, 2, "2"][id_ % 5]) for id_ in range(500)],
                sessions={"a": SessionMark(4, 0, -3), "b": SessionMark(5, 0, 10)},
                results={("a", 1): (Stored(2), NotFound()), ("b", 1): ()},
                keys={"k": KeyRecord(b"1", Stored(1), 500)},
            )
        )

    def test_copy_replaces_everything(self) -> None:
        """An imported copy takes the place of rows, sessions, results, keys and position; it survives closing."""
        source = self.filled()
        rows, chunks = self.all_rows(source), self.copied(source, 500)
        self.value(source.commit(Changes(Position(10), upserts=[(7777, "later", 0)], closed={"a"})))

        incoming = source.begin_import()
        for chunk in chunks:
            self.fired(incoming.write(chunk))
        image = self.fired(incoming.finish())

        self.assertEqual(self.all_rows(source), rows)
        store, reopened = self.reopened(source)
        self.assertEqual(reopened, image)
        self.assertEqual(image.position, Position(9, 70, 500))
        self.assertEqual(image.sessions, {"a": SessionMark(4, 0, -3), "b": SessionMark(5, 0, 10)})
        self.assertEqual(image.results, {("a", 1): (Stored(2), NotFound()), ("b", 1): ()})
        self.assertEqual(self.value(store.load([], ["k"])).keys, {"k": KeyRecord(b"1", Stored(1), 500)})
        self.assertEqual(self.all_rows(store), rows)

    def test_copy_is_of_one_moment(self) -> None:
        """Commits during a copy go through and are not in it; chunks are about as long as asked."""
        store = self.filled()
        export = self.fired(store.export(1000))
        chunks = [self.fired(export.next_chunk())]

        self.value(store.commit(Changes(Position(10, 70, 0), deletes=list(range(500)))))
        while chunks[-1] is not None:
            chunks.append(self.fired(export.next_chunk()))
        self.fired(export.close())

        self.assertEqual(export.applied_index, 9)
        self.assertGreater(len(chunks), 10)
        self.assertLess(max(len(chunk) for chunk in chunks if chunk), 1100)
        self.assertIn(b"name" * 6, b"".join(chunk for chunk in chunks if chunk))

    def test_incomplete_copy_changes_nothing(self) -> None:
        """A copy that ends early is refused, and one that is given up leaves the store as it was."""
        store = self.filled()
        chunks, rows = self.copied(store, 500), self.all_rows(store)

        incoming = store.begin_import()
        for chunk in chunks[:-1]:
            self.fired(incoming.write(chunk))
        self.assert_refused(incoming.finish(), SnapshotError)
        self.fired(incoming.abort())

        self.assertEqual(self.all_rows(store), rows)

    def test_damaged_copy_is_refused(self) -> None:
        """A chunk with another byte in it is refused, at once or at the end."""
        store = self.filled()
        chunks = self.copied(store, 500)
        place = chunks[2].index(b"name")
        chunks[2] = chunks[2][:place] + b"N" + chunks[2][place + 1 :]

        incoming = store.begin_import()
        for chunk in chunks[:-1]:
            self.fired(incoming.write(chunk))

        self.assert_refused(incoming.write(chunks[-1]), SnapshotError)

    def test_digest_is_of_rows_only(self) -> None:
        """Equal rows have equal digests however they came about; another kind of number makes another digest."""
        store = self.opened(wrote(1, (1, "a", 27), (2, "b", 1), row_count=2))
        digest = self.fired(Deferred.fromCoroutine(rows_digest(store)))

        self.value(store.commit(wrote(2, (1, "a", 27.0), row_count=2)))
        other = self.fired(Deferred.fromCoroutine(rows_digest(store)))
        self.value(store.commit(wrote(3, (1, "a", 27), row_count=2)))
        again = self.fired(Deferred.fromCoroutine(rows_digest(store)))

        self.assertNotEqual(digest.digest, other.digest)
        self.assertEqual((digest.digest, digest.applied_index, again.applied_index), (again.digest, 1, 3))
        self.assertEqual(digest.digest, "d9f417d17a2645e7c0f3ac2a22de738a")

    def test_destroyed_store_is_empty(self) -> None:
        """Nothing is left of a destroyed store."""
        store = self.opened(wrote(1, (1, "a", 1)))
        self.fired(store.destroy())

        again = self.new_store()

        self.assertEqual(self.value(again.open()).position, Position())
        self.assertEqual(self.all_rows(again), [])


class InMemory(StoreSuite, SynchronousTestCase):
    def setUp(self) -> None:
        """Make a store."""
        self.store = MemoryStore(STUDENTS)

    def new_store(self) -> MemoryStore:
        """Return the one store, which keeps its content while closed."""
        return self.store

    def test_crash_takes_what_is_not_durable(self) -> None:
        """A crash takes transactions from the end, but none that make_durable reached."""
        store = self.store
        store.commit(wrote(1, (1, "a", 1)))
        self.fired(store.make_durable())
        store.commit(wrote(2, (2, "b", 2)))
        store.commit(wrote(3, (3, "c", 3)))

        store.crash(commits_kept=1)
        self.assertEqual(store.open().position.applied_index, 2)
        self.assertEqual(self.all_rows(store), [(1, "a", 1), (2, "b", 2)])

        store.crash()
        self.assertEqual(self.all_rows(store), [(1, "a", 1)])


class InSqlite(StoreSuite, SynchronousTestCase):
    def setUp(self) -> None:
        """Choose a place for the file."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        self.path = directory / "7.sqlite"

    def new_store(self) -> SqliteStore:
        """Return a store on the file, whose thread is the caller's."""
        return SqliteStore(self.path, STUDENTS, execute)


class InPostgres(StoreSuite, PostgresCase):
    examples = 20

    def new_store(self) -> PostgresStore:
        """Return a store on the tables."""
        return self.new_store_at(self.place, STUDENTS)

    def fired(self, deferred: Deferred[T]) -> T:
        """Return the result of a Deferred that fires soon."""
        return waited(deferred)

    def assert_refused(self, deferred: Deferred[Any], kind: type[Exception]) -> None:
        """Check that a Deferred fails so soon."""
        failure = turned(deferred)
        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, kind)
