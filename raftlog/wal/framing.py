"""How the log's bytes are laid out: segments of rounds of records, and the reading of one segment.

    segment   = segment header, round...          fixed length from its creation, zeros after the last round
    round     = round header, record...           what one write and sync put on disk, all or nothing
    record    = checksum, length, segment number, MessagePack

Every checksum (CRC-32) is seeded with the segment's salt, a random number from its header: what a recycled file still
holds, or what a client has put into a row, is never taken for part of the log.

Rounds are numbered through the whole log, and a round begins only after the one before it was synced. So a round that
cannot be read is a write that a crash cut short if nothing follows it, and damage if any later round can be found in
the file. A flipped bit in the very last round looks the same as a torn write: no checksum can tell these two apart.

Rounds begin at sectors of their own. So a sector that is lost takes one round with it and cannot hide the next, by
which the loss is found; and no write touches a sector with something acknowledged in it.

A segment has its full length before its name appears, and so a shorter one was truncated, which is damage as well.
Once the next segment exists its header says where this one ends; what lies beyond was never acknowledged from here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

from raftlog.wal.errors import WalDamaged, WalError

FORMAT_VERSION = 1
MAGIC = b"raftwal\n"
ROUND_MARK = b"ROUN"

# magic, format version, salt, number, length, end of the previous segment, first round; then the checksum.
_SEGMENT = struct.Struct("<8sIIQQQQ")
_CHECKSUM = struct.Struct("<I")
# mark, segment number, round number, bytes of records; preceded by the checksum.
_ROUND = struct.Struct("<4sQQQ")
# length, segment number; preceded by the checksum.
_RECORD = struct.Struct("<IQ")

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CHECKSUM.size
ROUND_HEADER_BYTES = _CHECKSUM.size + _ROUND.size
RECORD_HEADER_BYTES = _CHECKSUM.size + _RECORD.size
#: What a disk writes, or loses, as a whole.
SECTOR_BYTES = 512
#: One record; what length its field can express, less what keeps arithmetic on 32 bits harmless elsewhere.
RECORD_BYTES_MAX = (1 << 31) - 1

_pack_checksum = _CHECKSUM.pack
_pack_record = _RECORD.pack


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself.

    `length` is the file's, in bytes; `previous_end` is how far the segment before it counts; `first_round` is the
    number of its first round.
    """

    number: int
    salt: int
    length: int
    previous_end: int
    first_round: int

    def pack(self) -> bytes:
        """Return the header's bytes."""
        body = _SEGMENT.pack(
            MAGIC, FORMAT_VERSION, self.salt, self.number, self.length, self.previous_end, self.first_round
        )
        return body + _pack_checksum(crc32(body))


@dataclass(frozen=True, slots=True)
class Round:
    """A whole round as read: its place in the file, and the payload of every record with its offset."""

    number: int
    offset: int
    end: int
    payloads: tuple[tuple[int, memoryview], ...]


def frame_records(payloads: Iterable[bytes], segment: int, salt: int) -> bytes:
    """Return records as they lie in a round of this segment."""
    parts: list[bytes] = []
    for payload in payloads:
        head = _pack_record(len(payload), segment)
        parts += (_pack_checksum(crc32(payload, crc32(head, salt))), head, payload)
    return b"".join(parts)


def frame_round(header: SegmentHeader, number: int, records: bytes) -> bytes:
    """Put a header before framed records that says how far they reach."""
    head = _ROUND.pack(ROUND_MARK, header.number, number, len(records))
    return b"".join((_pack_checksum(crc32(head, header.salt)), head, records))


