"""Logs as bytes: for tests that damage them, and that make up what no log would write."""

from __future__ import annotations

import random

from raftlog.messages import HardState
from raftlog.test.wal_fixture import SteppedLog, born, entries, small_options
from raftlog.testing.disk import MemoryDisk
from raftlog.wal import Appended, RecoveredGroup
from raftlog.wal.framing import (
    SECTOR_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    SegmentReader,
    aligned,
    frame_records,
    frame_round,
    parse_header,
)
from raftlog.wal.opening import copy_group
from raftlog.wal.records import AnyRecord, encode_record
from raftlog.wal.recovery import Recovered

FIRST = "0000000000000001.wal"
SECOND = "0000000000000002.wal"
THIRD = "0000000000000003.wal"

#: The length of a small log: its header, its opening, four rounds, and a sector that is not used.
SMALL = 7 * SECTOR_BYTES
SALT = 77


def small_log(segment_bytes: int = SMALL) -> SteppedLog:
    """Return a log of one segment and four rounds."""
    log = SteppedLog(options=small_options(segment_bytes=segment_bytes))
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


def disk_with(files: dict[str, bytes]) -> MemoryDisk:
    """Return a disk that holds just these files."""
    disk = MemoryDisk(random.Random(1))
    for name, content in files.items():
        disk.replace(name, content)
    return disk


def pieces(content: bytes, end: int | None = None) -> list[range]:
    """Return the bytes that mean something in a segment, or in so much of it: its header, and each of its rounds."""
    reader = SegmentReader(FIRST, parse_header(FIRST, content), content)
    rounds = reader.open_rounds() if end is None else reader.sealed_rounds(end)
    return [range(SEGMENT_HEADER_BYTES), *(range(each.offset, each.end) for each in rounds)]


def bits(*spans: range) -> list[int]:
    """Return the numbers of all bits in some bytes."""
    return [bit for span in spans for bit in range(span.start * 8, span.stop * 8)]


def segment(number: int, *rounds: bytes, previous_end: int = 0, first_round: int = 1) -> bytes:
    """Return a segment of these rounds of framed records, with room for more."""
    length = (len(rounds) + 4) * SECTOR_BYTES
    header = SegmentHeader(number, SALT, length, previous_end, first_round)
    content = header.pack()
    for index, body in enumerate(rounds):
        content = content.ljust(aligned(len(content)), b"\0") + frame_round(header, first_round + index, body)
    return content.ljust(length, b"\0")


def framed(*records: AnyRecord, number: int = 1) -> bytes:
    """Return records in their frames."""
    return frame_records([encode_record(record) for record in records], number, SALT)
