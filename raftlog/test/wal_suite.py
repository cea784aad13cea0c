"""What every write-ahead log does, whatever it is made of. Not run by itself: see test_wal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import EMPTY_HARD_STATE, ConfState, Entry, HardState, Snapshot
from raftlog.test.wal_fixture import VOTERS, born, entries
from raftlog.wal import (
    Appended,
    Compacted,
    InvalidRecord,
    MemoryWal,
    Record,
    RecoveredGroup,
    Removed,
    SnapshotIncoming,
    SnapshotInstalled,
    Wal,
    WalClosed,
)


class LogSuite(SynchronousTestCase):
    """The behaviour of a log. A subclass says how to begin with an empty one, sync it, and open it again."""

    wal: Wal | MemoryWal

    def begin(self) -> None:
        """Put an empty log into `wal`."""
        raise NotImplementedError

    def sync(self) -> None:
        """Let everything submitted become durable and be acknowledged."""
        raise NotImplementedError

    def reopen(self) -> dict[int, RecoveredGroup]:
        """End the process, begin another, and return what it finds."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Begin."""
        self.begin()

    def submit(self, records: Sequence[Record], done: Callable[[], None] = lambda: None) -> None:
        """Submit, with an acknowledgement that nobody wants."""
        self.wal.submit(records, done)

    def test_acknowledges_in_order(self) -> None:
        """Every submit is acknowledged once, in the order of submission, and an empty one is a barrier."""
        heard: list[int] = []
        self.submit(born(1), lambda: heard.append(0))
        self.submit([Appended(1, None, entries(1, 1))], lambda: heard.append(1))
        self.submit([], lambda: heard.append(2))

        self.sync()

        self.assertEqual(heard, [0, 1, 2])

    def test_failing_acknowledgement(self) -> None:
        """An acknowledgement that raises does not keep others from being made."""
        heard: list[int] = []
        self.submit(born(1), lambda: heard.append(1 // 0))
        self.submit(born(2), lambda: heard.append(2))

        self.sync()

        self.assertEqual(heard, [2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_recovers_everything(self) -> None:
        """Groups come back with replica id, hard state, configuration and entries."""
        self.submit([*born(1), Appended(1, HardState(2, 3, 1), entries(1, 3))])
        self.submit(born(2))
        self.sync()

        groups = self.reopen()

        self.assertEqual(
            groups,
            {
                1: RecoveredGroup(1, 10, HardState(2, 3, 1), Snapshot(conf_state=VOTERS), list(entries(1, 3))),
                2: RecoveredGroup(2, 20, HardState(1, 0, 0), Snapshot(conf_state=VOTERS), []),
            },
        )

    def test_append_truncates(self) -> None:
        """Entries at an index that is taken replace everything from there on (Raft §5.3)."""
        self.submit([*born(1), Appended(1, None, entries(1, 5))])
        self.submit([Appended(1, None, entries(3, 1, term=2))])
        self.sync()

        groups = self.reopen()

        self.assertEqual(groups[1].entries, [*entries(1, 2), *entries(3, 1, term=2)])

    def test_compaction(self) -> None:
        """Compacted entries are gone, and the group knows term and configuration at the point of compaction."""
        self.submit([*born(1), Appended(1, None, entries(1, 5))])
        self.submit([Compacted(1, 3, 1, ConfState((1, 2)))])
        self.sync()

        groups = self.reopen()

        self.assertEqual(groups[1].snapshot, Snapshot(3, 1, ConfState((1, 2))))
        self.assertEqual(groups[1].entries, list(entries(4, 2)))

    def test_snapshot_replaces_the_log(self) -> None:
        """An installed snapshot takes the place of all entries, and appending goes on behind it."""
        snapshot = Snapshot(100, 4, ConfState((1, 2)), b"rows")
        self.submit([*born(1), Appended(1, None, entries(1, 5))])
        self.submit([SnapshotInstalled(1, snapshot, HardState(4, 0, 100))])
        self.submit([Appended(1, None, entries(101, 2, term=4))])
        self.sync()

        groups = self.reopen()

        self.assertEqual(groups[1].snapshot, snapshot)
        self.assertEqual(groups[1].hard_state, HardState(4, 0, 100))
        self.assertEqual(groups[1].entries, list(entries(101, 2, term=4)))

    def test_begun_installation_is_remembered(self) -> None:
        """A snapshot that is about to be installed is found after a restart, until its installation is confirmed."""
        snapshot = Snapshot(100, 4, ConfState((1, 2)))
        self.submit([*born(1), SnapshotIncoming(1, snapshot)])
        self.sync()

        begun = self.reopen()[1]
        self.submit([SnapshotInstalled(1, snapshot, HardState(4, 0, 100))])
        self.sync()
        done = self.reopen()[1]

        self.assertEqual((begun.snapshot.index, begun.incoming), (0, snapshot))
        self.assertEqual((done.snapshot.index, done.incoming), (100, None))

    def test_removal_leaves_a_tombstone(self) -> None:
        """A destroyed replica is gone but not forgotten, and its group may come back under another replica id."""
        self.submit(born(1))
        self.submit([Removed(1, 10)])
        self.submit(born(1, replica_id=11))
        self.sync()

        groups = self.reopen()

        self.assertEqual(groups[1].replica_id, 11)
        self.assertEqual(self.wal.tombstones, {10})

    def test_recovered_entries_are_the_callers(self) -> None:
        """What a caller does to the list it was given does not reach the log."""
        self.submit([*born(1), Appended(1, None, entries(1, 2))])
        self.sync()
        self.reopen()[1].entries.clear()

        self.submit([Appended(1, None, entries(3, 1))])
        self.sync()

        self.assertEqual(self.reopen()[1].entries, list(entries(1, 3)))

    def test_group_bytes(self) -> None:
        """A group's size grows with its entries and shrinks with compaction to that of what is left."""
        self.submit([*born(1), Appended(1, None, entries(1, 10, size=1000))])
        full = self.wal.group_bytes(1)
        self.submit([Compacted(1, 9, 1, VOTERS)])

        self.assertGreater(full, 10_000)
        self.assertLess(abs(self.wal.group_bytes(1) * 10 - full), 100)

    def test_impossible_records(self) -> None:
        """A record that could not be read back is refused."""
        impossible: list[Record] = [
            Appended(9, HardState(1, 0, 0)),
            *born(1)[:1],
            Appended(1, None, entries(7, 1)),
            Appended(1, None, (Entry(1, 4), Entry(1, 6))),
            Appended(1, None, entries(1, 1)),
            Compacted(1, 4, 1, VOTERS),
            SnapshotInstalled(1, Snapshot(1, 1, VOTERS), EMPTY_HARD_STATE),
            Removed(1, 99),
        ]
        for record in impossible:
            self.begin()
            self.submit([*born(1), Appended(1, None, entries(1, 3)), Compacted(1, 2, 1, VOTERS)])

            self.assertRaises(InvalidRecord, self.submit, [record])
            self.assertRaises(WalClosed, self.submit, [])

    def test_a_destroyed_replica_stays_destroyed(self) -> None:
        """A replica id that was destroyed cannot be created again."""
        self.submit([*born(1, 10), Removed(1, 10)])
        self.sync()
        self.reopen()

        self.assertRaises(InvalidRecord, self.submit, born(2, 10))

    def test_close_writes_what_is_queued(self) -> None:
        """Closing waits for the disk and then refuses to take more; closing twice is harmless."""
        heard: list[int] = []
        self.submit(born(1), lambda: heard.append(1))

        self.wal.close()
        self.wal.close()
        self.sync()

        self.assertEqual(heard, [1])
        self.assertRaises(WalClosed, self.submit, born(2))
        self.assertEqual(list(self.reopen()), [1])
