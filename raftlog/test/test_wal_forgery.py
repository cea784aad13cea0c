"""Segments that no log wrote: checksums that match contents that do not, and bytes without any meaning."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import HardState, Snapshot
from raftlog.test.wal_bytes import FIRST, SALT, SECOND, SMALL, disk_with, found, framed, pieces, segment, small_log
from raftlog.test.wal_fixture import VOTERS, born, entries
from raftlog.wal import Compacted, WalDamaged, WalError
from raftlog.wal.framing import SECTOR_BYTES, aligned, frame_records, frame_round, parse_header
from raftlog.wal.records import AnyRecord, GroupRestated, SegmentOpened, encode_record
from raftlog.wal.recovery import recover


class OpeningTests(SynchronousTestCase):
    """Segments with checksums that match and contents that do not."""

    def refuse(self, *rounds: list[AnyRecord], reason: str) -> None:
        """Check that a first segment of these rounds is refused."""
        disk = disk_with({FIRST: segment(1, *(framed(*records) for records in rounds))})
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

    def test_no_record_at_all(self) -> None:
        """Bytes under a checksum that matches and that are no record, or never end, are refused with their place."""
        for payload in (b"", b"\x92\x01\xa1\xff", b"\x91" * 1100, encode_record(SegmentOpened(0, ()))[:-1]):
            content = segment(1, framed(SegmentOpened(0, ())), frame_records([payload], 1, SALT))

            error = self.assertRaises(WalDamaged, recover, disk_with({FIRST: content}))

            self.assertIn("cannot read", str(error))

    def test_partial_restatement(self) -> None:
        """A restatement must have all live entries or none."""
        group = GroupRestated(1, 10, HardState(), Snapshot(conf_state=VOTERS), 5, entries(1, 3))
        self.refuse([SegmentOpened(1, ()), group], reason="only some of its entries")

    def test_record_beyond_its_round(self) -> None:
        """A round that ends within a record is not whole, though the record's checksum matches."""
        whole = segment(1, framed(SegmentOpened(0, ())), framed(born(1)[0]))
        span = pieces(whole)[-1]
        shorter = frame_round(parse_header(FIRST, whole), 2, framed(born(1)[0])[:-4])
        content = whole[: span.start] + shorter + whole[span.stop - 4 :]

        self.assertEqual(recover(disk_with({FIRST: whole})).tail, born(1)[:1])
        self.assertEqual(recover(disk_with({FIRST: content})).tail, [])

    def test_rounds_of_another_segment(self) -> None:
        """A round or record with another segment's number is not this one's, even if the salts should be the same."""
        opened = framed(SegmentOpened(0, ()))
        foreign_record = segment(1, opened, framed(born(1)[0], number=2))
        own, foreign = segment(1, opened, framed(born(1)[0])), segment(2, b"", framed(born(1)[0]))
        foreign_round = own[: pieces(own)[-1].start] + foreign[pieces(own)[-1].start :].ljust(SMALL, b"\0")

        self.assertEqual(recover(disk_with({FIRST: foreign_record})).tail, [])
        self.assertEqual(recover(disk_with({FIRST: foreign_round[: len(own)]})).tail, [])

    def test_rounds_missing_between_segments(self) -> None:
        """A segment that does not go on with the number after the last round of the one before is refused."""
        first = segment(1, framed(SegmentOpened(0, ())))
        second = segment(
            2, framed(SegmentOpened(0, ()), number=2), previous_end=aligned(pieces(first)[-1].stop), first_round=3
        )

        error = self.assertRaises(WalDamaged, recover, disk_with({FIRST: first, SECOND: second}))

        self.assertIn("does not begin with round 2", str(error))

    def test_disagreement(self) -> None:
        """A segment whose opening contradicts the segments before it is refused."""
        first = segment(1, framed(SegmentOpened(0, ())), framed(*born(1)))
        openings: list[list[AnyRecord]] = [
            [SegmentOpened(0, ())],
            [SegmentOpened(1, (5,)), GroupRestated(1, 10, HardState(1, 0, 0), Snapshot(conf_state=VOTERS), 0)],
            [SegmentOpened(1, ()), GroupRestated(1, 10, HardState(2, 0, 0), Snapshot(conf_state=VOTERS), 0)],
            [SegmentOpened(1, ()), GroupRestated(2, 10, HardState(1, 0, 0), Snapshot(conf_state=VOTERS), 0)],
        ]
        for opening in openings:
            second = segment(2, framed(*opening, number=2), previous_end=aligned(pieces(first)[-1].stop), first_round=3)

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
        good = segment(1, framed(SegmentOpened(0, ())))
        end = aligned(pieces(good)[-1].stop)
        spoilt = good[:end] + content + good[end + len(content) :]

        recovered = recover(disk_with({FIRST: spoilt}))

        self.assertEqual((recovered.end, recovered.tail, recovered.images.groups), (end, [], {}))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=4))
    def test_any_payload(self, payloads: list[bytes]) -> None:
        """Records that hold any bytes under a matching checksum are read or refused."""
        content = segment(1, framed(SegmentOpened(0, ())), frame_records(payloads, 1, SALT))
        disk = disk_with({FIRST: content})

        try:
            recovered = recover(disk)
        except WalDamaged:
            return
        self.assertEqual(len(recovered.tail), len(payloads))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(min_size=1, max_size=24), st.integers(0, 2**32 - 1), st.data())
    def test_lengths_that_lie(self, noise: bytes, length: int, data: st.DataObject) -> None:
        """Whatever is written over a part of a sector, lengths above all, is noticed or does no harm."""
        log = small_log()
        content = bytearray(log.disk.content(FIRST))
        damage = length.to_bytes(4, "little") + noise
        sector = data.draw(st.integers(0, 5))
        begin = sector * SECTOR_BYTES + data.draw(st.integers(0, SECTOR_BYTES - len(damage)))
        content[begin : begin + len(damage)] = damage

        try:
            groups = found(recover(disk_with({FIRST: bytes(content)})))
        except WalError:
            return

        self.assertEqual(groups[1].entries[:3], [*entries(1, 1), *entries(2, 2, term=2)])
