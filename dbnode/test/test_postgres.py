"""What is PostgreSQL's own: what plain SQL sees, and what becomes of a store whose PostgreSQL goes away."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from dbnode.changes import Changes, KeyRecord, Loaded, Page, Position, SessionMark
from dbnode.postgres import connection, writer
from dbnode.postgres.statements import PAGE_ROWS_MAX
from dbnode.postgres.store import PostgresStore
from dbnode.schema import INT64_MAX, INT64_MIN, Schema
from dbnode.store import DiskFailedError, StoreError, StoreUnavailable, WrongFileError
from dbnode.test.postgres_rig import PostgresCase, turned, waited
from dbnode.test.properties import VALUES, same_each_time
from dbnode.test.test_store import STUDENTS, wrote
from dbnode.wire import Done, Row

KINDS = Schema(("id", "text", "number", "flag"), ("Number", "String", "Float", "Boolean"))


class InPostgres(PostgresCase):
    def opened(self, schema: Schema = STUDENTS) -> PostgresStore:
        """Return an open store at the place."""
        store = self.new_store_at(self.place, schema)
        waited(store.open())
        return store

    def write(self, store: PostgresStore, index: int, *rows: Row) -> None:
        """Commit rows."""
        waited(store.commit(wrote(index, *rows)))

    def rows(self, store: PostgresStore) -> list[Row]:
        """Return all rows; reads are refused while a connection is made, and then not."""
        while isinstance(page := turned(store.scan(INT64_MIN, INT64_MAX, 0, 0)), Failure):
            page.trap(StoreUnavailable)
            waited(store.load([0], []))
        return page.rows

    def end_connections(self) -> None:
        """End the connections of all stores, as an administrator may."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


class Values(InPostgres):
    def test_plain_sql_sees_plain_columns(self) -> None:
        """Columns have the types of their dtypes; only what does not fit stands in the last column too."""
        store = self.opened(KINDS)

        self.write(store, 1, (1, "a", 2.5, True), (2, 27, "b", None), (3, False, 1e300, 0), (4, None, 7, "c"))

        found = self.sql('SELECT id, "text", "number"::float, flag, exact::text FROM {}."rows" ORDER BY id')
        self.assertEqual(found[0], (1, "a", 2.5, True, None))
        self.assertEqual(found[1], (2, "27", None, None, '{"text":27,"number":"b"}'))
        self.assertEqual(found[2], (3, "false", 1e300, None, '{"text":false,"number":1e300,"flag":0}'))
        self.assertEqual(found[3], (4, None, 7.0, None, '{"flag":"c"}'))
        self.assertEqual(self.sql('SELECT sum("number") FROM {}."rows" WHERE "number" < 10')[0][0], 9.5)

    def test_every_kind_in_every_column(self) -> None:
        """A value comes back with its kind from a column of whatever type, to the sign of a zero."""
        store = self.opened(KINDS)
        index = 0
        limits = [0.0, -0.0, 1e15, 1e16, 9007199254740993.0, 5e-324, -1.7976931348623157e308, INT64_MIN, INT64_MAX]

        def check(values: list[tuple[Any, Any, Any]]) -> None:
            nonlocal index
            index += 1
            rows = [(id_, *three) for id_, three in enumerate(values)]
            self.write(store, index, *rows)
            found = waited(store.load(list(range(len(rows))), [])).rows
            self.assertEqual([repr(found[row[0]]) for row in rows], [repr(row) for row in rows])

        check([(value, value, value) for value in limits])
        strategy = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=30)
        settings(same_each_time, max_examples=60)(given(strategy)(check))()

    def test_names_are_quoted(self) -> None:
        """Names with quotes, of PostgreSQL's own columns, in other cases or too long for it are names like others."""
        long = "x" * 70
        names = ("ID", 'a"; DROP TABLE "rows', "xmin", "exact", "é" * 32, long + "1", long + "2", "id", "%s")
        store = self.opened(Schema(names, ("Number", *["String"] * 8)))
        row = (1, "a", "b", 3, "d", "e", "f", None, "%s")

        self.write(store, 1, row)

        self.assertEqual(self.rows(store), [row])
        self.assertEqual(self.sql('SELECT "column_2", "column_5", "column_6" FROM {}."rows"'), [("b", "e", "f")])

    def test_wide_tables(self) -> None:
        """Of a thousand columns those that fit on a page are columns; the others are kept beside them."""
        width = 1000
        schema = Schema(tuple(f"c{place}" for place in range(width)), ("Number", *["String"] * (width - 1)))
        store = self.opened(schema)
        row = (1, *(f"value number {place} of a row" for place in range(1, width)))

        self.write(store, 1, row, (2, *[None] * (width - 1)), (3, *[7] * (width - 1)))

        self.assertEqual(self.rows(store), [row, (2, *[None] * (width - 1)), (3, *[7] * (width - 1))])

    def test_strings_are_no_sql(self) -> None:
        """Whatever is in a string stays in it."""
        store = self.opened()
        rows = [
            (n, text, text) for n, text in enumerate(["'; DROP TABLE x; --", "\\", "%s %(a)s", "$1", "\x01\u2028'"])
        ]

        self.write(store, 1, *rows)

        self.assertEqual(self.rows(store), rows)


