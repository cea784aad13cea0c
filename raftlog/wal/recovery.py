"""Reads a log back: what every group's durable state is, and where the log ends. Changes nothing.

The newest segment may end in a round that was never completed; everything else must be whole, or WalDamaged says where
it is not. The last complete round is handed out apart, as `tail`: its sync may never have been asked for, or may have
failed while its bytes stayed in the page cache, so the caller must write it anew before it counts as durable. Every
earlier round is known to be on disk, because the next one began only after its sync had succeeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from raftlog.wal.directory import Directory, segment_name, segment_numbers
from raftlog.wal.errors import InvalidRecord, WalDamaged
from raftlog.wal.framing import (
    SECTOR_BYTES,
    SEGMENT_HEADER_BYTES,
    Round,
    SegmentHeader,
    SegmentReader,
    aligned,
    parse_header,
)
from raftlog.wal.image import Images
from raftlog.wal.records import AnyRecord, GroupRestated, Record, SegmentOpened, decode_record


@dataclass(slots=True)
class Recovered:
    """What a log holds. `images` leave out the `tail`, which begins at byte `end` of the last of `segments`."""

    images: Images = field(default_factory=Images)
    tail: list[Record] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    end: int = 0
    next_round: int = 1


def recover(directory: Directory) -> Recovered:
    """Read all segments, oldest first. Raises WalError."""
    recovered = Recovered()
    recovered.segments = segment_numbers(directory.names())
    headers = read_headers(directory, recovered.segments)
    for header, following in zip(headers, [*headers[1:], None], strict=False):
        if recovered.end and header.first_round != recovered.next_round:
            raise WalDamaged(segment_name(header.number), 0, f"it does not begin with round {recovered.next_round}")
        _read_segment(directory, header, following, recovered)
    return recovered


def read_headers(directory: Directory, numbers: list[int]) -> list[SegmentHeader]:
    """Read the headers of these segments, which must be all from the first to the last."""
    headers = []
    for index, number in enumerate(numbers):
        if number != numbers[0] + index:
            raise WalDamaged(segment_name(number - 1), 0, "the file is missing, though later segments are there")
        name = segment_name(number)
        header = parse_header(name, _read(directory, name, SEGMENT_HEADER_BYTES))
        if header.number != number:
            raise WalDamaged(name, 0, f"the file says that it is segment {header.number}")
        headers.append(header)
    return headers


def segment_rounds(directory: Directory, header: SegmentHeader, following: SegmentHeader | None) -> Iterator[Round]:
    """Read the rounds of a segment, given the header of the next one, if any. Raises WalDamaged on the way."""
    name = segment_name(header.number)
    reader = SegmentReader(name, header, _read(directory, name, None))
    return reader.open_rounds() if following is None else reader.sealed_rounds(following.previous_end)


def decode_round(file: str, found: Round) -> Iterator[tuple[int, AnyRecord]]:
    """Decode the records of a round, each with its offset."""
    for offset, payload in found.payloads:
        try:
            yield offset, decode_record(payload)
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise WalDamaged(file, offset, f"an intact record that this program cannot read: {error}") from error


def _read(directory: Directory, name: str, length: int | None) -> bytes:
    file = directory.open(name)
    try:
        return file.read(length)
    finally:
        file.close()


def _read_segment(
    directory: Directory, header: SegmentHeader, following: SegmentHeader | None, recovered: Recovered
) -> None:
    fold = SegmentFold(header, recovered.images, oldest=header.number == recovered.segments[0])
    held_back: Round | None = None
    for found in segment_rounds(directory, header, following):
        if held_back is not None:
            fold.add(held_back)
        held_back = found
    if held_back is None:
        raise WalDamaged(segment_name(header.number), SECTOR_BYTES, "its opening is not whole")
    if following is not None or held_back.number == header.first_round:
        fold.add(held_back)
        recovered.end, recovered.next_round = aligned(held_back.end), held_back.number + 1
    else:
        recovered.tail = fold.records(held_back)
        recovered.end, recovered.next_round = held_back.offset, held_back.number


class SegmentFold:
    """Folds one segment's rounds into the images."""

    def __init__(self, header: SegmentHeader, images: Images, oldest: bool) -> None:
        self._file = segment_name(header.number)
        self._header = header
        self._images = images
        self._oldest = oldest

    def add(self, found: Round) -> None:
        """Fold in a round. The first one of a segment is its opening."""
        if found.number == self._header.first_round:
            self._open(found)
            return
        for offset, record in decode_round(self._file, found):
            if isinstance(record, SegmentOpened | GroupRestated):
                raise WalDamaged(self._file, offset, "a restatement that is not at the segment's beginning")
            try:
                self._images.apply(record, self._header.number)
            except InvalidRecord as error:
                raise WalDamaged(self._file, offset, str(error)) from error

    def records(self, found: Round) -> list[Record]:
        """Decode the records of a round that is not an opening."""
        records: list[Record] = []
        for offset, record in decode_round(self._file, found):
            if isinstance(record, SegmentOpened | GroupRestated):
                raise WalDamaged(self._file, offset, "a restatement that is not at the segment's beginning")
            records.append(record)
        return records

    def _open(self, found: Round) -> None:
        records = list(decode_round(self._file, found))
        offset, opened = records[0] if records else (found.offset, None)
        if not isinstance(opened, SegmentOpened) or opened.groups != len(records) - 1:
            raise WalDamaged(self._file, offset, "the segment's opening is incomplete")
        if self._oldest:
            self._images.tombstones.update(opened.tombstones)
        elif opened.groups != len(self._images.groups) or set(opened.tombstones) != self._images.tombstones:
            raise WalDamaged(self._file, offset, "the segment's opening names other groups than the segments before")
        for offset, record in records[1:]:
            self._restate(offset, record)

    def _restate(self, offset: int, record: AnyRecord) -> None:
        if not isinstance(record, GroupRestated):
            raise WalDamaged(self._file, offset, "the segment's opening is incomplete")
        try:
            self._images.restate(record, self._header.number, known=not self._oldest)
        except InvalidRecord as error:
            raise WalDamaged(self._file, offset, str(error)) from error
