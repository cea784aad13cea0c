"""Bits that flip, files that were cut, bytes that mean nothing: a log is recovered or refused, and never wrong."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import Entry, HardState, Snapshot
from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.testing.disk import MemoryDisk
from raftlog.wal import Appended, Compacted, RecoveredGroup, Removed, WalDamaged, WalError
from raftlog.wal.framing import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    SegmentReader,
    frame_records,
    frame_round,
    parse_header,
)
from raftlog.wal.opening import copy_group
from raftlog.wal.records import GroupRestated, SegmentOpened, encode_record
from raftlog.wal.recovery import Recovered, recover

FIRST = "0000000000000001.wal"
SECOND = "0000000000000002.wal"
THIRD = "0000000000000003.wal"


SALT = 77


def segment(number: int, *rounds: bytes, previous_end: int = 0, first_round: int = 1, length: int = 1000) -> bytes:
    """Return a segment of these rounds of framed records."""
    header = SegmentHeader(number, SALT, length, previous_end, first_round)
    content = header.pack()
    for index, body in enumerate(rounds):
        content += frame_round(header, first_round + index, body)
    return content.ljust(length, b"\0")


def encode_framed(record: object, number: int = 1) -> bytes:
    """Return a record in its frame."""
    return frame_records([encode_record(record)], number, SALT)


def end_of(content: bytes) -> int:
    """Return where the last round of a segment ends."""
    return list(SegmentReader(FIRST, parse_header(FIRST, content), content).open_rounds())[-1].end


def disk_with(files: dict[str, bytes]) -> MemoryDisk:
    """Return a disk that holds just these files."""
    disk = MemoryDisk(random.Random(1))
    for name, content in files.items():
        disk.replace(name, content)
    return disk


def small_log() -> SteppedLog:
    """Return a log of one segment and four rounds."""
    log = SteppedLog(options=small_options(segment_bytes=700))
    log.write(born(1))
    log.write([Appended(1, HardState(2, 1, 1), entries(1, 2))])
    log.write([Appended(1, None, entries(2, 2, term=2))])
    log.write([Appended(1, HardState(2, 1, 2), entries(4, 1, term=2))])
    return log


def found(recovered: Recovered) -> dict[int, RecoveredGroup]:
    """Return the groups of a log that was only read, its last round included."""
    for record in recovered.tail:
        recovered.images.apply(record, recovered.segments[-1])
    return {group.group_id: copy_group(group) for group in recovered.images.groups.values()}


class SmallLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a small log, what it holds, and what it held before its last round."""
        self.log = small_log()
        self.disk = self.log.disk
        self.whole = found(recover(self.disk))
        self.last_round = recover(self.disk).end
        without_last = self.disk.content(FIRST)[: self.last_round].ljust(700, b"\0")
        self.without_last = found(recover(disk_with({FIRST: without_last})))

    def test_setup(self) -> None:
        """The last round is the one that brought entry 4."""
        self.assertEqual(len(self.whole[1].entries), 4)
        self.assertEqual(len(self.without_last[1].entries), 3)

    def test_every_bit_before_the_last_round(self) -> None:
        """A bit that flips anywhere before the last round is found."""
        for bit in range(self.last_round * 8):
            self.disk.flip(FIRST, bit)

            error = self.assertRaises(WalError, recover, self.disk)

            self.assertIn(FIRST, str(error))
            self.disk.flip(FIRST, bit)

    def test_every_bit_of_the_last_round(self) -> None:
        """A bit that flips in the last round makes it a torn one: it is dropped as a whole."""
        end = end_of(self.disk.content(FIRST))
        for bit in range(self.last_round * 8, end * 8):
            self.disk.flip(FIRST, bit)

            self.assertEqual(found(recover(self.disk)), self.without_last)

            self.disk.flip(FIRST, bit)

    def test_every_bit_after_the_last_round(self) -> None:
        """What lies behind the last round does not matter."""
        end = end_of(self.disk.content(FIRST))
        for bit in range(end * 8, 700 * 8):
            self.disk.flip(FIRST, bit)

            self.assertEqual(found(recover(self.disk)), self.whole)

            self.disk.flip(FIRST, bit)

    def test_truncation_at_every_byte(self) -> None:
        """A file that lost its end is found to be shorter than it was made, wherever it was cut."""
        content = self.disk.content(FIRST)
        for length in range(len(content)):
            damaged = disk_with({FIRST: content[:length]})

            error = self.assertRaises(WalDamaged, recover, damaged)

            self.assertEqual((error.file, error.offset), (FIRST, length))

    def test_torn_at_every_byte(self) -> None:
        """A last round of which only the beginning was written is dropped."""
        content = self.disk.content(FIRST)
        end = end_of(content)
        for length in range(self.last_round, end):
            torn = disk_with({FIRST: content[:length].ljust(700, b"\xee")})

            self.assertEqual(found(recover(torn)), self.without_last)

    def test_zeroed_round(self) -> None:
        """A round that was acknowledged and is gone without a trace is missed because of the one after it."""
        content = bytearray(self.disk.content(FIRST))
        begin = content.index(b"ROUN", content.index(b"ROUN") + 1) - 4
        end = content.index(b"ROUN", begin + 8) - 4
        content[begin:end] = bytes(end - begin)

        error = self.assertRaises(WalDamaged, recover, disk_with({FIRST: bytes(content)}))

        self.assertEqual(error.offset, begin)
        self.assertIn(f"a later round was written at byte {end}", str(error))

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
        log = SteppedLog(options=small_options(segment_bytes=400))
        log.write([*born(1), Appended(1, None, entries(1, 1)), *born(2), Removed(2, 20)])
        for index in range(2, 6):
            log.write([Appended(1, None, entries(index, 1, size=60))])
        self.log = log
        self.disk = log.disk
        self.files = {name: self.disk.content(name) for name in log.segments()}
        self.whole = found(recover(self.disk))
        self.assertEqual(list(self.files), [FIRST, SECOND, THIRD])

    def test_every_bit_of_earlier_segments(self) -> None:
        """A bit that flips in a segment that is not the last is found, wherever the segment's data reach."""
        end = parse_header(SECOND, self.files[SECOND]).previous_end
        for bit in range(end * 8):
            self.disk.flip(FIRST, bit)

            self.assertRaises(WalError, recover, self.disk)

            self.disk.flip(FIRST, bit)

    def test_every_bit_of_a_header_and_opening(self) -> None:
        """A bit that flips in the last segment's header or opening is found: it was complete before it had a name."""
        opening_end = self.files[THIRD].index(b"ROUN", SEGMENT_HEADER_BYTES + 8) - 4
        for bit in range(opening_end * 8):
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
        error = self.assertRaises(WalDamaged, SteppedLog, beheaded, small_options(segment_bytes=400))
        self.assertIn("entries 1 to", str(error))

    def test_confused_segments(self) -> None:
        """A segment under another one's name, or of another log, is refused."""
        other = SteppedLog(options=small_options(segment_bytes=400))
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
        self.disk.flip(FIRST, 800)
        operations = self.disk.operations

        self.assertRaises(WalDamaged, self.log.open)

        self.assertEqual(self.disk.operations, operations)

    def test_forged_round_in_a_torn_one(self) -> None:
        """What a client wrote into a row is not taken for a later round, whatever it looks like."""
        log = small_log()
        forged = frame_round(SegmentHeader(1, 0, 700, 0, 1), 99, b"")
        before = found(recover(log.disk))
        log.write([Appended(1, None, (Entry(2, 5, forged),))])
        log.disk.flip(FIRST, (log.disk.content(FIRST).index(forged) - 20) * 8)

        self.assertEqual(found(recover(log.disk)), before)


