"""The least a server can do: a bare Twisted protocol that answers every request with the same bytes.

It shows how fast the client is when the server is not the limit. It looks for the end of each request by its length
alone and understands nothing of it; it is no web server.
"""

from __future__ import annotations

import re

from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class Constant(Protocol):
    """Answers `answer`, a whole HTTP response, to each request that has a Content-Length."""

    transport: ITransport

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer as many requests as are whole."""
        data = self._buffer + data
        answers = 0
        while (end := _end_of_request(data)) is not None:
            data = data[end:]
            answers += 1
        self._buffer = data
        self.transport.write(self._answer * answers)


def _end_of_request(data: bytes) -> int | None:
    head = data.find(b"\r\n\r\n")
    length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
    if length is None:
        return None
    end = head + 4 + int(length[1])
    return end if end <= len(data) else None
