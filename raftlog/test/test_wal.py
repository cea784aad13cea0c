"""The suite of all logs over the real one, the one without a thread and the one in memory; and what only one does."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import HardState
from raftlog.test import wal_suite
from raftlog.test.wal_fixture import SteppedLog, born, entries, small_options
from raftlog.wal import (
    Appended,
    MemoryWal,
    Options,
    RecoveredGroup,
    Wal,
    WalClosed,
    WalError,
    WalLocked,
    WalOverloaded,
    open_wal,
)
from raftlog.wal.framing import SECTOR_BYTES


class MemoryWalTests(wal_suite.LogSuite):
    wal: MemoryWal

    def begin(self) -> None:
        """See LogSuite."""
        self.wal = MemoryWal()

    def sync(self) -> None:
        """See LogSuite."""
        self.wal.sync()

    def reopen(self) -> dict[int, RecoveredGroup]:
        """See LogSuite."""
        self.wal, groups = self.wal.crash()
        return groups

    def test_loses_what_was_not_synced(self) -> None:
        """A crash takes what was not synced, and its acknowledgements."""
        heard: list[int] = []
        self.submit(born(1))
        self.wal.sync()
        self.submit(born(2), lambda: heard.append(2))
        crashed = self.wal

        groups = self.reopen()
        crashed.sync()

        self.assertEqual(list(groups), [1])
        self.assertEqual(heard, [])

    def test_auto(self) -> None:
        """With `auto` a submit is acknowledged before it returns."""
        heard: list[int] = []

        MemoryWal(auto=True).submit(born(1), lambda: heard.append(1))

        self.assertEqual(heard, [1])


class SteppedWalTests(wal_suite.LogSuite):
    def begin(self) -> None:
        """See LogSuite."""
        self.log = SteppedLog()
        self.wal = self.log.wal

    def sync(self) -> None:
        """See LogSuite."""
        self.log.step()

    def reopen(self) -> dict[int, RecoveredGroup]:
        """See LogSuite."""
        self.log.reopen()
        self.wal = self.log.wal
        return self.log.groups


class ThreadedWalTests(wal_suite.LogSuite):
    """Over a real directory and a real thread; calls from the thread wait in a queue until the test runs them."""

    def begin(self) -> None:
        """See LogSuite."""
        self.directory = Path(self.mktemp())
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.at_end_of_turn: Callable[[Callable[[], None]], None] | None = None
        self.open()

    def open(self) -> dict[int, RecoveredGroup]:
        """Open the log, and let it be closed at the end."""
        self.wal, groups = open_wal(
            self.directory,
            call_from_thread=self.calls.put,
            on_fatal=self.fail,
            options=small_options(),
            at_end_of_turn=self.at_end_of_turn,
        )
        self.addCleanup(self.wal.close)
        return groups

    def sync(self) -> None:
        """See LogSuite."""
        synced: list[bool] = []
        if not isinstance(self.wal, MemoryWal):
            try:
                self.wal.submit([], lambda: synced.append(True))
            except WalClosed:
                synced.append(True)
        while not (synced and self.calls.empty()):
            self.calls.get(timeout=10)()

    def reopen(self) -> dict[int, RecoveredGroup]:
        """See LogSuite."""
        self.wal.close()
        return self.open()

    def test_second_process(self) -> None:
        """A directory that is open is locked, and says so; once closed it is free."""
        self.assertRaises(WalLocked, open_wal, self.directory, call_from_thread=self.calls.put, on_fatal=self.fail)

        self.wal.close()

        self.assertEqual(self.open(), {})

    def test_unusable_directory(self) -> None:
        """A directory that cannot be made is a WalError that names it."""
        file = Path(self.mktemp())
        file.write_bytes(b"")

        error = self.assertRaises(WalError, open_wal, file / "wal", call_from_thread=self.calls.put, on_fatal=self.fail)

        self.assertIn(str(file), str(error))

    def test_lock_that_cannot_be_made(self) -> None:
        """A directory in which no lock can be made is a WalError that names it."""
        (self.directory / "occupied" / "lock").mkdir(parents=True)

        error = self.assertRaises(
            WalError, open_wal, self.directory / "occupied", call_from_thread=self.calls.put, on_fatal=self.fail
        )

        self.assertIn("occupied: cannot be locked", str(error))

    def test_many_segments(self) -> None:
        """What goes through many segments with a real thread is all there afterwards."""
        self.submit(born(1))
        for index in range(1, 301):
            self.submit([Appended(1, HardState(1, 0, index), entries(index, 1, size=400))])
        self.sync()

        groups = self.reopen()

        self.assertEqual(groups[1].entries, list(entries(1, 300, size=400)))
        self.assertGreater(len(list(self.directory.glob("*.wal"))), 5)


class ThreadedWalInTurnTests(ThreadedWalTests):
    """The same if the owner writes at the end of each turn what it may."""

    def open(self) -> dict[int, RecoveredGroup]:
        """See ThreadedWalTests."""
        self.at_end_of_turn = self.calls.put
        return super().open()


class GroupCommitTests(SynchronousTestCase):
    def test_one_round_for_all(self) -> None:
        """Everything queued while a round is written goes to disk in the next one."""
        log = SteppedLog()
        for group_id in range(1, 11):
            log.submit(born(group_id))
        writes = log.disk.operations

        log.step()

        self.assertEqual(log.disk.operations - writes, 1)
        self.assertEqual(log.acknowledged, 10)
        self.assertEqual((log.wal.stats.rounds, log.wal.stats.records), (1, 20))

    def test_small_submits_fill_a_segment(self) -> None:
        """Submits that went to disk in one round take up no more of the segment than that round."""
        log = SteppedLog(options=small_options(segment_bytes=16 * SECTOR_BYTES))
        log.write(born(1))
        for turn in range(6):
            for index in range(turn * 8 + 1, turn * 8 + 9):
                log.submit([Appended(1, None, entries(index, 1))])
            log.step()

        self.assertEqual(log.acknowledged, 49)
        self.assertEqual(len(log.segments()), 1)

    def test_one_call_per_round(self) -> None:
        """All acknowledgements of a round arrive in one call."""
        calls: list[Callable[[], None]] = []
        log = SteppedLog(deliver=calls.append)
        for group_id in range(1, 11):
            log.submit(born(group_id))

        log.step()

        self.assertEqual(len(calls), 1)
        self.assertEqual(log.acknowledged, 0)

    def test_overload(self) -> None:
        """A queue that is full says so beforehand, stages nothing more, and takes more once it was written."""
        log = SteppedLog(options=small_options(queue_bytes_max=1000))
        log.write(born(1))
        self.assertFalse(log.wal.overloaded)

        log.submit([Appended(1, None, entries(1, 1, size=2000))])

        self.assertTrue(log.wal.overloaded)
        self.assertRaises(WalOverloaded, log.submit, [Appended(1, None, entries(2, 1))])
        log.step()
        self.assertFalse(log.wal.overloaded)
        log.write([Appended(1, None, entries(2, 1))])
        log.reopen()
        self.assertEqual([entry.index for entry in log.groups[1].entries], [1, 2])

    def test_oldest_unsynced(self) -> None:
        """The age of the oldest submit that is not on disk is known, and zero when all is."""
        log = SteppedLog()
        log.submit(born(1))
        log.now += 2
        log.submit(born(2))
        log.now += 1

        self.assertEqual(log.wal.oldest_unsynced_seconds(), 3.0)
        log.step()
        self.assertEqual(log.wal.oldest_unsynced_seconds(), 0.0)

    def test_oldest_unsynced_while_the_reactor_is_busy(self) -> None:
        """What is on disk is not unsynced, even if the owner has not heard of it yet."""
        calls: list[Callable[[], None]] = []
        log = SteppedLog(deliver=calls.append)
        log.submit(born(1))
        log.step()
        log.now += 5

        self.assertEqual(log.wal.oldest_unsynced_seconds(), 0.0)

    def test_default_options(self) -> None:
        """The defaults hold together: a full queue fits the room that is kept free."""
        options = Options()

        self.assertLessEqual(2 * options.segment_bytes, options.free_bytes_min)
        self.assertLessEqual(options.rewrite_bytes_max, options.segment_bytes // 4)

    def test_wal_is_closed_without_a_thread(self) -> None:
        """Closing a log without a thread writes what is queued in the caller's."""
        log = SteppedLog()
        wal: Wal = log.wal
        log.submit(born(1))

        wal.close()

        self.assertEqual(log.acknowledged, 1)
