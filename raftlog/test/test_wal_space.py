"""A disk that runs full: it is noticed before, survived when it happens, and no obstacle to starting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.wal import Appended, Compacted, WalError
from raftlog.wal.framing import SECTOR_BYTES

#: Takes eleven rounds of one entry each.
SEGMENT = 13 * SECTOR_BYTES


class FullDiskTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a log that has a group, on a disk with room for many segments."""
        self.log = SteppedLog(options=small_options(segment_bytes=SEGMENT, free_bytes_min=3 * SEGMENT))
        self.disk = self.log.disk
        self.disk.capacity_bytes = 20 * SEGMENT
        self.log.write(born(1))
        self.index = 0

    def leave(self, free: int) -> None:
        """Let others use the disk up but for so many bytes."""
        self.disk.capacity_bytes += free - self.disk.free_bytes()

    def wait(self) -> None:
        """Let a second pass."""
        self.log.now += 1
        self.log.step()

    def append(self, count: int) -> None:
        """Append entries, a round for each."""
        for _ in range(count):
            self.index += 1
            self.log.write([Appended(1, None, entries(self.index, 1, size=100))])

    def test_reserve_is_set_aside(self) -> None:
        """A new log sets a segment's worth of room aside."""
        self.assertEqual(len(self.disk.content("reserve")), SEGMENT)
        self.assertFalse(self.log.wal.free_bytes_low)

    def test_low_is_noticed(self) -> None:
        """Below the threshold the log says that room is low, while it goes on writing."""
        self.leave(3 * SEGMENT - 1)
        self.wait()

        self.assertTrue(self.log.wal.free_bytes_low)
        self.append(1)
        self.assertEqual(self.log.acknowledged, 2)

    def test_low_does_not_flap(self) -> None:
        """Room is no longer low when a quarter more than the threshold is free."""
        self.leave(3 * SEGMENT - 1)
        self.wait()

        self.leave(3 * SEGMENT + 1)
        self.wait()
        self.assertTrue(self.log.wal.free_bytes_low)

        self.leave(4 * SEGMENT)
        self.wait()
        self.assertFalse(self.log.wal.free_bytes_low)

    def test_reserve_is_used(self) -> None:
        """When there is no room for a segment the reserve makes some, and low is said at once."""
        self.leave(0)

        self.append(15)

        self.assertEqual(self.log.acknowledged, 16)
        self.assertNotIn("reserve", self.disk.names())
        self.assertTrue(self.log.wal.free_bytes_low)

    def test_nothing_left(self) -> None:
        """Without any room nothing is acknowledged and nothing fails, until there is room again."""
        self.leave(0)
        self.append(60)
        acknowledged = self.log.acknowledged
        self.assertLess(acknowledged, 40)
        self.assertGreater(self.log.wal.oldest_unsynced_seconds() + 1, 0)

        self.leave(10 * SEGMENT)
        for _ in range(60):
            self.wait()

        self.assertEqual(self.log.acknowledged, 61)
        self.assertEqual(self.log.fatal, [])
        self.log.reopen()
        self.assertEqual(len(self.log.groups[1].entries), 60)

    def test_reserve_is_restored(self) -> None:
        """Once there is room the reserve is set aside again, and only then room is no longer low."""
        self.leave(0)
        self.append(15)
        self.leave(4 * SEGMENT - 1)
        self.wait()
        self.assertTrue(self.log.wal.free_bytes_low)

        self.leave(6 * SEGMENT)
        self.wait()

        self.assertIn("reserve", self.disk.names())
        self.assertFalse(self.log.wal.free_bytes_low)

    def test_compaction_makes_room(self) -> None:
        """In the room that the reserve gave, a compaction frees the segments that filled the disk."""
        self.append(60)
        self.leave(0)
        self.append(15)

        self.log.write([Compacted(1, self.index, 1, VOTERS)])
        self.wait()

        self.assertFalse(self.log.wal.free_bytes_low)
        self.assertEqual(len(self.log.segments()), 1)

    def test_spare_is_given_up(self) -> None:
        """A spare that is too short for what is needed is given up before the reserve."""
        self.append(30)
        self.log.write([Compacted(1, self.index, 1, VOTERS)])
        self.assertIn("spare", self.disk.names())
        self.leave(2 * SEGMENT)

        self.index += 1
        self.log.write([Appended(1, None, entries(self.index, 1, size=2 * SEGMENT))])

        self.assertIn("reserve", self.disk.names())
        self.assertEqual(self.log.wal.oldest_unsynced_seconds(), 0.0)

    def test_start_on_a_full_disk(self) -> None:
        """A log starts on a full disk in a short segment, with the reserve's room if need be, and goes on."""
        self.append(3)
        self.leave(0)

        self.log.reopen(power_off=False)

        self.assertEqual(len(self.log.groups[1].entries), 3)
        self.assertTrue(self.log.wal.free_bytes_low)
        self.append(1)
        self.assertEqual(self.log.acknowledged, 5)

    def test_start_without_the_reserve(self) -> None:
        """Even without a reserve a log starts, in a segment that is as short as can be."""
        self.append(3)
        self.disk.remove("reserve")
        self.leave(SEGMENT // 2)

        self.log.reopen(power_off=False)

        self.assertEqual(len(self.log.groups[1].entries), 3)

    def test_start_without_any_room(self) -> None:
        """If there is not even that, the message says what is the matter, and the log is as it was."""
        self.append(3)
        self.disk.remove("reserve")
        self.leave(0)

        error = self.assertRaises(WalError, self.log.reopen, power_off=False)

        self.assertIn("the disk is full", str(error))
        self.leave(10 * SEGMENT)
        self.log.reopen()
        self.assertEqual(len(self.log.groups[1].entries), 3)
