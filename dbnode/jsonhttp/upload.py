"""The body of a request that is taken while it arrives: pieces for an endpoint, no faster than it takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred

from dbnode.jsonhttp.answer import Answer, Headers

#: What may wait to be taken before the client is read no further, in bytes.
UNTAKEN_BYTES_MAX = 256 << 10


class ClientGone(Exception):
    """The client went away, or was refused, before all of its request had come."""


class Upload(AsyncIterator[bytes]):
    """The pieces of one body, in order. Iterating raises ClientGone where the body was cut short.

    `pause` asks for the client to be read no further, `resume` for going on; both are called in turns.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._pieces: deque[bytes] = deque()
        self._untaken_bytes = 0
        self._paused = False
        self._waiting: Deferred[None] | None = None
        self._ended = False
        self._lost = False

    def received(self, piece: bytes) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._untaken_bytes += len(piece)
        self._notify()
        if self._untaken_bytes > UNTAKEN_BYTES_MAX and not self._paused:
            self._paused = True
            self._pause()

    def end(self) -> None:
        """Take note that the body is complete."""
        self._ended = True
        self._notify()

    def lose(self) -> None:
        """Take note that nothing more will come; a body that is complete already is not affected."""
        if not self._ended:
            self._lost = True
            self._pieces.clear()
            self._notify()

    async def __anext__(self) -> bytes:
        """Return the next piece, once it is there."""
        while not self._pieces:
            if self._lost:
                raise ClientGone("the body was cut short")
            if self._ended:
                raise StopAsyncIteration
            self._waiting = Deferred()
            await self._waiting
        piece = self._pieces.popleft()
        self._untaken_bytes -= len(piece)
        if self._paused and self._untaken_bytes <= UNTAKEN_BYTES_MAX // 2:
            self._paused = False
            self._resume()
        return piece

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


#: An endpoint that takes its body while that arrives. It may answer before all has come; then no more is read.
UploadEndpoint: TypeAlias = Callable[[Headers, Upload], Awaitable[Answer]]
