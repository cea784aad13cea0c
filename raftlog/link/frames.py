"""Frames: 4 bytes of length, big-endian, and that many bytes of payload. No I/O.

A length is judged as soon as it is read, before anything of the frame is kept, so a decoder never holds more than one
permitted frame and one read. An empty payload is a frame too; connections use it to show that they are alive.
"""

from __future__ import annotations

from struct import Struct

_LENGTH = Struct(">I")
HEADER_BYTES = _LENGTH.size

#: A whole frame with nothing in it.
EMPTY_FRAME = _LENGTH.pack(0)


class FrameError(Exception):
    """The peer announced a frame above the limit: it speaks another protocol, or means harm."""

    def __init__(self, length: int, bytes_max: int) -> None:
        super().__init__(f"a frame of {length} bytes, at most {bytes_max} are allowed")


def frame(payload: bytes) -> bytes:
    """Return `payload` as a frame."""
    return _LENGTH.pack(len(payload)) + payload


def first_payload(data: bytes | bytearray, bytes_max: int) -> bytes | None:
    """Return the payload of the frame that `data` begins with, None if it is not complete; raise FrameError."""
    if len(data) < HEADER_BYTES:
        return None
    (length,) = _LENGTH.unpack_from(data)
    if length > bytes_max:
        raise FrameError(length, bytes_max)
    stop = HEADER_BYTES + length
    return bytes(data[HEADER_BYTES:stop]) if len(data) >= stop else None


class FrameDecoder:
    """Cuts a byte stream into payloads of at most `bytes_max` bytes.

    A payload is a view of what came in: a long one is not copied on its way to who decodes it.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        #: The beginning of a frame that is not complete yet.
        self._partial = bytearray()
        #: How long `_partial` must become before looking at it again is of use.
        self._wanted_bytes = HEADER_BYTES

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._partial)

    def feed(self, data: bytes) -> list[memoryview]:
        """Return the payloads that `data` completes; raise FrameError, after which the decoder is of no use."""
        if not self._partial:
            return self._cut(memoryview(data))
        self._partial += data
        if len(self._partial) < self._wanted_bytes:
            return []
        complete, self._partial = self._partial, bytearray()
        return self._cut(memoryview(complete))

    def _cut(self, data: memoryview) -> list[memoryview]:
        payloads = []
        start, end = 0, len(data)
        self._wanted_bytes = HEADER_BYTES
        while end - start >= HEADER_BYTES:
            (length,) = _LENGTH.unpack_from(data, start)
            if length > self._bytes_max:
                raise FrameError(length, self._bytes_max)
            stop = start + HEADER_BYTES + length
            if stop > end:
                self._wanted_bytes = stop - start
                break
            payloads.append(data[start + HEADER_BYTES : stop])
            start = stop
        self._partial += data[start:]
        return payloads
