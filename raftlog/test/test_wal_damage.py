"""Bits that flip, sectors that are lost, files that were cut: a log is recovered or refused, and never wrong."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import Entry
from raftlog.test.wal_bytes import FIRST, SECOND, SMALL, THIRD, bits, disk_with, found, pieces, small_log
from raftlog.test.wal_fixture import SteppedLog, born, entries, small_options
from raftlog.wal import Appended, Removed, WalDamaged, WalError
from raftlog.wal.framing import SECTOR_BYTES, SegmentHeader, frame_round, parse_header
from raftlog.wal.recovery import recover

#: The length of a segment that takes three rounds.
SEVERAL = 5 * SECTOR_BYTES


class SmallLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a small log, what it holds, and what it held before its last round."""
        self.log = small_log()
        self.disk = self.log.disk
        self.content = self.disk.content(FIRST)
        self.whole = found(recover(self.disk))
        self.last_round = recover(self.disk).end
        without_last = self.disk.content(FIRST)[: self.last_round].ljust(SMALL, b"\0")
        self.without_last = found(recover(disk_with({FIRST: without_last})))

    def test_setup(self) -> None:
        """The last round is the one that brought entry 4."""
        self.assertEqual(len(self.whole[1].entries), 4)
        self.assertEqual(len(self.without_last[1].entries), 3)

    def test_every_bit_before_the_last_round(self) -> None:
        """A bit that flips in the header or in any round before the last is found."""
        for bit in bits(*pieces(self.content)[:-1]):
            self.disk.flip(FIRST, bit)

            error = self.assertRaises(WalError, recover, self.disk)

            self.assertIn(FIRST, str(error))
            self.disk.flip(FIRST, bit)

    def test_every_bit_of_the_last_round(self) -> None:
        """A bit that flips in the last round makes it a torn one: it is dropped as a whole."""
        for bit in bits(pieces(self.content)[-1]):
            self.disk.flip(FIRST, bit)

            self.assertEqual(found(recover(self.disk)), self.without_last)

            self.disk.flip(FIRST, bit)

    def test_every_byte_between_and_behind(self) -> None:
        """What lies between rounds and behind the last one does not matter."""
        meaning = {byte for piece in pieces(self.content) for byte in piece}
        for byte in set(range(SMALL)) - meaning:
            self.disk.flip(FIRST, byte * 8 + byte % 8)

            self.assertEqual(found(recover(self.disk)), self.whole)

            self.disk.flip(FIRST, byte * 8 + byte % 8)

    def test_every_lost_sector(self) -> None:
        """A sector that comes back as anything else is found, or was all of the last round, or held nothing."""
        last_sector = self.last_round // SECTOR_BYTES
        for sector in range(SMALL // SECTOR_BYTES):
            for filling in (b"\0", b"\xff", b"ROUN"):
                lost = bytearray(self.content)
                lost[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES] = (filling * SECTOR_BYTES)[:SECTOR_BYTES]
                disk = disk_with({FIRST: bytes(lost)})
                if sector < last_sector:
                    self.assertRaises(WalError, recover, disk)
                else:
                    expected = self.without_last if sector == last_sector else self.whole
                    self.assertEqual(found(recover(disk)), expected)

    def test_truncation_at_every_byte(self) -> None:
        """A file that lost its end is found to be shorter than it was made, wherever it was cut."""
        for length in range(SMALL):
            damaged = disk_with({FIRST: self.content[:length]})

            error = self.assertRaises(WalDamaged, recover, damaged)

            self.assertEqual((error.file, error.offset), (FIRST, length))

    def test_torn_at_every_byte(self) -> None:
        """A last round of which only the beginning was written is dropped."""
        for length in pieces(self.content)[-1]:
            torn = disk_with({FIRST: self.content[:length].ljust(SMALL, b"\xee")})

            self.assertEqual(found(recover(torn)), self.without_last)

    def test_zeroed_round(self) -> None:
        """A round that was acknowledged and is gone without a trace is missed because of the one after it."""
        content = bytearray(self.content)
        lost, following = pieces(self.content)[-3:-1]
        content[lost.start : lost.stop] = bytes(len(lost))

        error = self.assertRaises(WalDamaged, recover, disk_with({FIRST: bytes(content)}))

        self.assertEqual(error.offset, lost.start)
        self.assertIn(f"a later round was written at byte {following.start}", str(error))

    def test_offset_of_damage(self) -> None:
        """The message names the file, the byte of the round and the byte of the record."""
        data = self.disk.content(FIRST).index(b"1.1.")
        self.disk.flip(FIRST, data * 8)

        error = self.assertRaises(WalDamaged, recover, self.disk)

        self.assertRegex(str(error), rf"^{FIRST}: damaged at byte \d+: round 3 has a record at byte \d+ that fails")
        self.assertLess(data - error.offset, 100)


class SeveralSegmentsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a log of three segments."""
        log = SteppedLog(options=small_options(segment_bytes=SEVERAL))
        log.write([*born(1), Appended(1, None, entries(1, 1)), *born(2), Removed(2, 20)])
        for index in range(2, 9):
            log.write([Appended(1, None, entries(index, 1, size=60))])
        self.log = log
        self.disk = log.disk
        self.files = {name: self.disk.content(name) for name in log.segments()}
        self.whole = found(recover(self.disk))
        self.assertEqual(list(self.files), [FIRST, SECOND, THIRD])

    def test_every_bit_of_earlier_segments(self) -> None:
        """A bit that flips in a segment that is not the last is found, in its last round too."""
        end = parse_header(SECOND, self.files[SECOND]).previous_end
        for bit in bits(*pieces(self.files[FIRST], end)):
            self.disk.flip(FIRST, bit)

            self.assertRaises(WalError, recover, self.disk)

            self.disk.flip(FIRST, bit)

    def test_every_bit_of_a_header_and_opening(self) -> None:
        """A bit that flips in the last segment's header or opening is found: it was complete before it had a name."""
        for bit in bits(*pieces(self.files[THIRD])[:2]):
            self.disk.flip(THIRD, bit)

            self.assertRaises(WalError, recover, self.disk)

            self.disk.flip(THIRD, bit)

    def test_truncated_segment(self) -> None:
        """An earlier segment may end where its data end, and not before."""
        end = parse_header(SECOND, self.files[SECOND]).previous_end

        whole = found(recover(disk_with({**self.files, FIRST: self.files[FIRST][:end]})))
        short = disk_with({**self.files, FIRST: self.files[FIRST][: end - 1]})

        self.assertEqual(whole, self.whole)
        self.assertRaises(WalDamaged, recover, short)

    def test_missing_segments(self) -> None:
        """A segment that is missing in the middle is named; one missing at the beginning is missed for its entries."""
        gap = disk_with({FIRST: self.files[FIRST], THIRD: self.files[THIRD]})
        beheaded = disk_with({SECOND: self.files[SECOND], THIRD: self.files[THIRD]})

        self.assertIn(SECOND, str(self.assertRaises(WalDamaged, recover, gap)))
        error = self.assertRaises(WalDamaged, SteppedLog, beheaded, small_options(segment_bytes=SEVERAL))
        self.assertIn("entries 1 to", str(error))

    def test_confused_segments(self) -> None:
        """A segment under another one's name, or of another log, is refused."""
        other = SteppedLog(options=small_options(segment_bytes=SEVERAL))
        other.write(born(7))

        renamed = disk_with({FIRST: self.files[SECOND]})
        foreign = disk_with({**self.files, FIRST: other.disk.content(FIRST)})

        self.assertIn("says that it is segment 2", str(self.assertRaises(WalDamaged, recover, renamed)))
        self.assertRaises(WalDamaged, recover, foreign)

    def test_format_version(self) -> None:
        """Another format version is refused by its number, not as damage."""
        content = bytearray(self.files[FIRST])
        content[8] = 9

        error = self.assertRaises(WalError, recover, disk_with({FIRST: bytes(content)}))

        self.assertNotIsInstance(error, WalDamaged)
        self.assertIn("format version 9; this program reads version 1", str(error))

    def test_refused_by_open(self) -> None:
        """A damaged log is not opened, and not a byte of it is changed."""
        self.disk.flip(FIRST, pieces(self.files[FIRST])[1].start * 8)
        operations = self.disk.operations

        self.assertRaises(WalDamaged, self.log.open)

        self.assertEqual(self.disk.operations, operations)

    def test_forged_round_in_a_torn_one(self) -> None:
        """What a client wrote into a row is not taken for a later round, whatever it looks like."""
        log = small_log(SMALL + 4 * SECTOR_BYTES)
        forged = frame_round(SegmentHeader(1, 0, SMALL, 0, 1), 99, b"")
        before = found(recover(log.disk))
        rows = b"".join(b"x" * shift + forged for shift in range(2 * SECTOR_BYTES // len(forged)))
        log.write([Appended(1, None, (Entry(2, 5, rows),))])
        begin = pieces(log.disk.content(FIRST))[-1].start

        log.disk.flip(FIRST, begin * 8)

        self.assertEqual(found(recover(log.disk)), before)