class OpeningTests(SynchronousTestCase):
    """Segments with checksums that match and contents that do not."""

    def refuse(self, *rounds: list[object], reason: str) -> None:
        """Check that a first segment of these rounds is refused."""
        disk = disk_with({FIRST: segment(1, *(b"".join([encode_framed(r) for r in records]) for records in rounds))})
        self.assertIn(reason, str(self.assertRaises(WalDamaged, recover, disk)))

    def test_no_opening(self) -> None:
        """A segment without a whole opening is refused."""
        group = GroupRestated(1, 10, HardState(), Snapshot(conf_state=VOTERS), 0)
        self.refuse(reason="opening is not whole")
        self.refuse([], reason="opening is incomplete")
        self.refuse([*born(1)], reason="opening is incomplete")
        self.refuse([SegmentOpened(2, ()), group], reason="opening is incomplete")
        self.refuse([SegmentOpened(1, ()), *born(1)[:1]], reason="opening is incomplete")

    def test_opening_in_the_middle(self) -> None:
        """A restatement anywhere else is refused, be it in the last round or before."""
        self.refuse([SegmentOpened(0, ())], [SegmentOpened(0, ())], reason="not at the segment's beginning")
        self.refuse([SegmentOpened(0, ())], [SegmentOpened(0, ())], [], reason="not at the segment's beginning")

    def test_impossible_record(self) -> None:
        """An intact record that cannot follow the ones before it is refused, with its place."""
        self.refuse([SegmentOpened(0, ())], [Compacted(1, 1, 1, VOTERS)], [], reason="group 1: Compacted before")

    def test_partial_restatement(self) -> None:
        """A restatement must have all live entries or none."""
        group = GroupRestated(1, 10, HardState(), Snapshot(conf_state=VOTERS), 5, entries(1, 3))
        self.refuse([SegmentOpened(1, ()), group], reason="only some of its entries")

    def test_record_beyond_its_round(self) -> None:
        """A round that ends within a record is not whole, though the record's checksum matches."""
        opening, record = encode_framed(SegmentOpened(0, ())), encode_framed(born(1)[0])
        header = SegmentHeader(1, SALT, 1000, 0, 1)
        content = header.pack() + frame_round(header, 1, opening) + frame_round(header, 2, record[:-4]) + record[-4:]

        recovered = recover(disk_with({FIRST: content.ljust(1000, b"\0")}))

        self.assertEqual(recovered.tail, [])

    def test_rounds_of_another_segment(self) -> None:
        """A round or record with another segment's number is not this one's, even if the salts should be the same."""
        for foreign_round, foreign_record in ((2, 1), (1, 2)):
            header = SegmentHeader(1, SALT, 1000, 0, 1)
            record = encode_framed(born(1)[0], foreign_record)
            content = header.pack() + frame_round(header, 1, encode_framed(SegmentOpened(0, ())))
            content += frame_round(SegmentHeader(foreign_round, SALT, 1000, 0, 1), 2, record)

            recovered = recover(disk_with({FIRST: content.ljust(1000, b"\0")}))

            self.assertEqual(recovered.tail, [])

    def test_disagreement(self) -> None:
        """A segment whose opening contradicts the segments before it is refused."""
        first = segment(1, encode_framed(SegmentOpened(0, ())), b"".join(encode_framed(r) for r in born(1)))
        end = end_of(first)
        for opening in (
            [SegmentOpened(0, ())],
            [SegmentOpened(1, (5,)), GroupRestated(1, 10, HardState(1, 0, 0), Snapshot(conf_state=VOTERS), 0)],
            [SegmentOpened(1, ()), GroupRestated(1, 10, HardState(2, 0, 0), Snapshot(conf_state=VOTERS), 0)],
            [SegmentOpened(1, ()), GroupRestated(2, 10, HardState(1, 0, 0), Snapshot(conf_state=VOTERS), 0)],
        ):
            body = b"".join(encode_framed(record, 2) for record in opening)
            second = segment(2, body, previous_end=end, first_round=3)

            self.assertRaises(WalDamaged, recover, disk_with({FIRST: first, SECOND: second}))


class FuzzTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=600))
    def test_any_file(self, content: bytes) -> None:
        """Any bytes for a segment are refused."""
        self.assertRaises(WalError, recover, disk_with({FIRST: content}))

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_rounds(self, content: bytes) -> None:
        """Any bytes behind a good opening are no rounds."""
        good = segment(1, encode_framed(SegmentOpened(0, ())))
        end = end_of(good)
        spoilt = (good[:end] + content).ljust(1000, b"\0")

        recovered = recover(disk_with({FIRST: spoilt}))

        self.assertEqual((recovered.end, recovered.tail, recovered.images.groups), (end, [], {}))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=4))
    def test_any_payload(self, payloads: list[bytes]) -> None:
        """Records that hold any bytes under a matching checksum are read or refused."""
        content = segment(1, encode_framed(SegmentOpened(0, ())), frame_records(payloads, 1, SALT))
        disk = disk_with({FIRST: content})

        try:
            recovered = recover(disk)
        except WalDamaged:
            return
        self.assertEqual(len(recovered.tail), len(payloads))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(min_size=1, max_size=16), st.integers(0, 2**32 - 1), st.integers(0, 400))
    def test_lengths_that_lie(self, noise: bytes, length: int, position: int) -> None:
        """A length that reaches beyond the round is refused before anything is made of it."""
        log = small_log()
        content = bytearray(log.disk.content(FIRST))
        content[position : position + 4] = length.to_bytes(4, "little")
        content[position + 4 : position + 4 + len(noise)] = noise

        try:
            groups = found(recover(disk_with({FIRST: bytes(content)})))
        except WalError:
            return

        self.assertEqual(groups[1].entries[:3], [*entries(1, 1), *entries(2, 2, term=2)])
