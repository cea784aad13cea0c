"""What is SQLite's own: its files, its threads, its write-ahead log, and what a crash leaves of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dbnode import sqlite
from dbnode.changes import Loaded, Page, Position
from dbnode.digest import rows_digest
from dbnode.schema import Schema
from dbnode.snapshot import RowsDigest
from dbnode.sqlite import SqliteStore
from dbnode.store import DiskFailedError, RunInThread, StoreError, WrongFileError
from dbnode.test.test_store import STUDENTS, wrote
from dbnode.test.thread_on_call import ThreadOnCall
from dbnode.wire import Row


class SqliteTestCase(SynchronousTestCase):
    """For tests of one file."""

    def setUp(self) -> None:
        """Choose a place for the file."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.path = self.directory / "7.sqlite"

    def loaded(self, store: SqliteStore, ids: list[int]) -> dict[int, Row]:
        """Return those of a few rows that exist."""
        found = store.load(ids, [])
        assert isinstance(found, Loaded)
        return found.rows

    def opened(self, run_in_thread: RunInThread = execute, path: Path | None = None) -> SqliteStore:
        """Return an open store on the file."""
        store = SqliteStore(path or self.path, STUDENTS, run_in_thread)
        store.open()
        return store

    def crash(self) -> Path:
        """Return the path of a copy of the files as a killed process would leave them."""
        copy = Path(self.mktemp())
        shutil.copytree(self.directory, copy)
        return copy / self.path.name


class Files(SqliteTestCase):
    def assert_refused(self, words: str, schema: Schema = STUDENTS) -> None:
        """Check that the file is refused, in words that name it, and left as it is."""
        before = self.path.read_bytes()
        error = self.assertRaises(WrongFileError, SqliteStore(self.path, schema, execute).open)
        self.assertIn(str(self.path), str(error))
        self.assertIn(words, str(error))
        self.assertEqual(self.path.read_bytes(), before)

    def changed(self, statement: str) -> None:
        """Change a good file by hand."""
        self.successResultOf(self.opened().close())
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute(statement)
        connection.close()

    def test_newer_format_is_refused(self) -> None:
        """A file of a later release is not touched."""
        self.changed("PRAGMA user_version = 2")

        self.assert_refused("has format 2; this release reads 1")

    def test_foreign_database_is_refused(self) -> None:
        """A database of another program is not touched."""
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
        connection.close()

        self.assert_refused("a database of another program")

    def test_other_files_are_refused(self) -> None:
        """What is no database at all is not touched."""
        self.path.write_bytes(b"Stud_id,Stud_name\n" * 1000)

        self.assert_refused("is damaged or not a shard")

    def test_damaged_file_is_refused(self) -> None:
        """A file whose first pages are lost is refused with a clear error."""
        self.successResultOf(self.opened().close())
        content = bytearray(self.path.read_bytes())
        content[100:] = bytes(len(content) - 100)
        self.path.write_bytes(content)

        self.assert_refused("is damaged or not a shard")

    def test_damaged_state_is_refused(self) -> None:
        """State that cannot be read is refused in the same way."""
        for state in ("ff", "93a1ff0000", "91" * 100_000):
            self.changed(f"UPDATE state SET data = x'{state}'")

            self.assert_refused("is damaged")
            self.path.unlink()

    def test_other_table_is_refused(self) -> None:
        """A shard of a table with other columns is not taken for this one."""
        self.successResultOf(self.opened().close())

        self.assert_refused('"id"', Schema(("id",), ("Number",)))

    def test_empty_file_is_a_new_store(self) -> None:
        """A crash while the file was created leaves an empty one, which is begun again."""
        self.path.touch()

        self.assertEqual(SqliteStore(self.path, STUDENTS, execute).open().position, Position())

    def test_column_names_never_reach_sql(self) -> None:
        """Any names will do: those of SQL, those that differ in case only, and the attempt to be clever."""
        schema = Schema(("id", "ID", 'x"); DROP TABLE rows; --', "select"), ("int",) * 4)
        store = SqliteStore(self.path, schema, execute)
        store.open()

        store.commit(wrote(1, (1, "a", "b", "c")))

        self.assertEqual(self.loaded(store, [1]), {1: (1, "a", "b", "c")})

    def test_nothing_is_left_after_destroy(self) -> None:
        """All files of a store go, also what an interrupted import left."""
        store = self.opened()
        store.commit(wrote(1, (1, "a", 1)))
        (self.directory / "7.sqlite.import1").touch()

        self.successResultOf(store.destroy())

        self.assertEqual(list(self.directory.iterdir()), [])


