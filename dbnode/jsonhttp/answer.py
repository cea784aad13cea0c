"""What an endpoint is and what it returns; knows no HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

from dbnode.errors import ApiError

encode = msgspec.json.encode

HeaderPairs: TypeAlias = tuple[tuple[bytes, bytes], ...]
JSON: HeaderPairs = ((b"Content-Type", b"application/json"),)


class Headers(Protocol):
    """Request headers by lower-case name; a plain dict of bytes is one."""

    def get(self, name: bytes, /) -> bytes | None:
        """Return the header's last value, or None."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. `headers` name the Content-Type; Content-Length is added when it is written."""

    status: int
    body: bytes
    headers: HeaderPairs = JSON


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer of unknown length: `pages` is read only as fast as the client reads.

    A failure before the first page is an ordinary error; after it the connection is aborted, since ending it normally
    would pass half an answer off as a whole one (RFC 9112 §8). The iterator is closed in every case.
    """

    pages: AsyncIterator[bytes]
    status: int = 200
    headers: HeaderPairs = JSON


Answer: TypeAlias = Response | Streamed
Endpoint: TypeAlias = Callable[[Headers, bytes], Answer | Awaitable[Answer]]


def json_response(value: Any, status: int = 200) -> Response:
    """Encode `value` as the whole answer."""
    return Response(status, encode(value))


def error_response(error: ApiError) -> Response:
    """Return the JSON answer that HTTP_API promises for a failure."""
    headers = JSON
    if error.retry_after_seconds is not None:
        headers = (*headers, (b"Retry-After", b"%d" % error.retry_after_seconds))
    return Response(error.status, encode(error.body()), headers)