class Pages(InPostgres):
    def test_pages_end_where_much_is_beside_the_columns(self) -> None:
        """Long values that fit no column count as well, and a range goes on behind its page."""
        store = self.opened(KINDS)
        rows = [(id_, None, "y" * 50_000, None) for id_ in range(20)]
        self.write(store, 1, *rows)

        found: list[Row] = []
        low: int | None = 0
        pages = 0
        while low is not None:
            page: Page = waited(store.scan(low, 100, 0, 200_000))
            found += page.rows
            low = page.next
            pages += 1

        self.assertEqual(found, rows)
        self.assertTrue(4 <= pages <= 7, pages)

    def test_many_short_rows(self) -> None:
        """A page with a bound of bytes has a bound of rows too, and the next one goes on there."""
        store = self.opened()
        self.write(store, 1, *[(id_, "x", 0) for id_ in range(PAGE_ROWS_MAX + 5)])

        page = waited(store.scan(0, INT64_MAX, 0, 1 << 30))
        rest = waited(store.scan(PAGE_ROWS_MAX, INT64_MAX, 0, 1 << 30))

        self.assertEqual((len(page.rows), page.next), (PAGE_ROWS_MAX, PAGE_ROWS_MAX))
        self.assertEqual((len(rest.rows), rest.next), (5, None))

    def test_reads_of_ids_go_together(self) -> None:
        """Reads that come while one is under way are answered by one more, each with its own row."""
        store = self.opened()
        self.write(store, 1, *[(id_, "x", id_) for id_ in range(50)])

        waiting = [store.scan(id_, id_, 1, 100) for id_ in [*range(60), 7]]

        pages = [waited(one) for one in waiting]
        self.assertEqual([page.rows for page in pages[:50]], [[(id_, "x", id_)] for id_ in range(50)])
        self.assertEqual([page.rows for page in pages[50:]], [[]] * 10 + [[(7, "x", 7)]])