def parse_header(file: str, data: bytes | memoryview) -> SegmentHeader:
    """Read the header of a segment; WalError if it is of another format version, WalDamaged if it is none."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise WalDamaged(file, len(data), "the file ends within its header")
    body = bytes(data[: _SEGMENT.size])
    magic, version, salt, number, length, previous_end, first_round = _SEGMENT.unpack(body)
    if magic != MAGIC:
        raise WalDamaged(file, 0, "this is not a segment of a write-ahead log")
    if version != FORMAT_VERSION:
        raise WalError(f"{file}: format version {version}; this program reads version {FORMAT_VERSION}")
    if _CHECKSUM.unpack_from(data, _SEGMENT.size)[0] != crc32(body):
        raise WalDamaged(file, 0, "the header's checksum does not match")
    return SegmentHeader(number, salt, length, previous_end, first_round)


def aligned(offset: int) -> int:
    """Return the next beginning of a sector."""
    return -(-offset // SECTOR_BYTES) * SECTOR_BYTES


class SegmentReader:
    """Reads the rounds of one segment, given its header and all its bytes."""

    def __init__(self, file: str, header: SegmentHeader, data: bytes) -> None:
        self._file = file
        self._header = header
        self._data = memoryview(data)
        self._bytes = data

    def sealed_rounds(self, end: int) -> Iterator[Round]:
        """Read the rounds up to `end`, every one of which must be whole."""
        if not SECTOR_BYTES <= end <= len(self._data):
            raise WalDamaged(self._file, len(self._data), f"the next segment says that this one has {end} bytes")
        offset, number = SECTOR_BYTES, self._header.first_round
        while offset < end:
            found = self._round(offset, number, end)
            if isinstance(found, str):
                raise WalDamaged(self._file, offset, found)
            yield found
            offset, number = aligned(found.end), number + 1

    def open_rounds(self) -> Iterator[Round]:
        """Read the rounds of the newest segment, up to one that was never completed."""
        if len(self._data) != self._header.length:
            raise WalDamaged(
                self._file, len(self._data), f"the file has {len(self._data)} bytes instead of {self._header.length}"
            )
        offset, number = SECTOR_BYTES, self._header.first_round
        while not isinstance(found := self._round(offset, number, len(self._data)), str):
            yield found
            offset, number = aligned(found.end), number + 1
        later = self._later_round(offset, number)
        if later is not None:
            raise WalDamaged(self._file, offset, f"{found}, but a later round was written at byte {later}")

    def _round(self, offset: int, number: int, limit: int) -> Round | str:
        """Read the round that should begin at `offset`; if it is not whole, why."""
        head = self._round_header(offset)
        if head is None or head[0] != number:
            return f"no header of round {number}"
        begin = offset + ROUND_HEADER_BYTES
        end = begin + head[1]
        if end > limit:
            return f"round {number} reaches beyond the segment's end"
        payloads: list[tuple[int, memoryview]] = []
        while begin < end:
            payload = self._payload(begin, end)
            if payload is None:
                return f"round {number} has a record at byte {begin} that fails its checks"
            payloads.append((begin, payload))
            begin += RECORD_HEADER_BYTES + len(payload)
        return Round(number, offset, end, tuple(payloads))

    def _round_header(self, offset: int) -> tuple[int, int] | None:
        """Read the round number and the bytes of records that the header at `offset` announces."""
        if offset + ROUND_HEADER_BYTES > len(self._data):
            return None
        head = self._data[offset + _CHECKSUM.size : offset + ROUND_HEADER_BYTES]
        mark, segment, number, length = _ROUND.unpack(head)
        checksum = _CHECKSUM.unpack_from(self._data, offset)[0]
        if mark != ROUND_MARK or segment != self._header.number or checksum != crc32(head, self._header.salt):
            return None
        return number, length

    def _payload(self, offset: int, end: int) -> memoryview | None:
        """Read the payload of the record at `offset`; its length is checked against `end` before it is used."""
        begin = offset + RECORD_HEADER_BYTES
        if begin > end:
            return None
        length, segment = _RECORD.unpack_from(self._data, offset + _CHECKSUM.size)
        if length > end - begin or segment != self._header.number:
            return None
        content = self._data[offset + _CHECKSUM.size : begin + length]
        if _CHECKSUM.unpack_from(self._data, offset)[0] != crc32(content, self._header.salt):
            return None
        return self._data[begin : begin + length]

    def _later_round(self, offset: int, number: int) -> int | None:
        """Where, after `offset`, a round later than `number` begins."""
        for begin in range(aligned(offset + 1), len(self._data), SECTOR_BYTES):
            # The mark alone is looked at first: a start reads through all that is left of a segment of 64 MiB.
            if self._bytes.startswith(ROUND_MARK, begin + _CHECKSUM.size):
                head = self._round_header(begin)
                if head is not None and head[0] > number:
                    return begin
        return None
