"""Reads one request after the other from the bytes of a connection, by httptools; no I/O here.

A request ends where RFC 9112 §6 says, and never a byte later: what follows it may not be for this reader. httptools
cannot be stopped in the middle of what it is fed, so it is fed no more than belongs to the request: the head as a
whole, of a body with a length that length, and of a chunked one line by line, since its end is the end of a line.

What cannot be read is refused, never guessed: two lengths, a length and chunks, folded lines, bare line ends.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from dbnode.errors import ApiError

_END_OF_HEAD = b"\r\n\r\n"
#: Headers of one request; as many as twisted.web takes.
HEADERS_MAX = 500


class NotForUs(Exception):
    """The request is to be read by another reader. `data` is all of it that came.

    Either it asks to leave HTTP/1.1 (Upgrade), which httptools takes for its end, or its body is lines, which may be
    of any length and are taken while they come.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


class RequestReader:
    """Collects a request: `headers` by lower-case name (of equal ones the last), `body`, and whether to keep going.

    `begun` tells whether the head is complete and the body is not. `keep_alive` is what the client wants of the
    connection after the answer, `expects` whether it waits for the word to send the body (RFC 9110 §10.1.1); whoever
    says it sets that to False.
    """

    def __init__(self, head_bytes_max: int, body_bytes_max: int) -> None:
        self._head_bytes_max = head_bytes_max
        self._body_bytes_max = body_bytes_max
        self._parser = HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.keep_alive = True
        self.begun = False
        self.expects = False
        self._head = b""
        self._parsed: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._size = 0
        #: Bytes of the body that are to come, None if it comes in chunks.
        self._missing: int | None = 0
        #: Bytes since the last one that belonged to the body: framing, and fields after the last chunk.
        self._framing = 0
        self._complete = False

    def take(self, data: bytes) -> bytes | None:
        """Take bytes; return those after the request's end, None while it has none.

        Raises ApiError for a request that cannot be read or is too long, NotForUs for an Upgrade and for lines.
        """
        if self._complete:
            self._reset()
        try:
            rest = self._take_body(data) if self.begun else self._take_head(data)
        except HttpParserError as error:
            raise ApiError("bad_request", f"the request is malformed: {error}") from None
        return rest if self._complete else None

    @property
    def held_bytes(self) -> int:
        """How much there is of a request that is not complete."""
        return len(self._head) + self._size

    @property
    def body(self) -> bytes:
        """The whole body of a complete request."""
        return self._body if isinstance(self._body, bytes) else bytes(self._body)

    def _take_head(self, data: bytes) -> bytes:
        whole = self._head + data if self._head else data
        # The end may lie across two pieces.
        end = whole.find(_END_OF_HEAD, max(0, len(self._head) - len(_END_OF_HEAD)))
        size = end + len(_END_OF_HEAD)
        if (size if end >= 0 else len(whole)) > self._head_bytes_max:
            raise _too_long(self._head_bytes_max)
        if end < 0:
            self._head = whole
            return b""
        self._feed_head(whole[:size], whole)
        rest = whole[size:]
        return rest if self._complete else self._take_body(rest)

    def _feed_head(self, head: bytes, whole: bytes) -> None:
        if head.count(b"\r\n") > HEADERS_MAX + 2:
            raise ApiError("headers_too_large", f"there are more than {HEADERS_MAX} headers", status=431)
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            raise NotForUs(whole) from None
        headers = self.headers = self._parsed
        if b"ndjson" in headers.get(b"content-type", b"").lower():
            raise NotForUs(whole)
        self._parsed = {}  # fields after the last chunk are no headers
        if self._complete:
            return
        self.begun = True
        self.expects = headers.get(b"expect", b"").lower() == b"100-continue"
        if b"transfer-encoding" in headers:
            if headers[b"transfer-encoding"].lower() != b"chunked" or head.lower().count(b"\r\ntransfer-encoding:") > 1:
                raise ApiError("bad_request", "Transfer-Encoding can only be: chunked")
            self._missing = None
            return
        self._missing = int(headers[b"content-length"])
        if self._missing > self._body_bytes_max:
            raise self._body_too_large()

    def _take_body(self, data: bytes) -> bytes:
        if self._missing is not None:
            piece = data[: self._missing]
            self._missing -= len(piece)
            self._parser.feed_data(piece)
            return data[len(piece) :]
        start = 0
        while start < len(data) and not self._complete:
            end = data.find(b"\n", start) + 1 or len(data)
            self._framing += end - start
            self._parser.feed_data(data[start:end])
            start = end
            if self._size > self._body_bytes_max:
                raise self._body_too_large()
            if self._framing > self._head_bytes_max:
                raise _too_long(self._head_bytes_max)
        return data[start:]

    def _body_too_large(self) -> ApiError:
        return ApiError("body_too_large", f"the body is longer than {self._body_bytes_max} bytes", status=413)

    # ---- what httptools calls -----------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._parsed[name.lower()] = value.rstrip(b" \t")

    def on_headers_complete(self) -> None:
        """Note what is to become of the connection; httptools forgets it at the end."""
        self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        self.expects = False
        if not self._size:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece
        self._size += len(piece)
        self._framing = 0

    def on_message_complete(self) -> None:
        """Note the end."""
        self._complete = True


def _too_long(bytes_max: int) -> ApiError:
    return ApiError("headers_too_large", f"the headers are longer than {bytes_max} bytes", status=431)
