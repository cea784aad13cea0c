"""Ranges: small ones whole, large ones in pages, as fast as the client reads, and never cut short as if complete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp import Answer, Response, Streamed
from dbnode.wire import LINEARIZABLE, Read, Write
from lbnode.ranges import SHARDS_AHEAD, WHOLE_BYTES_MAX, read_range
from lbnode.router import RouterOptions
from lbnode.test.shards import MemoryShards, layout, router_over
from lbnode.wire import ReadRequest

SHARDS = 8
ROWS = 300


class RangeCase(SynchronousTestCase):
    """Eight shards of three hundred rows; `name_bytes` makes the rows small or large."""

    name_bytes = 10
    options = RouterOptions(page_bytes=20_000)

    def setUp(self) -> None:
        """Fill the shards."""
        self.clock = Clock()
        self.shards = MemoryShards(self.clock)
        self.router = router_over(self.shards, self.options)
        self.router.configure(layout(*[ROWS] * SHARDS))
        for route in self.router.routes():
            rows = tuple((key, "n" * self.name_bytes, key) for key in range(route.low, route.high + 1))
            self.successResultOf(self.settled(self.router.change(route, Write(rows))))
        self.shards.asked.clear()

    def settled(self, pending: Deferred[Any]) -> Deferred[Any]:
        """Let what was begun come to its end."""
        while not pending.called:
            self.clock.advance(0.01)
        return pending

    def read(self, low: int, high: int, limit: int = 0) -> Answer:
        """Return the answer to a read."""
        pending = read_range(self.router, self.router.routes(), ReadRequest(low, high, limit, LINEARIZABLE))
        answer: Answer = self.successResultOf(self.settled(pending))
        return answer

    def page(self, pages: AsyncIterator[bytes]) -> bytes | None:
        """Take the next page of a stream, None at its end."""
        pending: Deferred[bytes | None] = Deferred.fromCoroutine(_next(pages))
        page: bytes | None = self.successResultOf(self.settled(pending))
        return page

    def reads(self) -> int:
        """Return how many pages were asked for."""
        return sum(isinstance(request, Read) for _, request in self.shards.asked)


async def _next(pages: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pages, None)


class Small(RangeCase):
    def test_one_shard_is_one_request(self) -> None:
        """A range within one shard is asked of one replica, once."""
        answer = self.read(5, 6)

        assert isinstance(answer, Response)
        self.assertEqual([row["Stud_id"] for row in msgspec.json.decode(answer.body)["data"]], [5, 6])
        self.assertEqual(self.reads(), 1)

    def test_several_shards_are_one_response(self) -> None:
        """A small range over all shards is one response, with every row in order."""
        answer = self.read(50, 2349)

        assert isinstance(answer, Response)
        found = msgspec.json.decode(answer.body)
        self.assertEqual([row["Stud_id"] for row in found["data"]], list(range(50, 2350)))
        self.assertEqual(found["shards_queried"], [f"sh{n}" for n in range(1, 9)])

    def test_failure_of_one_shard_is_an_ordinary_error(self) -> None:
        """If a shard cannot serve before anything was sent, the whole read is refused."""
        self.shards.leaderless = {3}

        pending = read_range(self.router, self.router.routes(), ReadRequest(0, 2399, 0, LINEARIZABLE))
        error = self.failureResultOf(self.settled(pending), ApiError).value

        self.assertEqual((error.status, error.code), (503, "no_quorum"))
        self.assertIn("sh3", error.text)

    def test_limit_ends_at_the_end_of_a_shard(self) -> None:
        """A limit that is used up with a shard goes on at the beginning of the next one, unless there is none."""
        first, last = self.read(0, 2399, limit=300), self.read(2100, 2399, limit=300)

        assert isinstance(first, Response)
        assert isinstance(last, Response)
        self.assertEqual(msgspec.json.decode(first.body)["next"], 300)
        self.assertNotIn("next", msgspec.json.decode(last.body))
        self.assertEqual(self.reads(), 2)


class Large(RangeCase):
    name_bytes = 3_000

    def test_stream_is_read_page_by_page(self) -> None:
        """A range beyond the limit is streamed; a page is asked for when the one before was taken, or little ahead."""
        answer = self.read(0, 2399)
        assert isinstance(answer, Streamed)
        pages = aiter(answer.pages)
        gathered = self.page(pages) or b""
        asked = self.reads()

        self.clock.pump([0.01] * 100)
        asked_while_nobody_reads = self.reads()
        while (page := self.page(pages)) is not None:
            gathered += page

        self.assertLessEqual(asked, WHOLE_BYTES_MAX // self.options.page_bytes + SHARDS_AHEAD)
        self.assertEqual(asked_while_nobody_reads, asked)
        self.assertEqual([row["Stud_id"] for row in msgspec.json.decode(gathered)["data"]], list(range(2400)))

    def test_one_large_shard(self) -> None:
        """A single shard that needs several pages is streamed too."""
        answer = self.read(0, 299)

        assert isinstance(answer, Streamed)
        gathered, pages = b"", aiter(answer.pages)
        while (page := self.page(pages)) is not None:
            gathered += page
        self.assertEqual(len(msgspec.json.decode(gathered)["data"]), 300)

    def test_limit_over_pages(self) -> None:
        """A limit holds over many pages and shards."""
        answer = self.read(0, 2399, limit=450)

        assert isinstance(answer, Streamed)
        gathered, pages = b"", aiter(answer.pages)
        while (page := self.page(pages)) is not None:
            gathered += page
        found = msgspec.json.decode(gathered)
        self.assertEqual((len(found["data"]), found["next"], found["shards_queried"]), (450, 450, ["sh1", "sh2"]))

    def test_failure_midway_breaks_the_stream(self) -> None:
        """A shard that fails after something was sent fails the stream, which must not look complete."""
        answer = self.read(0, 2399)
        assert isinstance(answer, Streamed)
        pages = aiter(answer.pages)
        self.page(pages)
        self.shards.leaderless = {8}

        def drain() -> None:
            while self.page(pages) is not None:
                pass

        self.assertRaises(self.failureException, drain)

    def test_client_that_goes_away(self) -> None:
        """A stream that nobody reads to its end leaves nothing behind: no waiting read, no failure in the log."""
        answer = self.read(0, 2399)
        assert isinstance(answer, Streamed)
        pages: Any = aiter(answer.pages)
        self.page(pages)
        self.shards.leaderless = set(range(1, 9))

        self.successResultOf(Deferred.fromCoroutine(_close(pages)))
        self.clock.pump([0.1] * 120)

        self.assertEqual(self.router.reads_waiting, 0)


async def _close(pages: Any) -> None:
    await pages.aclose()
