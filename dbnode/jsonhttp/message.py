"""The bytes of whole answers."""

from __future__ import annotations

from http import HTTPStatus

from dbnode.jsonhttp.answer import HeaderPairs, Response

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_CLOSE: HeaderPairs = ((b"Connection", b"close"),)


class Messages:
    """Writes answers. What the answers of one second have in common is put together once (`turn` ends the second)."""

    def __init__(self, date: bytes) -> None:
        self.date = date
        self._heads: dict[tuple[int, HeaderPairs, bool], bytes] = {}

    def turn(self, date: bytes) -> None:
        """Date answers anew (RFC 9110 §6.6.1)."""
        self.date = date
        self._heads.clear()

    def whole(self, response: Response, *, keep_alive: bool) -> bytes:
        """Return an answer's bytes; without `keep_alive` it tells the client that the connection ends with it."""
        key = (response.status, response.headers, keep_alive)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self._head(response.status, response.headers if keep_alive else _CLOSE + key[1])
        return b"%b%d\r\n\r\n%b" % (head, len(response.body), response.body)

    def _head(self, status: int, headers: HeaderPairs) -> bytes:
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b"Unknown")), b"Date: " + self.date]
        lines += [b"%b: %b" % pair for pair in headers]
        return b"\r\n".join([*lines, b"Content-Length: "])
