"""Ranges of rows: gathered shard by shard in pages, so that memory stays bounded however much is read.

A small answer is one response. A large one is streamed: a page is fetched from its shard when the client has read the
one before, apart from the first pages of the next shards, which are asked for ahead. Each page is as consistent as the
request asks; a range of several pages is not one snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from dbnode.errors import ApiError
from dbnode.jsonhttp import NDJSON, Answer, Response, Streamed
from dbnode.jsonhttp.answer import JSON, HeaderPairs
from dbnode.wire import Rows
from lbnode.router import Router
from lbnode.routes import Route, Routes
from lbnode.wire import ReadRequest

#: Answers up to this size are kept until they are whole, so that a failure in them is an ordinary error.
WHOLE_BYTES_MAX = 256 << 10
_LINES_CONTENT: HeaderPairs = ((b"Content-Type", NDJSON),)
#: Shards that are asked at the same time for one range; each has at most one page of RouterOptions.page_bytes ready.
SHARDS_AHEAD = 4


def read_range(router: Router, routes: Routes, request: ReadRequest) -> Deferred[Answer]:
    """Return the answer of POST /read; fails with ApiError (503) if a shard cannot serve before anything was sent."""
    shards = routes.overlapping(request.low, request.high)
    reading = _RangeRead(router, shards, request)
    if len(shards) != 1 or request.limit:
        return Deferred.fromCoroutine(whole_or_streamed(reading.chunks(), reading.content))
    return reading.ask(shards[0]).addCallback(reading.answer_from)


async def whole_or_streamed(chunks: AsyncIterator[bytes], content: HeaderPairs = JSON) -> Answer:
    """Return the chunks as one response if they are few, else as a stream that begins with those gathered so far."""
    gathered: list[bytes] = []
    size_bytes = 0
    async for chunk in chunks:
        gathered.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > WHOLE_BYTES_MAX:
            return Streamed(_continued(b"".join(gathered), chunks), 200, content)
    return Response(200, b"".join(gathered), content)


async def _continued(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in chunks:
        yield chunk


class _RangeRead:
    """One /read on its way through the shards that its range touches."""

    def __init__(self, router: Router, shards: Sequence[Route], request: ReadRequest) -> None:
        self._router = router
        self._shards = shards
        self._request = request
        #: How many shards were asked, which is all of them unless the limit is reached before.
        self._asked = 0
        #: Rows that the limit still allows, where there is one.
        self._left = request.limit
        #: The id to go on from, once the limit was reached before the end of the range.
        self._next: int | None = None
        self.content = _LINES_CONTENT if request.as_lines else JSON
        self._separator = b"" if request.as_lines else b","

    def ask(self, route: Route, start: int | None = None) -> Deferred[Rows]:
        """Ask one shard for its page from `start` on, by default from the beginning of the range."""
        low = max(self._request.low, route.low) if start is None else start
        high = min(self._request.high, route.high)
        return self._router.read(route, low, high, self._left, self._request.consistency, self._request.as_lines)

    def answer_from(self, page: Rows) -> Response | Deferred[Answer]:
        """Return the answer if the first page is all there is: the usual case, without a coroutine."""
        if page.next is None:
            return Response(200, self._head() + page.data + self._tail(), self.content)
        return Deferred.fromCoroutine(whole_or_streamed(self.chunks(page), self.content))

    async def chunks(self, first: Rows | None = None) -> AsyncIterator[bytes]:
        """Yield the answer piece by piece; `first` is the first page of the first shard if it is there already."""
        yield self._head()
        separator = b""
        async for page in self._pages(first):
            if page.data:
                yield separator + page.data
                separator = self._separator
        yield self._tail()

    async def _pages(self, first: Rows | None) -> AsyncIterator[Rows]:
        beginnings = self._beginnings(first)
        for place, route in enumerate(self._shards):
            self._asked = place + 1
            page = await _there(next(beginnings))
            while True:
                yield page
                if self._request.limit:
                    self._left -= page.count
                    if not self._left:
                        self._next = page.next if page.next is not None else self._beginning_after(place)
                        return
                if page.next is None:
                    break
                page = await self.ask(route, page.next)

    def _beginnings(self, first: Rows | None) -> Iterator[Deferred[Rows | ApiError]]:
        """Ask each shard for its first page, some shards ahead; with a limit perhaps no other is needed."""
        ahead: deque[Deferred[Rows | ApiError]] = deque()
        waiting = iter(self._shards)
        if first is not None:
            next(waiting)
            ahead.append(succeed(first))
        while True:
            for route in islice(waiting, (1 if self._request.limit else SHARDS_AHEAD) - len(ahead)):
                # A failure is kept as a value, since nobody may ever come for it.
                ahead.append(self.ask(route).addErrback(_kept))
            yield ahead.popleft()

    def _beginning_after(self, place: int) -> int | None:
        return self._shards[place + 1].low if place + 1 < len(self._shards) else None

    def _head(self) -> bytes:
        if self._request.as_lines:
            return b""
        return b'{"data":[' if self._request.limit else b'{"shards_queried":[%b],"data":[' % _names(self._shards)

    def _tail(self) -> bytes:
        if self._request.as_lines:
            return b""
        if not self._request.limit:
            return b'],"status":"success"}'
        following = b"" if self._next is None else b'"next":%d,' % self._next
        return b'],%b"shards_queried":[%b],"status":"success"}' % (following, _names(self._shards[: self._asked]))


def _names(shards: Iterable[Route]) -> bytes:
    return b",".join([route.name_json for route in shards])


def _kept(failure: Failure) -> ApiError:
    failure.trap(ApiError)
    assert isinstance(failure.value, ApiError)
    return failure.value


async def _there(beginning: Deferred[Rows | ApiError]) -> Rows:
    page = await beginning
    if isinstance(page, ApiError):
        raise page
    return page