class Tables(InPostgres):
    def test_other_table_is_refused(self) -> None:
        """A schema with another table's shard is not taken for this one's."""
        waited(self.opened().close())

        failure = turned(self.new_store_at(self.place, KINDS).open())

        assert isinstance(failure, Failure)
        self.assertIn(self.place.namespace, str(failure.value))
        self.assertIsInstance(failure.value, WrongFileError)

    def test_newer_format_is_refused(self) -> None:
        """So are tables of a later release."""
        waited(self.opened().close())
        self.sql("UPDATE {}.about SET format = 2")

        failure = turned(self.new_store_at(self.place, STUDENTS).open())

        assert isinstance(failure, Failure)
        self.assertIn("has format 2; this release reads 1", str(failure.value))

    def test_unreachable_server_is_named(self) -> None:
        """A store that finds no PostgreSQL says where it looked, without the password."""
        self.patch(writer, "OPEN_SECONDS", 0.2)
        elsewhere = {"host": "127.0.0.1", "port": "1", "dbname": "d", "password": "5up3r"}
        self.place = type(self.place)(elsewhere, "x", owns_database=False)

        failure = turned(self.new_store_at(self.place, STUDENTS).open())

        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, StoreUnavailable)
        self.assertIn("127.0.0.1:1, database d", str(failure.value))
        self.assertNotIn("5up3r", str(failure.value))

    def test_a_killed_process_cannot_write_any_more(self) -> None:
        """Whoever opens the tables ends the connection of who wrote there before, whatever it is in the middle of."""
        before = self.opened()
        self.write(before, 1, (1, "a", 1))
        waited(before.close())
        left = self.connected()
        waited(Deferred.fromCoroutine(self.place.enter(left)))
        waited(left.run((f'BEGIN; UPDATE "{self.place.namespace}".position SET applied_index = 9', ())))

        after = self.opened()

        self.write(after, 2, (2, "b", 2))
        self.assertEqual([row[0] for row in self.rows(after)], [1, 2])
        self.assertIsInstance(turned(left.run(("COMMIT", ()))), Failure)

    def test_database_of_its_own(self) -> None:
        """A replica that owns its database makes it, and drops it with itself."""
        name = f"shard_{self.place.namespace}"
        place = type(self.place)({**self.place.parameters, "dbname": name}, "public", owns_database=True)
        store = self.new_store_at(place, STUDENTS)
        waited(store.open())
        self.write(store, 1, (1, "a", 1))
        there = self.sql("SELECT 1 FROM pg_database WHERE datname = %s", name)

        waited(store.destroy())

        self.assertEqual((there, self.sql("SELECT 1 FROM pg_database WHERE datname = %s", name)), ([(1,)], []))


