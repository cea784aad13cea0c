"""The body of a request that is taken while it arrives: pieces for an endpoint, no faster than it takes them.

Bodies of lines (NDJSON) can be taken so, since each line stands for itself; they may be of any length.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred

from dbnode.jsonhttp.answer import Answer, Headers

NDJSON = b"application/x-ndjson"

#: What may wait to be taken before the client is read no further, in bytes.
UNTAKEN_BYTES_MAX = 256 << 10


class ClientGone(Exception):
    """The client went away before all of its request had come."""


class Upload(AsyncIterator[bytes]):
    """The bytes of one body, in order. Iterating raises what `cut` was given where the body was cut short.

    What is there is taken as one piece, since a client may send each line in a chunk of its own. `pause` asks for the
    client to be read no further, `resume` for going on; both are called in turns.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._pieces: list[bytes] = []
        #: What waits to be taken.
        self.untaken_bytes = 0
        self._paused = False
        self._waiting: Deferred[None] | None = None
        self._cut: Exception | None = None
        self.ended = False

    def received(self, piece: bytes) -> None:
        """Add a piece, for nobody yet (see `deliver`); what comes after a cut is dropped."""
        if self._cut is not None:
            return
        self._pieces.append(piece)
        self.untaken_bytes += len(piece)
        if self.untaken_bytes > UNTAKEN_BYTES_MAX and not self._paused:
            self._paused = True
            self._pause()

    def deliver(self) -> None:
        """Let whoever waits have what came; to be called once after all that came together."""
        if self._pieces:
            self._notify()

    def end(self) -> None:
        """Take note that the body is complete."""
        self.ended = True
        self._notify()

    def cut(self, error: Exception) -> None:
        """Take note that nothing more will come; a body that is complete already is not affected."""
        if not self.ended and self._cut is None:
            self._cut = error
            self._pieces.clear()
            self.untaken_bytes = 0
            self._notify()

    @property
    def is_cut(self) -> bool:
        """Whether the body was cut short."""
        return self._cut is not None

    @property
    def starving(self) -> bool:
        """Whether somebody waits for a piece that has not come."""
        return self._waiting is not None

    async def __anext__(self) -> bytes:
        """Return all that is there, once there is something."""
        while not self._pieces:
            if self._cut is not None:
                raise self._cut
            if self.ended:
                raise StopAsyncIteration
            self._waiting = Deferred()
            await self._waiting
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self.untaken_bytes = 0
        if self._paused:
            self._paused = False
            self._resume()
        return piece

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


def sent_as_lines(headers: Headers) -> bool:
    """Return whether a request says that its body is lines of JSON."""
    content_type = headers.get(b"content-type")
    return content_type is not None and media_type(content_type) == NDJSON


def media_type(value: bytes) -> bytes:
    """Return what a Content-Type or an item of Accept says, without its parameters, in lower case."""
    return value.partition(b";")[0].strip().lower()


#: An endpoint that takes its body while that arrives, and answers with a Response. It may do so before all has come;
#: then no more is read.
UploadEndpoint: TypeAlias = Callable[[Headers, Upload], Answer | Awaitable[Answer]]
