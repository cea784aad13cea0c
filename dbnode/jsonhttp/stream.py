"""Writing an answer page by page, no faster than the client reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.web.http import Request
from zope.interface import implementer

from dbnode.background import in_background
from dbnode.jsonhttp.answer import Streamed

_log = Logger()


def gone(request: Request) -> bool:
    """Return whether the client's connection is lost."""
    return request.channel is None  # type: ignore[redundant-expr,unused-ignore]


async def stream(request: Request, streamed: Streamed) -> None:
    """Write a streamed answer. Raises what the first page raises, with nothing written; a later failure aborts."""
    pages = streamed.pages
    try:
        first = await anext(pages, b"")
        if gone(request):
            return
        client = _Client(request)
        client.begin(streamed, first)
        await _rest(client, pages)
    finally:
        close = getattr(pages, "aclose", None)
        if close is not None:
            await close()


async def _rest(client: _Client, pages: AsyncIterator[bytes]) -> None:
    try:
        await client.ready()
        while not client.gone:
            page = await anext(pages, None)
            if page is None:
                client.finish()
                return
            client.write(page)
            await client.ready()
    except Exception:  # noqa: BLE001 - half an answer is out: only an abort can tell the client
        _log.failure("a streamed answer failed midway; its connection is aborted")
        client.abort()


@implementer(IPushProducer)
class _Client:
    """The client's side of a streamed answer: when it may have more, and whether it is still there."""

    def __init__(self, request: Request) -> None:
        self.gone = False
        self._request = request
        self._full = False
        self._waiting: Deferred[None] | None = None

    def begin(self, streamed: Streamed, first: bytes) -> None:
        """Write the head and the first page."""
        request = self._request
        request.setResponseCode(streamed.status)
        for name, value in streamed.headers:
            request.responseHeaders.setRawHeaders(name, [value])
        in_background(request.notifyFinish().addErrback(lambda _: self.stopProducing()), "ending a streamed answer")
        request.registerProducer(self, True)
        request.write(first)
        if request.method == b"HEAD":
            self.finish()

    def ready(self) -> Deferred[None]:
        """Fire when more may be written, or the client went away."""
        room: Deferred[None] = Deferred()
        if self._full:
            self._waiting = room
        else:
            room.callback(None)
        return room

    def write(self, page: bytes) -> None:
        """Write one page, if there is anyone to read it."""
        if not self.gone and page:
            self._request.write(page)

    def finish(self) -> None:
        """End the answer as complete."""
        if not self.gone:
            self.gone = True
            self._request.unregisterProducer()
            self._request.finish()

    def abort(self) -> None:
        """Cut the connection, so that what was sent cannot be taken for a whole answer."""
        if not self.gone:
            self.gone = True
            self._request.unregisterProducer()
            transport = self._request.transport
            assert transport is not None
            ITCPTransport(transport).abortConnection()

    def pauseProducing(self) -> None:
        """Note that the send buffer is full (IPushProducer)."""
        self._full = True

    def resumeProducing(self) -> None:
        """Note that there is room again (IPushProducer)."""
        self._full = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Note that nobody reads any more (IPushProducer)."""
        self.gone = True
        self.resumeProducing()
