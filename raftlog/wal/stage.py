"""Puts records on their way to disk: encodes them, decides which segment takes them, and keeps the image current.

This half runs in the caller's thread and does all the thinking; `raftlog.wal.rounds` only writes what comes out.

Every segment opens with a restatement of all groups and tombstones. So no segment is needed for anything but the live
entries in it, and the oldest ones go as soon as compaction has passed them. The few live entries of a group that does
not compact because nothing happens to it are repeated in that restatement: an idle group never pins an old segment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftlog.wal.errors import InvalidRecord
from raftlog.wal.framing import RECORD_BYTES_MAX, ROUND_HEADER_BYTES, SECTOR_BYTES, aligned, frame_records
from raftlog.wal.image import GroupImage, Images
from raftlog.wal.options import Options
from raftlog.wal.records import (
    AnyRecord,
    Appended,
    GroupRestated,
    Record,
    SegmentOpened,
    encode_record,
)


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of a new segment: its number, salt and length, and its first round's framed records."""

    number: int
    salt: int
    length: int
    body: bytes


@dataclass(slots=True)
class Chunk:
    """What one submit put on the queue; it goes to disk in one round, and never into two.

    `opening`, if any, comes before it: this chunk is the first of a new segment. Once it is durable, segments before
    `needed_from` hold nothing that anyone needs. `synced` is set by the thread that writes.
    """

    body: bytes
    records: int
    entries: int
    done: Callable[[], None]
    staged_at: float
    segment: int
    opening: Opening | None
    needed_from: int
    synced: bool = False


class Stage:
    """Turns records into chunks. `segment` is the number of the segment that takes the next one.

    The first segment opened may be shorter than the options say, which is how a log starts on a full disk.
    """

    def __init__(
        self, images: Images, segment: int, options: Options, rng: random.Random, first_segment_bytes: int
    ) -> None:
        self.images = images
        self.segment = segment
        self._options = options
        self._segment_bytes = first_segment_bytes
        self._rng = rng
        self._salt = 0
        #: What is left in the segment; less than what nothing takes, so that the first chunk opens one.
        self._room = -1

    def chunk(self, records: Sequence[Record], done: Callable[[], None], now: float) -> Chunk:
        """Take records in; they count from now on. The first chunk after a start opens a segment of its own.

        Raises InvalidRecord for a record that cannot follow what is there; the log must not be used after that.
        """
        payloads = [_encode(record) for record in records]
        body = frame_records(payloads, self.segment, self._salt)
        opening = None
        if _round_bytes(len(body)) > self._room:
            opening = self._open_segment(_round_bytes(len(body)))
            body = frame_records(payloads, self.segment, self._salt)
        self._room -= _round_bytes(len(body))
        entries = 0
        for record in records:
            self.images.apply(record, self.segment)
            if type(record) is Appended:
                entries += len(record.entries)
        needed_from = self.images.oldest_pinned(self.segment)
        return Chunk(body, len(records), entries, done, now, self.segment, opening, needed_from)

    def written(self, chunks: Sequence[Chunk]) -> None:
        """Take back the room that chunks were given each for a round of its own, as they went to disk in one."""
        if chunks[0].segment == self.segment:
            sizes = [len(chunk.body) for chunk in chunks]
            self._room += sum(map(_round_bytes, sizes)) - _round_bytes(sum(sizes))

    def pinning_groups(self) -> list[int]:
        """Name the groups that hold segments older than should be kept, the oldest first."""
        oldest = self.segment - self._options.segments_kept
        if self.images.oldest_pinned(self.segment) > oldest:
            # As nearly always; this is asked often, and there may be thousands of groups.
            return []
        pinning = [
            (group.pinned_segment, group.group_id)
            for group in self.images.groups.values()
            if group.pinned_segment is not None and group.pinned_segment <= oldest
        ]
        return [group_id for _, group_id in sorted(pinning)]

    def _open_segment(self, first_round_bytes: int) -> Opening:
        self.segment += 1
        self._salt = self._rng.getrandbits(32)
        rewritten = self._groups_to_rewrite()
        groups = self.images.groups.values()
        restated = [_restate(group, with_entries=group.group_id in rewritten) for group in groups]
        for record in restated:
            self.images.restate(record, self.segment)
        opened = SegmentOpened(len(restated), tuple(sorted(self.images.tombstones)))
        body = frame_records([_encode(opened), *map(_encode, restated)], self.segment, self._salt)
        # Twice the opening, so that a crowd of groups does not open a segment for every chunk.
        needed = SECTOR_BYTES + 2 * _round_bytes(len(body)) + first_round_bytes
        length = max(aligned(self._segment_bytes), needed)
        self._segment_bytes = self._options.segment_bytes
        self._room = length - SECTOR_BYTES - _round_bytes(len(body))
        return Opening(self.segment, self._salt, length, body)

    def _groups_to_rewrite(self) -> set[int]:
        """Small groups that pin old segments, the oldest first, up to a quarter of a segment in all."""
        budget = self._options.segment_bytes // 4
        chosen = set()
        for group_id in self.pinning_groups():
            group = self.images.groups[group_id]
            if group.bytes > self._options.rewrite_bytes_max or group.missing_index > group.snapshot.index:
                continue
            budget -= group.bytes
            if budget < 0:
                break
            chosen.add(group_id)
        return chosen


def _round_bytes(records_bytes: int) -> int:
    """Return what a round of so many bytes of framed records takes up; without any it is not written."""
    return aligned(ROUND_HEADER_BYTES + records_bytes) if records_bytes else 0


def _restate(group: GroupImage, with_entries: bool) -> GroupRestated:
    entries = tuple(group.entries) if with_entries else ()
    return GroupRestated(
        group.group_id,
        group.replica_id,
        group.hard_state,
        group.snapshot,
        group.last_index,
        entries,
        group.incoming,
    )


def _encode(record: AnyRecord) -> bytes:
    payload = encode_record(record)
    if len(payload) > RECORD_BYTES_MAX:
        raise InvalidRecord(f"a record of {len(payload)} bytes; the limit is {RECORD_BYTES_MAX}")
    return payload