class GoingAway(InPostgres):
    def setUp(self) -> None:
        """Open a store with a row that is on the disk."""
        super().setUp()
        self.store = self.opened()
        self.write(self.store, 1, (1, "a", 1))
        waited(self.store.make_durable())

    def lose(self, index: int) -> None:
        """Set the tables back to an earlier entry, as a crash does with commits that were not waited for."""
        self.sql('DELETE FROM {}."rows" WHERE "Stud_id" > %s; DELETE FROM {}.state; DELETE FROM {}.keys', index)
        self.sql("UPDATE {}.position SET applied_index = %s", index)
        self.end_connections()

    def test_changes_wait_for_another_connection(self) -> None:
        """A commit whose connection has ended is made on the next one, once."""
        self.end_connections()

        self.write(self.store, 2, (2, "b", 2))
        self.write(self.store, 3, (3, "c", 3))

        self.assertEqual([row[0] for row in self.rows(self.store)], [1, 2, 3])
        self.assertEqual(waited(self.store.make_durable()), 3)

    def test_reads_fail_at_once(self) -> None:
        """While there is no connection a read is refused, for a replica elsewhere to answer; then it is not."""
        self.end_connections()
        refused = [turned(self.store.scan(1, 1, 0, 0)), turned(self.store.scan(1, 5, 0, 0))]

        self.assertEqual(
            [type(failure.value) for failure in refused if isinstance(failure, Failure)][-1], StoreUnavailable
        )
        self.assertEqual(self.rows(self.store), [(1, "a", 1)])

    def test_lost_changes_are_made_again(self) -> None:
        """What PostgreSQL has lost with its last commits is there again before anything else is done or read."""
        record = KeyRecord(b"d", Done(), 99)
        mark = SessionMark(2, 0, 0)
        waited(
            self.store.commit(
                Changes(
                    Position(2), upserts=[(2, "b", 2)], sessions={"s": mark}, results={("s", 1): ()}, keys={"k": record}
                )
            )
        )
        self.write(self.store, 3, (3, "c", 3))

        self.lose(1)

        loaded: Loaded = waited(self.store.load([1, 2, 3], ["k"]))
        self.assertEqual((sorted(loaded.rows), loaded.keys), ([1, 2, 3], {"k": record}))
        self.assertEqual([row[0] for row in self.rows(self.store)], [1, 2, 3])
        waited(self.store.close())
        image = waited(self.new_store_at(self.place, STUDENTS).open())
        self.assertEqual((image.position, image.sessions, image.results), (Position(3), {"s": mark}, {("s", 1): ()}))

    def test_lost_in_part(self) -> None:
        """Only what is missing is made again."""
        for index in (2, 3, 4):
            self.write(self.store, index, (index, "x", 0))

        self.lose(3)

        self.write(self.store, 5, (5, "x", 0))
        self.assertEqual([row[0] for row in self.rows(self.store)], [1, 2, 3, 4, 5])

    def test_what_was_durable_must_not_be_lost(self) -> None:
        """A PostgreSQL without what it had on its disk is a failed disk: nothing is committed any more."""
        self.write(self.store, 2, (2, "b", 2))
        waited(self.store.make_durable())

        self.lose(1)

        failure = turned(self.store.commit(wrote(3, (3, "c", 3))))
        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, DiskFailedError)
        self.assertIn("has applied entry 1; it had 2", str(failure.value))

    def test_somebody_else_has_written(self) -> None:
        """A commit that does not follow on the last one is refused as a whole."""
        self.sql("UPDATE {}.position SET applied_index = 7")

        failure = turned(self.store.commit(wrote(2, (2, "b", 2))))

        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, DiskFailedError)
        self.assertEqual(self.sql('SELECT "Stud_id" FROM {}."rows"'), [(1,)])

    def test_commits_are_waited_for_from_time_to_time(self) -> None:
        """What may be lost, and is therefore kept in memory, is bounded."""
        self.patch(writer, "COMMITS_NOT_DURABLE_MAX", 3)
        for index in range(2, 10):
            self.write(self.store, index, (index, "x", 0))
            self.assertLessEqual(len(self.store._writer._since), 3)

    def test_a_silent_server_counts_as_gone(self) -> None:
        """An answer that does not come in time ends the connection; what was asked waits for another one."""
        self.patch(connection, "ANSWER_SECONDS", 0.2)
        other = self.connected()
        waited(other.run((f'BEGIN; LOCK TABLE "{self.place.namespace}"."rows"', ())))

        waiting = self.store.commit(wrote(2, (1, "b", 2)))
        refused = turned(self.store.scan(1, 1, 0, 0))
        other.close()
        waited(waiting)

        assert isinstance(refused, Failure)
        self.assertIsInstance(refused.value, StoreUnavailable)
        self.assertEqual(self.rows(self.store), [(1, "b", 2)])

    def test_away_for_very_long(self) -> None:
        """What waits for PostgreSQL fails in the end, and says for how long it has waited."""
        self.patch(writer, "AWAY_SECONDS_MAX", 0.3)
        self.patch(self.store._writer, "_connect", lambda parameters: fail(StoreUnavailable("nobody there")))
        self.end_connections()

        failure = turned(self.store.commit(wrote(2, (2, "b", 2))))

        assert isinstance(failure, Failure)
        self.assertEqual(str(failure.value), "PostgreSQL has been away for 0.3 s: nobody there")
        self.assertNotIsInstance(failure.value, StoreUnavailable)

    def test_close_ends_the_waiting(self) -> None:
        """A store that is closed while PostgreSQL is away waits for it no more."""
        self.end_connections()
        waiting = self.store.commit(wrote(2, (2, "b", 2)))

        waited(self.store.close())

        failure = turned(waiting)
        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, StoreError)
