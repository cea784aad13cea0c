"""Plain requests: whole, in one piece, with nothing unusual about them; read and answered in one go.

Nearly every request of a busy client is one. twisted.web's reader goes line by line and makes an object of every
header, which costs several times what the request itself does. Whatever is not plain, however slightly, is left to
it: `parse` never refuses anything (RFC 9112 decides there, not here).
"""

from __future__ import annotations

from http import HTTPStatus

from dbnode.jsonhttp.answer import Response

#: What may stand in a header's name (RFC 9110 §5.6.2), and what may not stand in a head besides the line ends.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CONTROLS = b"\0\r\n"
#: Headers that change how a request is read or what must become of its connection.
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"trailer"))
#: Names of headers as they were written, and in lower case; clients use few. Bounded, since clients choose them.
_lower_names: dict[bytes, bytes] = {}
_LOWER_NAMES_MAX = 1000
#: More digits are no length that any limit allows; int() refuses thousands of them.
_LENGTH_DIGITS_MAX = 18
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def parse(data: bytes, head_bytes_max: int) -> tuple[dict[bytes, bytes], bytes] | None:
    """Return headers (by lower-case name) and body if `data` is exactly one plain request, else None."""
    head, end, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not end or len(head) > head_bytes_max:
        return None
    if len(head.translate(None, _CONTROLS)) != len(head) - 2 * (len(lines) - 1):
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        written, colon, value = line.partition(b":")
        name = _lower_names.get(written) or _lower_name(written)
        if not colon or name is None or name in headers:
            return None
        headers[name] = value.strip(b" \t")
    if not _UNUSUAL.isdisjoint(headers) or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > _LENGTH_DIGITS_MAX or int(length) != len(body):
        return None
    return headers, body


def whole(response: Response, *further: tuple[bytes, bytes]) -> bytes:
    """Return the bytes of an answer, with further headers."""
    lines = [b"HTTP/1.1 %d %s" % (response.status, _REASONS.get(response.status, b"Unknown"))]
    lines += [b"%s: %s" % pair for pair in (*further, *response.headers)]
    lines += [b"Content-Length: %d" % len(response.body), b"", response.body]
    return b"\r\n".join(lines)


def _lower_name(written: bytes) -> bytes | None:
    """Return a header's name in lower case, None if it is no name; remembers it if there is room."""
    if not written or written.translate(None, _TOKEN):
        return None
    lower = written.lower()
    if len(_lower_names) < _LOWER_NAMES_MAX:
        _lower_names[written] = lower
    return lower
