"""Power cuts at every operation, failed syncs, and kill -9: what was acknowledged is there, whatever else is."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import HardState, Snapshot
from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.testing.disk import MemoryDisk
from raftlog.wal import (
    Appended,
    Compacted,
    MemoryWal,
    Record,
    RecoveredGroup,
    Removed,
    SnapshotIncoming,
    SnapshotInstalled,
    WalClosed,
    WalError,
)

State = tuple[dict[int, RecoveredGroup], frozenset[int]]


def script() -> Iterator[list[Record]]:
    """Produce submits that fill segments, truncate, compact, install, destroy and create, so that segments go."""
    for group_id in (1, 2, 3):
        yield born(group_id)
    yield [Appended(3, None, entries(1, 2))]
    for turn in range(8):
        first = turn * 10 + 1
        for index in range(first, first + 10, 2):
            yield [
                Appended(1, HardState(1, 0, index), entries(index, 2, size=60)),
                Appended(2, HardState(1, 0, index), entries(index, 2, size=30)),
            ]
        yield [Appended(2, HardState(2, 0, first), entries(first + 8, 2, term=2, size=40))]
        yield [Compacted(1, first + 7, 1, VOTERS), Compacted(2, first + 3, 1, VOTERS)]
        if turn == 4:
            yield [SnapshotIncoming(2, Snapshot(50, 2, VOTERS))]
            yield [SnapshotInstalled(2, Snapshot(50, 2, VOTERS), HardState(2, 0, 50))]
            yield [Removed(1, 10)]
            yield [*born(1, 11), SnapshotInstalled(1, Snapshot(50, 1, VOTERS), HardState(1, 0, 50))]


SCRIPT = list(script())


def states() -> list[State]:
    """Return what the log holds after each submit of the script, from none to all."""
    wal = MemoryWal(auto=True)
    result: list[State] = [({}, frozenset())]
    for records in SCRIPT:
        wal.submit(records, lambda: None)
        copy, groups = wal.crash()
        result.append((groups, copy.tombstones))
        wal = copy
    return result


STATES = states()


class PowerCutTests(SynchronousTestCase):
    in_turns = False

    def begin(self, seed: int) -> SteppedLog:
        """Return an empty log with segments so small that the script goes through several and deletes most."""
        disk = MemoryDisk(random.Random(seed))
        options = small_options(segment_bytes=4096, segments_kept=2, rewrite_bytes_max=300)
        return SteppedLog(disk, options, in_turns=self.in_turns)

    def run_script(self, log: SteppedLog, seed: int) -> int:
        """Submit until the log fails, writing now and then; return how many submits were made."""
        rng = random.Random(seed)
        for submitted, records in enumerate(SCRIPT):
            log.now += 1
            try:
                log.submit(records)
            except WalClosed:
                return submitted
            if rng.random() < 0.3:
                log.end_turn()
            if rng.random() < 0.6:
                log.step()
        log.now += 1
        while log.wal.oldest_unsynced_seconds() and not log.fatal:
            log.step()
        return len(SCRIPT)

    def check(self, log: SteppedLog, submitted: int) -> None:
        """Check that the log holds a prefix of what was submitted, and all of what was acknowledged."""
        state = (log.groups, log.wal.tombstones)
        self.assertIn(state, STATES[log.acknowledged : submitted + 1])

    def test_script_exercises_everything(self) -> None:
        """The script fills many segments, frees most of them, and rewrites an idle group."""
        log = self.begin(seed=0)

        self.run_script(log, seed=0)

        self.assertEqual(log.acknowledged, len(SCRIPT))
        self.assertGreater(log.wal.commit.stats.bytes, 12_000)
        self.assertLess(len(log.segments()), 6)
        self.assertNotIn("0000000000000001.wal", log.segments())

    def test_power_cut_at_every_operation(self) -> None:
        """Wherever the power goes off, the log opens with all that was acknowledged and nothing but what was asked."""
        for operation in range(1, 1000):
            log = self.begin(operation)
            log.disk.power_off_at = log.disk.operations + operation

            submitted = self.run_script(log, operation)

            if not log.fatal:
                break
            log.reopen()
            self.check(log, submitted)
        self.assertTrue(60 < operation < 999, operation)

    def test_power_cut_at_every_operation_of_opening(self) -> None:
        """Power cuts while a log is opened, again and again, lose nothing either."""
        for seed in range(40):
            log = self.begin(seed)
            log.disk.power_off_at = log.disk.operations + 10 + seed
            submitted = self.run_script(log, seed)

            for operation in range(1, 100):
                log.disk.restart()
                log.disk.power_off_at = log.disk.operations + operation
                try:
                    log.open()
                    break
                except WalError:
                    pass

            self.check(log, submitted)
            self.assertTrue(4 < operation < 99, operation)

    def test_kill_at_every_operation(self) -> None:
        """A process that is killed, while the machine goes on, leaves all that was acknowledged."""
        for operation in range(1, 80):
            log = self.begin(operation)
            log.disk.power_off_at = log.disk.operations + operation
            submitted = self.run_script(log, operation)

            log.reopen(power_off=False)

            self.check(log, submitted)


class PowerCutInTurnTests(PowerCutTests):
    """The same where most rounds are written by who submits them, at the end of a turn."""

    in_turns = True


class FailedSyncTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a group on disk, and a round that the disk refuses."""
        self.log = SteppedLog()
        self.log.write([*born(1), Appended(1, None, entries(1, 2))])
        self.log.disk.fail_next("write", errno.EIO)
        self.log.write([Appended(1, None, entries(3, 1))])

    def test_is_fatal(self) -> None:
        """A round that fails is reported once, with file and offset, and is not acknowledged."""
        self.assertEqual(self.log.acknowledged, 1)
        self.assertEqual(len(self.log.fatal), 1)
        self.assertRegex(str(self.log.fatal[0]), r"^0000000000000001.wal at byte \d+: .*Input/output error")

    def test_nothing_is_acknowledged_afterwards(self) -> None:
        """After a failure the log takes nothing more, and closing it acknowledges nothing."""
        self.assertRaises(WalClosed, self.log.submit, [Appended(1, None, entries(4, 1))])

        self.log.step()
        self.log.wal.close()

        self.assertEqual(self.log.acknowledged, 1)
        self.assertEqual(len(self.log.fatal), 1)

    def test_queued_behind_the_failure(self) -> None:
        """What was queued before the owner heard of the failure is not acknowledged either."""
        calls: list[object] = []
        log = SteppedLog(deliver=calls.append)
        log.disk.fail_next("write", errno.EIO)
        log.write(born(1))

        log.write(born(2))

        self.assertEqual(len(calls), 1)

    def test_what_the_page_cache_shows_is_written_anew(self) -> None:
        """A round that is only in the page cache is durable once the next process has opened the log."""
        self.log.reopen(power_off=False)
        seen = self.log.groups
        self.assertEqual([entry.index for entry in seen[1].entries], [1, 2, 3])

        self.log.reopen(power_off=True)

        self.assertEqual(self.log.groups, seen)

    def test_failed_directory_sync(self) -> None:
        """A directory that cannot be synced is as fatal as a file."""
        log = SteppedLog(options=small_options(segment_bytes=600))
        log.write([*born(1), Appended(1, None, entries(1, 3))])
        log.disk.fail_next("sync", errno.EIO)

        log.write([Appended(1, None, entries(4, 9))])

        self.assertEqual(log.acknowledged, 1)
        self.assertEqual(len(log.fatal), 1)

    def test_bug_in_the_thread(self) -> None:
        """An exception of any other kind is fatal too, so that it does not look like a slow disk."""
        log = SteppedLog()
        log.write(born(1))
        log.wal.commit.put("not a chunk")  # type: ignore[arg-type]

        log.step()

        self.assertEqual(len(log.fatal), 1)
