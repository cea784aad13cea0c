"""What each operation does to rows, and what an idempotency key does to an operation."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dbnode.changes import KeyRecord, Loaded
from dbnode.table import KEY_RETENTION_MS, TableLayer
from dbnode.wire import (
    ON_CONFLICT_IGNORE,
    ON_CONFLICT_REPLACE,
    Delete,
    Done,
    Duplicate,
    IdempotencyKey,
    KeyReused,
    NotFound,
    Operation,
    Stored,
    Update,
    Write,
)


class TableTestCase(SynchronousTestCase):
    """For tests of a table that holds rows 1 and 2."""

    def setUp(self) -> None:
        """Lay a transaction over the rows."""
        self.loaded = Loaded({1: (1, "a"), 2: (2, "b")}, {})
        self.table = TableLayer(self.loaded)

    def results(self, *operations: Operation, clock_ms: int = 0) -> list[Any]:
        """Apply operations in order."""
        return [self.table.apply(operation, clock_ms) for operation in operations]

    def assert_changes(self, upserts: list[Any], deletes: list[int], row_count_change: int) -> None:
        """Check what the transaction comes to, and that it has not touched what was loaded."""
        found_upserts, found_deletes = self.table.changes()
        self.assertEqual((sorted(found_upserts), sorted(found_deletes)), (upserts, deletes))
        self.assertEqual(self.table.row_count_change, row_count_change)
        self.assertEqual(self.loaded, Loaded({1: (1, "a"), 2: (2, "b")}, {}))


class Writes(TableTestCase):
    def test_new_rows_are_stored(self) -> None:
        """Rows with new ids are stored and counted; no rows are stored as 0."""
        self.assertEqual(self.results(Write(((3, "c"), (0, "z"))), Write(())), [Stored(2), Stored(0)])

        self.assert_changes([(0, "z"), (3, "c")], [], 2)

    def test_all_or_nothing(self) -> None:
        """One id that exists keeps all rows out; every such id is named once, in order."""
        results = self.results(Write(((3, "c"), (2, "x"), (1, "y"), (2, "z"))))

        self.assertEqual(results, [Duplicate((2, 1))])
        self.assert_changes([], [], 0)

    def test_twice_in_one_request(self) -> None:
        """An id that stands twice in the request is a duplicate too."""
        self.assertEqual(self.results(Write(((5, "c"), (6, "d"), (5, "c")))), [Duplicate((5,))])

        self.assert_changes([], [], 0)

    def test_sees_earlier_operations(self) -> None:
        """Operations of one transaction see each other's work."""
        results = self.results(Write(((3, "c"),)), Write(((3, "x"),)), Delete(3), Write(((3, "y"),)))

        self.assertEqual(results, [Stored(1), Duplicate((3,)), Done(), Stored(1)])
        self.assert_changes([(3, "y")], [], 1)

    def test_ignore_keeps_the_first(self) -> None:
        """With ignore, rows that exist stay, the first of equal ids wins, and what was stored is counted."""
        results = self.results(Write(((2, "x"), (3, "first"), (3, "second"), (4, "d")), ON_CONFLICT_IGNORE))

        self.assertEqual(results, [Stored(2)])
        self.assert_changes([(3, "first"), (4, "d")], [], 2)

    def test_replace_keeps_the_last(self) -> None:
        """With replace, rows that exist give way, the last of equal ids wins, and each id counts once."""
        results = self.results(Write(((2, "x"), (3, "first"), (3, "second")), ON_CONFLICT_REPLACE))

        self.assertEqual(results, [Stored(2)])
        self.assert_changes([(2, "x"), (3, "second")], [], 1)


class Changes(TableTestCase):
    def test_update(self) -> None:
        """Only the columns given change; updates of one row add up."""
        self.table = TableLayer(Loaded({7: (7, "a", "b", "c")}, {}))

        results = self.results(Update(7, {1: None}), Update(7, {3: 5}), Update(7, {}), Update(8, {1: 1}))

        self.assertEqual(results, [Done(), Done(), Done(), NotFound()])
        self.assertEqual(self.table.changes(), ([(7, None, "b", 5)], []))

    def test_delete(self) -> None:
        """A removed row is gone for the operations after it."""
        results = self.results(Delete(1), Delete(1), Update(1, {1: "x"}), Delete(9))

        self.assertEqual(results, [Done(), NotFound(), NotFound(), NotFound()])
        self.assert_changes([], [1], -1)

    def test_stored_and_removed_at_once(self) -> None:
        """A row that did not exist before nor does after leaves no trace."""
        self.assertEqual(self.results(Write(((3, "c"),)), Delete(3)), [Stored(1), Done()])

        self.assert_changes([], [], 0)


class IdempotencyKeys(TableTestCase):
    KEY = IdempotencyKey("k", b"digest")

    def test_first_outcome_again(self) -> None:
        """The same key and body are applied once, and give the first outcome whatever became of the row since."""
        write = Write(((3, "c"),), idempotency=self.KEY)

        results = self.results(write, Delete(3), write)

        self.assertEqual(results, [Stored(1), Done(), Stored(1)])
        self.assert_changes([], [], 0)

    def test_refusals_are_outcomes(self) -> None:
        """What was refused stays refused under its key, also when it would succeed by now."""
        write = Write(((1, "c"),), idempotency=self.KEY)

        self.assertEqual(self.results(write, Delete(1), write), [Duplicate((1,)), Done(), Duplicate((1,))])

    def test_other_body(self) -> None:
        """The same key with another digest changes nothing."""
        other = Delete(1, IdempotencyKey("k", b"other"))

        self.assertEqual(self.results(Delete(2, self.KEY), other), [Done(), KeyReused()])
        self.assert_changes([], [2], -1)

    def test_known_from_the_store(self) -> None:
        """A key that the store holds counts until it expires, and is new after that."""
        self.table = TableLayer(Loaded({1: (1, "a")}, {"k": KeyRecord(b"digest", NotFound(), 100)}))

        self.assertEqual(self.results(Delete(1, self.KEY), clock_ms=99), [NotFound()])
        self.assertEqual(self.results(Delete(1, self.KEY), clock_ms=100), [Done()])
        self.assertEqual(self.table.recorded, {"k": KeyRecord(b"digest", Done(), 100 + KEY_RETENTION_MS)})
        self.assertEqual(self.results(Delete(1, self.KEY), clock_ms=100), [Done()])

    def test_is_kept_for_a_day(self) -> None:
        """An outcome is kept for 24 hours of the shard's clock."""
        self.results(Delete(1, self.KEY), clock_ms=5)

        self.assertEqual(self.table.recorded["k"].expires_ms, 5 + 24 * 3600 * 1000)
