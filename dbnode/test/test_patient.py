"""A store that waits for room."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.changes import Changes, Position
from dbnode.memory import MemoryStore
from dbnode.patient import PatientStore
from dbnode.sqlite import SqliteStore
from dbnode.store import DiskFullError, SnapshotStore, StoreError
from dbnode.test.test_store import STUDENTS, StoreSuite, wrote


class PatientSuiteTests(StoreSuite, SynchronousTestCase):
    """With room enough it is the store below it."""

    def setUp(self) -> None:
        """Make the store below."""
        self.below = MemoryStore(STUDENTS)

    def new_store(self) -> SnapshotStore:
        """Return a patient store on it."""
        return PatientStore(self.below, Clock())


class FullDiskTests(SynchronousTestCase):
    """SQLite with a limit of its own in place of a full disk: the same error at the same place."""

    def setUp(self) -> None:
        """Open a store that has room for a few pages only."""
        self.clock = Clock()
        path = Path(self.mktemp())
        self.sqlite = SqliteStore(path, STUDENTS, execute)
        self.store = PatientStore(self.sqlite, self.clock)
        self.store.open()
        self.limit_pages(1)

    def limit_pages(self, count: int) -> None:
        """Let the file have so many pages; it keeps those that it has."""
        assert self.sqlite._connection is not None
        self.sqlite._connection.execute(f"PRAGMA max_page_count = {count}")

    def commit(self, rows: int) -> Deferred[None]:
        """Commit rows that need more pages than there are; the commit must wait."""
        large = [(id_, "x" * 1000, None) for id_ in range(rows)]
        committed = self.store.commit(wrote(1, *large, row_count=rows))
        assert isinstance(committed, Deferred)
        return committed

    def test_commit_waits_for_room(self) -> None:
        """A commit without room changes nothing and is made once there is room, not before."""
        committed = self.commit(100)

        self.clock.pump([1] * 5)
        self.assertNoResult(committed)
        self.assertEqual(self.store.scan(0, 999, 0, 0).rows, [])  # type: ignore[union-attr]
        self.limit_pages(1_000_000)
        self.clock.advance(1)

        self.successResultOf(committed)
        self.assertEqual(self.store.load([99], []).rows, {99: (99, "x" * 1000, None)})  # type: ignore[union-attr]

    def test_large_commit_in_the_thread_waits_too(self) -> None:
        """A commit that fails later than at once is waited for as well."""
        committed = self.commit(3000)

        self.limit_pages(1_000_000)
        self.clock.advance(1)

        self.successResultOf(committed)

    def test_closing_ends_the_waiting(self) -> None:
        """A store that is closed tries no more, and what waited never fires."""
        committed = self.commit(100)

        self.successResultOf(self.store.close())

        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNoResult(committed)

    def test_other_errors_are_not_waited_for(self) -> None:
        """Only a full disk gets better by itself."""

        class Broken(MemoryStore):
            def commit(self, changes: Changes) -> None:
                raise StoreError("broken")

        store = PatientStore(Broken(STUDENTS), self.clock)

        self.assertRaises(StoreError, store.commit, Changes(Position(1)))
        self.assertFalse(issubclass(StoreError, DiskFullError))
