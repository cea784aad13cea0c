"""What requests that have not arrived completely hold of this process, over all connections of a site, and its bound.

Each connection is bounded by itself, but there may be thousands. When all of them together hold too much, the one that
holds most is refused: many who are slow with much can then not keep out those who are quick with little.
"""

from __future__ import annotations

from typing import Protocol

from dbnode.errors import ApiError


class Refusable(Protocol):
    """A connection that can be told to go away while its request is still arriving."""

    def refuse(self, error: ApiError) -> None:
        """Answer with an error and drop what has arrived."""


class Receiving:
    """The bytes held for each connection; `bytes_max` bounds their sum."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[Refusable, int] = {}
        self.total_bytes = 0

    def hold(self, connection: Refusable, size: int) -> None:
        """Take note that so many bytes of a connection's request are there, and refuse who holds most if need be."""
        self.total_bytes += size - self._held.get(connection, 0)
        self._held[connection] = size
        while self.total_bytes > self._bytes_max:
            largest = max(self._held, key=self._held.__getitem__)
            # First: refusing may come back here.
            self.release(largest)
            text = "too much is arriving on all connections together; try again"
            largest.refuse(ApiError("overloaded", text, status=503, retry_after_seconds=1))

    def release(self, connection: Refusable) -> None:
        """Forget what a connection held, since its request is complete or dropped."""
        self.total_bytes -= self._held.pop(connection, 0)
