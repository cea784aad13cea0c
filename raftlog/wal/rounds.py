"""Writes rounds: the only code that changes the log on disk, in whatever thread it is told to run.

One call of `write` puts everything queued meanwhile on disk with one write that syncs, or fails for good. Nothing here
looks into a record, so that the thread it usually runs in holds the interpreter as little as possible.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Sequence

from raftlog.wal.directory import NEXT_NAME, SPARE_NAME, Directory, File, segment_name
from raftlog.wal.framing import SegmentHeader, aligned, frame_round
from raftlog.wal.space import Space
from raftlog.wal.stage import Chunk, Opening


class NoSpace(Exception):
    """The disk has no room for another segment. Nothing was written; the same round may be tried again later."""


class RoundWriter:
    """Appends rounds to the newest segment, opens new ones and takes old ones away.

    `end` and `next_round` say where the log read at the start ends; the first chunk written opens a new segment.
    """

    def __init__(self, directory: Directory, space: Space, segments: Iterable[int], end: int, next_round: int) -> None:
        self.segments = deque(segments)
        self.bytes_written = 0
        self._directory = directory
        self._space = space
        self._end = end
        self._next_round = next_round
        self._header: SegmentHeader | None = None
        self._file: File | None = None
        self._spare_length = 0
        #: Length of each segment that was written since the start; only those can become the spare.
        self._written: dict[int, int] = {}

    @property
    def position(self) -> str:
        """The file and offset of the next round, for messages."""
        return f"{segment_name(self.segments[-1] if self.segments else 1)} at byte {self._end}"

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Make chunks durable, as one round. Only the first may open a segment.

        Raises NoSpace, after which the same call may be repeated, or OSError, after which the log must be given up.
        """
        records = b"".join([chunk.body for chunk in chunks])
        opening = chunks[0].opening
        if opening is not None:
            self._open_segment(opening, records)
        elif records:
            assert self._file is not None and self._header is not None
            data = frame_round(self._header, self._next_round, records)
            self._file.write(self._end, data)
            self._advance(len(data), 1)

    def delete_before(self, number: int) -> None:
        """Take away the segments before this one. One of them is kept as a spare, for its blocks.

        The directory is synced after each, so that a crash never leaves a gap in the row of segments.
        """
        while self.segments[0] < number:
            oldest = self.segments.popleft()
            length = self._written.pop(oldest, 0)
            if length and not self._spare_length:
                self._directory.rename(segment_name(oldest), SPARE_NAME)
                self._spare_length = length
            else:
                self._directory.remove(segment_name(oldest))
            self._directory.sync()

    def close(self) -> None:
        """Close the file being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_segment(self, opening: Opening, records: bytes) -> None:
        """Begin a new segment with its opening and a first round; its name appears once all that is on disk."""
        header = SegmentHeader(opening.number, opening.salt, opening.length, self._end, self._next_round)
        data = _fill_sector(header.pack()) + frame_round(header, header.first_round, opening.body)
        if records:
            data = _fill_sector(data) + frame_round(header, header.first_round + 1, records)
        file = self._blank(opening.length)
        file.write(0, data)
        self._directory.rename(NEXT_NAME, segment_name(header.number))
        self._directory.sync()
        self.close()
        self._file, self._header, self._end = file, header, 0
        self.segments.append(header.number)
        self._written[header.number] = header.length
        self._advance(len(data), 2 if records else 1)

    def _blank(self, length: int) -> File:
        """Return a file for the next segment: the spare, whose blocks were written before, or a new one.

        Rounds of 20 kB take 0.10 ms into written blocks and 0.16 ms into blocks that were only set aside.
        """
        if self._spare_length == length:
            self._spare_length = 0
            self._directory.rename(SPARE_NAME, NEXT_NAME)
            return self._directory.open(NEXT_NAME)
        try:
            return self._directory.create(NEXT_NAME, length)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        if not self._release_room():
            raise NoSpace
        return self._blank(length)

    def _release_room(self) -> bool:
        if self._spare_length:
            self._directory.remove(SPARE_NAME)
            self._spare_length = 0
            return True
        return self._space.release()

    def _advance(self, written: int, rounds: int) -> None:
        self._end = aligned(self._end + written)
        self.bytes_written += written
        self._next_round += rounds


def _fill_sector(data: bytes) -> bytes:
    return data.ljust(aligned(len(data)), b"\0")
