"""Rounds that whoever submits writes itself, at the end of a turn: when that is done, and when it is left alone."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.testing.disk import MemoryDisk
from raftlog.wal import Appended, Compacted, WalClosed, commit, opening
from raftlog.wal.commit import HUNG_SECONDS
from raftlog.wal.pace import (
    FAST_SECONDS,
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_MIN,
    SPENT_SECONDS,
    STALL_SECONDS,
    STALLED_SECONDS_MAX,
    WRITES,
    Pace,
)
from raftlog.wal.wal import WRITTEN_HERE_BYTES_MAX


class TimedDisk(MemoryDisk):
    """A disk whose operations `spend` time."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.spend: Callable[[], None] = lambda: None

    def _begin(self, operation: str) -> bool:
        self.spend()
        return super()._begin(operation)


class InTurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with one group and a segment that is open."""
        self.disk = TimedDisk()
        self.log = SteppedLog(self.disk, small_options(segment_bytes=1 << 20), in_turns=True)
        self.log.write(born(1))
        self.assertEqual(self.log.acknowledged, 1)
        self.next = 1

    def submit(self, size: int = 20) -> None:
        """Submit an entry."""
        self.log.submit([Appended(1, None, entries(self.next, 1, size=size))])
        self.next += 1

    def write_by_thread(self) -> None:
        """Let the thread write a round."""
        self.log.wal.commit.step(0)

    def reopened(self) -> list[int]:
        """Cut the power; return the entries that are left."""
        self.log.reopen()
        return [entry.index for entry in self.log.groups[1].entries]

    def test_one_round_at_the_end_of_the_turn(self) -> None:
        """What a turn submits is written when it ends, not before, in one write, and acknowledged there and then."""
        writes = self.disk.operations
        for _ in range(3):
            self.submit()
        self.assertEqual((self.disk.operations, self.log.acknowledged), (writes, 1))

        self.log.end_turn()

        self.assertEqual((self.disk.operations, self.log.acknowledged), (writes + 1, 4))
        self.assertEqual((self.log.wal.stats.rounds, self.log.wal.stats.entries), (2, 3))
        self.assertEqual(self.log.wal.oldest_unsynced_seconds(), 0.0)
        self.assertEqual(self.reopened(), [1, 2, 3])

    def test_what_is_submitted_by_an_acknowledgement(self) -> None:
        """An acknowledgement may submit; that is written at the end of the next turn."""
        self.log.wal.submit(
            [Appended(1, None, entries(1, 1))], lambda: self.log.submit([Appended(1, None, entries(2, 1))])
        )

        self.log.end_turn()
        self.assertEqual(self.log.acknowledged, 1)
        self.log.end_turn()

        self.assertEqual(self.log.acknowledged, 2)
        self.assertEqual(self.reopened(), [1, 2])

    def test_a_barrier(self) -> None:
        """A submit without records is acknowledged with the turn as well, and writes nothing."""
        writes = self.disk.operations
        self.log.submit([])

        self.log.end_turn()

        self.assertEqual((self.disk.operations, self.log.acknowledged), (writes, 2))

    def test_much_is_left_to_the_thread(self) -> None:
        """A large write takes long; the small one behind it must not overtake it."""
        self.submit(WRITTEN_HERE_BYTES_MAX)
        self.log.end_turn()
        self.submit()
        self.log.end_turn()
        self.assertEqual(self.log.acknowledged, 1)

        self.write_by_thread()

        self.assertEqual(self.log.acknowledged, 3)
        self.assertEqual(self.reopened(), [1, 2])

    def test_written_and_not_yet_acknowledged(self) -> None:
        """What the thread has written is acknowledged before anything that comes after it."""
        calls: list[Callable[[], None]] = []
        self.log.deliver = calls.append
        self.log.reopen()
        acknowledged: list[int] = []
        large = entries(1, 1, size=WRITTEN_HERE_BYTES_MAX)
        self.log.wal.submit([Appended(1, None, large)], lambda: acknowledged.append(1))
        self.log.step()
        self.log.wal.submit([Appended(1, None, entries(2, 1))], lambda: acknowledged.append(2))
        self.log.step()
        self.assertEqual(acknowledged, [])

        for call in calls:
            call()

        self.assertEqual(acknowledged, [1, 2])

    def test_segments_are_the_threads(self) -> None:
        """To open a segment and to take old ones away needs many operations of the disk."""
        log = SteppedLog(self.disk, small_options(segment_bytes=4096, segments_kept=1), in_turns=True)
        last = 0
        for index in range(1, 200):
            if index % 10 == 0:
                log.submit([Compacted(1, index - 2, 1, VOTERS)])
            log.submit([Appended(1, None, entries(index, 1, size=100))])
            operations = self.disk.operations
            log.end_turn()
            self.assertIn(self.disk.operations - operations, (0, 1))
            segments = log.segments()
            log.step()
            last = len(segments)

        self.assertGreater(log.wal.commit._writer.segments[-1], 5)
        self.assertLess(last, 5)
        self.assertGreater(log.acknowledged, 199)

    def test_a_thread_that_is_busy(self) -> None:
        """While the thread is still taking segments away, what comes next waits for it."""
        with self.log.wal.commit._at_disk:
            self.submit()
            self.log.end_turn()
            self.assertEqual(self.log.acknowledged, 1)

        self.write_by_thread()

        self.assertEqual(self.log.acknowledged, 2)

    def test_a_write_that_fails(self) -> None:
        """Nothing of it is acknowledged, and the owner is told once."""
        self.submit()
        self.submit()
        self.disk.fail_next("write", errno.EIO)

        self.log.end_turn()

        self.assertEqual((self.log.acknowledged, len(self.log.fatal)), (1, 1))
        self.assertIn("Input/output error", str(self.log.fatal[0]))
        self.assertRaises(WalClosed, self.submit)

    def test_nothing_follows_a_write_that_failed(self) -> None:
        """Until its owner has heard of it more may be submitted: no thread writes that, not even while closing."""
        calls: list[Callable[[], None]] = []
        self.log.deliver = calls.append
        self.log.reopen()
        self.submit()
        self.disk.fail_next("write", errno.EIO)
        self.log.end_turn()
        operations = self.disk.operations

        self.submit()
        self.write_by_thread()
        self.submit()
        self.log.end_turn()
        self.log.wal.close()

        self.assertEqual(self.disk.operations, operations)
        self.assertEqual((len(calls), self.log.acknowledged), (1, 1))
        self.log.deliver = lambda call: call()
        self.assertIn(self.reopened(), ([], [1]))

    def test_nothing_follows_what_the_thread_could_not_do(self) -> None:
        """After the thread's error nobody writes: here it could not take an old segment away."""
        calls: list[Callable[[], None]] = []
        disk = MemoryDisk(random.Random(1))
        log = SteppedLog(disk, small_options(segment_bytes=4096), deliver=calls.append, in_turns=True)
        log.write(born(1))
        index = 0
        while len(log.segments()) < 2:
            index += 1
            log.submit([Appended(1, None, entries(index, 1, size=100))])
            log.step()
            self.deliver(calls)
        log.submit([Compacted(1, index, 1, VOTERS)])
        disk.fail_next("sync", errno.EIO)
        log.step()
        # The round itself was written, and its owner has heard of that, but not yet of the error.
        calls.pop(0)()
        operations, acknowledged = disk.operations, log.acknowledged

        log.submit([Appended(1, None, entries(index + 1, 1))])
        log.end_turn()
        log.wal.commit.step(0)

        self.assertEqual((disk.operations, log.acknowledged, len(calls)), (operations, acknowledged, 1))

    def deliver(self, calls: list[Callable[[], None]]) -> None:
        """Hand over what the thread has to say."""
        while calls:
            calls.pop(0)()

    def test_what_is_sent_leaves_first(self) -> None:
        """A submit that joins another one may come with frames of its own, which leave before both are written."""
        seen: list[str] = []
        self.disk.spend = lambda: seen.append("write")
        self.submit()

        def take_turn() -> None:
            seen.append("turn")
            self.log.turn.append(lambda: seen.append("frames"))
            self.submit()

        self.log.turn.insert(0, take_turn)

        self.log.end_turn()
        self.log.end_turn()

        self.assertEqual(seen, ["turn", "frames", "write"])
        self.assertEqual(self.log.acknowledged, 3)

    def test_close(self) -> None:
        """What waits for the end of the turn is written before the log is closed; the turn then finds nothing."""
        self.submit()

        self.log.wal.close()
        self.log.end_turn()

        self.assertEqual(self.log.acknowledged, 2)
        self.assertEqual(self.reopened(), [1])

    def test_a_slow_disk(self) -> None:
        """A disk that was waited for too often is the thread's for a while, and then tried again."""

        def spend() -> None:
            self.log.now += 2 * FAST_SECONDS

        self.disk.spend = spend
        # The first write was a fast one, so it takes as many again to find out.
        waited_for = 2 * WRITES
        for _ in range(waited_for - 1):
            self.submit()
            self.log.end_turn()
        self.assertEqual(self.log.acknowledged, waited_for)

        self.submit()
        self.log.end_turn()
        self.assertEqual(self.log.acknowledged, waited_for)
        self.write_by_thread()
        self.log.now += PAUSE_SECONDS_MIN
        self.submit()
        self.log.end_turn()

        self.assertEqual(self.log.acknowledged, waited_for + 2)

    def test_a_write_that_hangs(self) -> None:
        """If who submits has been writing for too long, the thread ends the process."""
        ended: list[str] = []
        self.patch(opening, "_end_hung_process", lambda: ended.append("ended"))
        self.patch(commit, "HUNG_SECONDS", 0)
        self.log.reopen()
        with self.log.wal.commit._at_disk:
            self.assertFalse(self.log.wal.commit.step(0))

        self.assertEqual(ended, ["ended"])

    def test_a_process_that_hangs_ends(self) -> None:
        """It says why."""
        program = "from raftlog.wal.opening import _end_hung_process; _end_hung_process()"

        done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=False, env=os.environ)

        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr.decode(), f"the disk has not taken a write for {HUNG_SECONDS} seconds: this process ends\n"
        )


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin at some time."""
        self.pace = Pace()
        self.now = 100.0

    def takes(self, *seconds: float) -> None:
        """Wait for writes."""
        for one in seconds:
            self.assertTrue(self.pace.is_fast(self.now))
            self.now += one
            self.pace.took(one, self.now)

    def paused_seconds(self) -> float:
        """Return for how long the disk counts as slow from now on, to an eighth of a second."""
        began = self.now
        while not self.pace.is_fast(self.now):
            self.now += 0.125
        return round(8 * (self.now - began)) / 8

    def test_one_fast_write_in_many(self) -> None:
        """That others took longer says that the processors were busy."""
        for _ in range(100):
            self.takes(*[4 * FAST_SECONDS] * (WRITES - 1), FAST_SECONDS / 2)

        self.assertEqual(self.paused_seconds(), 0.0)

    def test_not_one_fast_write(self) -> None:
        """A disk that is always a little slow is slow."""
        self.takes(*[1.1 * FAST_SECONDS] * WRITES)

        self.assertEqual(self.paused_seconds(), PAUSE_SECONDS_MIN)

    def test_much_time_spent(self) -> None:
        """A disk that is fast at times is slow if the other times take too long."""
        self.takes(FAST_SECONDS / 2, *[SPENT_SECONDS / 4] * 4)

        self.assertEqual(self.paused_seconds(), PAUSE_SECONDS_MIN)

    def test_slow_again_and_again(self) -> None:
        """The pauses grow up to a bound, and are short again for a disk that was fast for longer than the last one."""
        pauses = []
        for _ in range(9):
            self.takes(*[1.1 * FAST_SECONDS] * WRITES)
            pauses.append(self.paused_seconds())
        self.assertEqual(pauses[:3], [PAUSE_SECONDS_MIN, 2 * PAUSE_SECONDS_MIN, 4 * PAUSE_SECONDS_MIN])
        self.assertEqual(pauses[-2:], [PAUSE_SECONDS_MAX] * 2)

        self.now += PAUSE_SECONDS_MAX
        self.takes(*[1.1 * FAST_SECONDS] * WRITES)

        self.assertEqual(self.paused_seconds(), PAUSE_SECONDS_MIN)

    def test_stalls(self) -> None:
        """One is enough; with long times between them they are waited for hardly ever."""
        self.takes(FAST_SECONDS / 2, STALL_SECONDS)
        self.assertEqual(self.paused_seconds(), PAUSE_SECONDS_MIN)

        stalls = 0
        for _ in range(720):
            self.now += 5.0
            if self.pace.is_fast(self.now):
                self.takes(STALL_SECONDS)
                stalls += 1

        self.assertTrue(8 < stalls < 20, stalls)

    def test_stalls_are_forgotten(self) -> None:
        """After a long time without any the pause is short again."""
        self.takes(STALL_SECONDS)
        self.takes_after_pause(STALL_SECONDS)
        self.takes_after_pause(STALL_SECONDS)
        self.assertEqual(self.paused_seconds(), 4 * PAUSE_SECONDS_MIN)
        self.now += STALLED_SECONDS_MAX + 8 * PAUSE_SECONDS_MIN

        self.takes(STALL_SECONDS)

        self.assertEqual(self.paused_seconds(), PAUSE_SECONDS_MIN)

    def takes_after_pause(self, seconds: float) -> None:
        """Wait for a write as soon as it may be waited for."""
        self.paused_seconds()
        self.takes(seconds)