class Commits(SqliteTestCase):
    def test_survive_the_death_of_the_process(self) -> None:
        """What is committed is there after kill -9, although nothing was synced or closed."""
        store = self.opened()
        store.commit(wrote(1, (1, "a", 1), row_count=1))

        again = self.opened(path=self.crash())

        self.assertEqual(self.loaded(again, [1]), {1: (1, "a", 1)})

    def test_failed_commit_changes_nothing(self) -> None:
        """A transaction that SQLite refuses in the middle is not there in part, and the store goes on."""
        store = self.opened()
        store.commit(wrote(1, (1, "a", 1)))

        self.assertRaises(StoreError, store.commit, wrote(2, (2, "b", 2), (3, "too", "many", "values")))
        store.commit(wrote(2, (4, "d", 4)))

        self.assertEqual(self.loaded(store, [1, 2, 3, 4]), {1: (1, "a", 1), 4: (4, "d", 4)})

    def test_full_disk(self) -> None:
        """When the file cannot grow the commit fails as a whole, and reads go on."""
        store = self.opened()
        store.commit(wrote(1, (1, "a", 1)))
        store._opened().execute("PRAGMA max_page_count = 12")

        error = self.assertRaises(StoreError, store.commit, wrote(2, (2, "b" * 400_000, 2)))

        self.assertIn("full", str(error))
        self.assertEqual(self.loaded(store, [1, 2]), {1: (1, "a", 1)})

    def test_large_ones_go_to_the_thread(self) -> None:
        """A large commit is made in the thread; until it is in, reads answer at once with what was before."""
        thread = ThreadOnCall()
        store = self.opened(thread)

        committed = store.commit(wrote(1, *((id_, "x", 0) for id_ in range(3000)), row_count=3000))
        assert committed is not None
        self.assertNoResult(committed)
        self.assertEqual(self.loaded(store, [1, 2]), {})
        thread.run()

        self.successResultOf(committed)
        self.assertEqual(self.loaded(store, [1, 2]), {1: (1, "x", 0), 2: (2, "x", 0)})

    def test_long_ones_go_to_the_thread(self) -> None:
        """A commit of a few long rows is made in the thread as well."""
        thread = ThreadOnCall()
        store = self.opened(thread)

        committed = store.commit(wrote(1, *((id_, "x" * 100_000, 0) for id_ in range(10)), row_count=10))
        assert committed is not None
        self.assertNoResult(committed)
        thread.run()

        self.successResultOf(committed)
        self.assertEqual(len(self.loaded(store, list(range(20)))), 10)

    def test_long_ones_are_replaced_in_the_thread(self) -> None:
        """Where rows are long, a few of them are looked up and replaced in the thread, even by short ones."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        store.commit(wrote(1, *((id_, "x" * 200_000, 0) for id_ in range(100)), row_count=100))
        while thread.waiting:
            thread.run()

        loaded = store.load(list(range(50)), [])
        committed = store.commit(wrote(2, *((id_, "y", 0) for id_ in range(50)), row_count=100))
        assert isinstance(loaded, Deferred)
        assert committed is not None
        thread.run()
        thread.run()

        self.assertEqual(len(self.successResultOf(loaded).rows), 50)
        self.successResultOf(committed)
        self.assertEqual(self.loaded(store, [7]), {7: (7, "y", 0)})

    def test_many_rows_are_loaded_in_the_thread(self) -> None:
        """What a large commit may touch is looked up in the thread."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        store.commit(wrote(1, (2999, "x", 0), row_count=1))

        loaded = store.load(list(range(3000)), [])
        assert isinstance(loaded, Deferred)
        self.assertNoResult(loaded)
        thread.run()

        self.assertEqual(self.successResultOf(loaded).rows, {2999: (2999, "x", 0)})

    def test_large_scans_go_to_the_thread(self) -> None:
        """A scan that may return many rows is made in the thread, a short one on the spot."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        rows = [(id_, "x", 0) for id_ in range(3000)]
        store.commit(wrote(1, *rows[:1500]))
        store.commit(wrote(2, *rows[1500:], row_count=3000))

        small, limited, large = store.scan(0, 400, 0, 0), store.scan(0, 2999, 10, 0), store.scan(0, 2999, 0, 0)
        assert isinstance(large, Deferred)
        self.assertNoResult(large)
        thread.run()

        self.assertEqual((small, limited), (Page(rows[:401], None), Page(rows[:10], 10)))
        self.assertEqual(self.successResultOf(large), Page(rows, None))


class WriteAheadLog(SqliteTestCase):
    def setUp(self) -> None:
        """Use a WAL that is full after a few commits."""
        super().setUp()
        self.patch(sqlite, "WAL_BYTES_MAX", 100_000)
        self.patch(sqlite, "COMMITS_PER_LOOK", 1)
        self.wal = self.directory / "7.sqlite-wal"

    def counted_checkpoints(self) -> list[str]:
        """Return a list to which each checkpoint adds its mode."""
        checkpoints: list[str] = []
        run_checkpoint = sqlite._run_checkpoint

        def counted(connection: sqlite3.Connection, mode: str) -> bool:
            checkpoints.append(mode)
            return run_checkpoint(connection, mode)

        self.patch(sqlite, "_run_checkpoint", counted)
        return checkpoints

    def commit_until_full(self, store: SqliteStore) -> int:
        """Commit rows until the WAL is longer than it should be; return the last index."""
        index = 0
        while not self.wal.exists() or self.wal.stat().st_size <= 100_000:
            index += 1
            store.commit(wrote(index, (index, "x" * 1000, 0), row_count=index))
        return index

    def test_is_carried_over_and_begins_anew(self) -> None:
        """However much is committed, the WAL stays short, is carried over only when it is full, and nothing is lost."""
        store = self.opened()
        checkpoints = self.counted_checkpoints()
        sizes = set()

        for index in range(1, 500):
            store.commit(wrote(index, (index, "x" * 1000, 0), row_count=index))
            sizes.add(self.wal.stat().st_size)

        # What it grew over the limit is cut off each time.
        self.assertIn(100_000, sizes)
        self.assertLess(max(sizes), 150_000)
        self.assertLess(len(checkpoints), 200)
        self.assertEqual(len(self.opened(path=self.crash()).scan(0, 500, 0, 0).rows), 499)  # type: ignore[union-attr]

    def test_commits_go_on_while_it_is_carried_over(self) -> None:
        """Only the last step holds commits back; they are made right after it, in order."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        index = self.commit_until_full(store)

        self.assertIsNone(store.commit(wrote(index + 1, (index + 1, "on the spot", 0), row_count=index + 1)))
        thread.run()
        held = store.commit(wrote(index + 2, (index + 2, "held", 0), row_count=index + 2))
        assert held is not None
        thread.run()
        frames = self.wal.read_bytes()
        self.assertNoResult(held)
        thread.run()

        self.successResultOf(held)
        self.assertEqual(self.wal.stat().st_size, 100_000)
        self.assertNotEqual(self.wal.read_bytes()[:4096], frames[:4096])
        self.assertIsNone(store.commit(wrote(index + 3, row_count=index + 2)))
        self.assertEqual(self.loaded(store, [index + 2]), {index + 2: (index + 2, "held", 0)})

    def test_grows_during_a_copy(self) -> None:
        """A copy keeps the WAL from beginning anew; afterwards it does, and was not tried at each commit."""
        store = self.opened()
        export = self.successResultOf(store.export(1000))
        checkpoints = self.counted_checkpoints()

        for index in range(1, 100):
            store.commit(wrote(index, (index, "x" * 1000, 0), row_count=index))
        grown = self.wal.stat().st_size
        tries = len(checkpoints)
        self.successResultOf(export.close())
        for index in range(100, 200):
            store.commit(wrote(index, (index, "x" * 1000, 0), row_count=index))

        self.assertGreater(grown, 300_000)
        self.assertLessEqual(tries, 2 * grown // 100_000)
        self.assertLess(self.wal.stat().st_size, grown)


class Durability(SqliteTestCase):
    def test_the_wal_and_its_directory_are_synced(self) -> None:
        """make_durable syncs the file that holds the commits, in the thread, and answers with what was committed."""
        synced: list[str] = []
        self.patch(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
        thread = ThreadOnCall()
        store = self.opened(thread)
        store.commit(wrote(1, (1, "a", 1)))

        durable = store.make_durable()
        store.commit(wrote(2, (2, "b", 2)))
        self.assertEqual(synced, [])
        thread.run()

        self.assertEqual(self.successResultOf(durable), 1)
        directory = str(self.directory.resolve())
        self.assertEqual(synced, [f"{directory}/7.sqlite-wal", directory])

    def test_failed_sync_is_final(self) -> None:
        """After a failed sync nothing is committed any more: what the disk holds is unknown."""

        def fail(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        store = self.opened()
        store.commit(wrote(1, (1, "a", 1)))
        self.patch(os, "fsync", fail)

        failure = self.failureResultOf(store.make_durable(), DiskFailedError)

        self.assertIn("Input/output error", str(failure.value))
        self.assertRaises(DiskFailedError, store.commit, wrote(2, (2, "b", 2)))


class Imports(SqliteTestCase):
    def setUp(self) -> None:
        """Make a store and a copy of another one."""
        super().setUp()
        other = self.opened(path=self.directory / "8.sqlite")
        other.commit(wrote(9, (9, "new", 9), row_count=1))
        export = self.successResultOf(other.export(1000))
        self.chunks: list[bytes] = []
        while (chunk := self.successResultOf(export.next_chunk())) is not None:
            self.chunks.append(chunk)
        self.successResultOf(other.destroy())

    def rows_after_crash(self) -> list[Any]:
        """Return what a process finds that is started after this one was killed."""
        store = self.opened(path=self.crash())
        rows = store.scan(0, 100, 0, 0).rows  # type: ignore[union-attr]  # at once
        self.successResultOf(store.destroy())
        return rows

    def test_a_crash_leaves_old_or_new(self) -> None:
        """Whichever step of an import is the last that was done, the store is the old or the new one."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        store.commit(wrote(1, (1, "old", 1), row_count=1))
        incoming = store.begin_import()
        found = []

        for chunk in self.chunks:
            written = incoming.write(chunk)
            thread.run()
            self.successResultOf(written)
            found.append(self.rows_after_crash())
        finished = incoming.finish()
        while thread.waiting:
            thread.run()
            found.append(self.rows_after_crash())

        self.assertEqual(self.successResultOf(finished).position.applied_index, 9)
        self.assertEqual(sorted(found, reverse=True), [[(9, "new", 9)]] + [[(1, "old", 1)]] * (len(found) - 1))
        self.assertEqual(self.loaded(store, [1, 9]), {9: (9, "new", 9)})

    def test_is_refused_over_a_wal(self) -> None:
        """If the old WAL could not be emptied the old store stays, and goes on."""
        store = self.opened()
        store.commit(wrote(1, (1, "old", 1), row_count=1))
        incoming = store.begin_import()
        for chunk in self.chunks:
            self.successResultOf(incoming.write(chunk))
        reader = sqlite3.connect(self.path, isolation_level=None)
        reader.execute("SELECT * FROM rows").fetchone()

        self.failureResultOf(incoming.finish(), StoreError)
        reader.close()

        self.assertEqual(self.loaded(store, [1, 9]), {1: (1, "old", 1)})
        store.commit(wrote(2, (2, "goes on", 1), row_count=2))

    def test_one_that_was_given_up_is_removed_late(self) -> None:
        """An import whose predecessor goes away only now, in another thread, loses nothing to it."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        first, second = store.begin_import(), store.begin_import()
        done: list[Deferred[Any]] = [first.write(self.chunks[0]), first.abort(), second.write(self.chunks[0])]

        thread.run()
        # Of the two that wait now, the removal comes last.
        thread.waiting.reverse()
        thread.run()
        thread.run()
        done += [second.write(chunk) for chunk in self.chunks[1:]]
        done.append(second.finish())
        while thread.waiting:
            thread.run()

        for step in done:
            self.successResultOf(step)
        self.assertEqual(self.loaded(store, [9]), {9: (9, "new", 9)})
        self.successResultOf(self.closed(store, thread))
        self.assertEqual([path.name for path in self.directory.iterdir()], ["7.sqlite"])

    def closed(self, store: SqliteStore, thread: ThreadOnCall) -> Deferred[None]:
        """Close a store."""
        closed = store.close()
        while thread.waiting:
            thread.run()
        return closed

    def test_reads_meanwhile(self) -> None:
        """While the files change places a read fails as the world's fault, so that another replica is asked."""
        thread = ThreadOnCall()
        store = self.opened(thread)
        incoming = store.begin_import()
        for chunk in self.chunks:
            written = incoming.write(chunk)
            thread.run()
            self.successResultOf(written)

        finished = incoming.finish()
        thread.run()  # the copy is complete,
        thread.run()  # and the old file is closed

        self.assertRaises(StoreError, store.scan, 0, 9, 0, 0)
        thread.run()
        self.successResultOf(finished)
        self.assertEqual(self.loaded(store, [9]), {9: (9, "new", 9)})

    def test_destroyed_meanwhile(self) -> None:
        """A store that is destroyed while an import ends stays destroyed."""
        for steps in range(4):
            thread = ThreadOnCall()
            store = self.opened(thread)
            incoming = store.begin_import()
            for chunk in self.chunks:
                written = incoming.write(chunk)
                thread.run()
                self.successResultOf(written)
            finished = incoming.finish()
            for _ in range(min(steps, 2)):
                thread.run()

            destroyed = store.destroy()
            while thread.waiting:
                thread.run()

            self.successResultOf(destroyed)
            self.failureResultOf(finished, StoreError)
            self.assertEqual(list(self.directory.iterdir()), [], steps)

    def test_what_a_crash_left_is_removed(self) -> None:
        """The file of an import that never ended goes at the next start."""
        store = self.opened()
        self.successResultOf(store.begin_import().write(self.chunks[0]))
        crashed = self.crash()
        self.assertEqual(len(list(crashed.parent.glob("*.import*"))), 1)

        self.opened(path=crashed)

        self.assertEqual(list(crashed.parent.glob("*.import*")), [])

    def test_ends_copies_that_run(self) -> None:
        """A copy going out when another comes in is ended with an error, not continued on other rows."""
        store = self.opened()
        export = self.successResultOf(store.export(1000))
        incoming = store.begin_import()
        for chunk in self.chunks:
            self.successResultOf(incoming.write(chunk))

        self.successResultOf(incoming.finish())

        self.failureResultOf(export.next_chunk(), StoreError)
        self.successResultOf(export.close())


class RealThreads(TestCase):
    async def test_everything_at_once(self) -> None:
        """Commits, scans, copies, syncs and checkpoints side by side lose nothing and never meet a lock."""
        self.patch(sqlite, "WAL_BYTES_MAX", 200_000)
        self.patch(sqlite, "COMMITS_PER_LOOK", 4)
        from twisted.internet import reactor

        threads: Any = reactor
        pool = ThreadPool(0, 4)
        pool.start()
        self.addCleanup(pool.stop)
        path = Path(self.mktemp())
        store = SqliteStore(path, STUDENTS, lambda work: deferToThreadPool(threads, pool, work))
        store.open()

        digests: list[RowsDigest] = []
        for index in range(1, 31):
            size = 3000 if index % 10 == 0 else 100
            rows = [(index * 10_000 + id_, f"name {id_}", id_ % 2 == 0) for id_ in range(size)]
            row_count = index * 100 + index // 10 * 2900
            waiting: list[Deferred[Any]] = [store.make_durable(), Deferred.fromCoroutine(rows_digest(store))]
            for answer in (store.commit(wrote(index, *rows, row_count=row_count)), store.scan(0, 1_000_000, 0, 0)):
                if isinstance(answer, Deferred):
                    waiting.append(answer)
            digests.append((await gatherResults(waiting))[1])
        found = await rows_digest(store)
        await store.close()

        self.assertEqual((found.applied_index, found.row_count), (30, 11_700))
        self.assertTrue(all(digest.applied_index in (index, index + 1) for index, digest in enumerate(digests)))
        self.assertFalse(path.with_name(path.name + "-wal").exists())
