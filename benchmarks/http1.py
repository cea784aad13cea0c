"""Reads HTTP/1.1 responses out of raw bytes, for a client with one request outstanding per connection.

No I/O here: bytes go in, responses come out. The usual small answer, which arrives whole and says its length, takes
a path of three searches, so that the client is never what a benchmark measures. Everything else is read by a
generator that suspends wherever bytes are missing, in time linear in the answer's length.

Framing follows RFC 9112 §6.3: chunked, else Content-Length, else until the connection closes.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import NamedTuple, TypeAlias

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*(?=\r\n)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*close", re.IGNORECASE)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) (\d\d\d)(?: [^\r\n]*)?\r\n")
#: A head longer than this is no answer of a server that we measure; the bound keeps a stray peer from filling memory.
_HEAD_BYTES_MAX = 65_536
#: Statuses without a body, whatever the head says (RFC 9110 §6.4.1).
_BODILESS = (204, 304)


class Response(NamedTuple):
    """A whole answer. `reusable` tells whether the connection may carry the next request."""

    status: int
    body: bytes
    reusable: bool


class MalformedResponseError(Exception):
    """The peer's fault: these bytes are no HTTP/1.1 response, or it ended too early."""


_Reading: TypeAlias = Generator[None, None, Response]


class ResponseParser:
    """Feed it what arrives; it returns a response once one is whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._closed = False
        self._reading: _Reading | None = None

    def feed(self, data: bytes) -> Response | None:
        """Return the response that these bytes complete, or None while bytes are missing.

        Raises MalformedResponseError; the connection is of no use then.
        """
        if self._reading is None:
            response = _whole(data)
            if response is not None:
                return response
            self._reading = self._read()
        self._buffer += data
        return self._resume()

    def close(self) -> Response | None:
        """Say that the connection closed; return the response that only this ends, if any.

        Raises MalformedResponseError if a response had begun and is cut off.
        """
        if self._reading is None:
            return None
        self._closed = True
        return self._resume()

    def _resume(self) -> Response | None:
        assert self._reading is not None
        try:
            next(self._reading)
        except StopIteration as done:
            self._reading = None
            if self._buffer:
                raise MalformedResponseError("bytes after the end of the response") from None
            response: Response = done.value
            return response
        return None

    def _read(self) -> _Reading:
        head = yield from self._until(b"\r\n\r\n", _HEAD_BYTES_MAX)
        line = _STATUS_LINE.match(head)
        if line is None:
            raise MalformedResponseError(f"no status line of HTTP/1.1: {head[:60]!r}")
        status = int(line[2])
        reusable = line[1] == b"1" and _CLOSE.search(head) is None
        length = _LENGTH.search(head)
        if status in _BODILESS:
            body = b""
        elif _CHUNKED.search(head) is not None:
            body = yield from self._chunks()
        elif length is not None:
            body = yield from self._exactly(int(length[1]))
        else:
            body = yield from self._rest()
            reusable = False
        return Response(status, body, reusable)

    def _chunks(self) -> Generator[None, None, bytes]:
        body = bytearray()
        while True:
            line = yield from self._until(b"\r\n", _HEAD_BYTES_MAX)
            size = _chunk_size(line)
            if size == 0:
                break
            body += yield from self._exactly(size)
            if (yield from self._exactly(2)) != b"\r\n":
                raise MalformedResponseError("a chunk is longer than it said")
        while (yield from self._until(b"\r\n", _HEAD_BYTES_MAX)) != b"\r\n":
            continue  # a trailer field, which says nothing to us
        return bytes(body)

    def _until(self, mark: bytes, bytes_max: int) -> Generator[None, None, bytes]:
        while (found := self._buffer.find(mark)) < 0:
            if len(self._buffer) > bytes_max:
                raise MalformedResponseError(f"no {mark!r} in {bytes_max} bytes")
            yield from self._more()
        return self._take(found + len(mark))

    def _exactly(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield from self._more()
        return self._take(count)

    def _rest(self) -> Generator[None, None, bytes]:
        while not self._closed:
            yield
        return self._take(len(self._buffer))

    def _more(self) -> Generator[None, None, None]:
        if self._closed:
            raise MalformedResponseError("the connection closed in the middle of a response")
        yield

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _whole(data: bytes) -> Response | None:
    """Return the response if `data` is exactly one that says its length, else None: then read it the long way."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith(b"HTTP/1.1 "):
        return None
    length = _LENGTH.search(data, 0, end + 2)
    if length is None or len(data) != end + 4 + int(length[1]):
        return None
    if _CHUNKED.search(data, 0, end + 2) is not None:
        return None
    return Response(int(data[9:12]), data[end + 4 :], _CLOSE.search(data, 0, end + 2) is None)


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    try:
        return int(digits, 16)
    except ValueError:
        raise MalformedResponseError(f"no chunk size: {line[:40]!r}") from None
