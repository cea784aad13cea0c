"""Streamed answers: no faster than the client reads, and never half an answer passed off as a whole one."""

from __future__ import annotations

from collections.abc import AsyncIterator

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request

from dbnode.errors import ApiError
from dbnode.jsonhttp import Endpoint, Headers, Streamed, answer, errors_as_json
from dbnode.test.web_rig import Reply, Web


class Pages:
    """An application whose /pages yields what the test put into `pages`; an exception among them is raised."""

    app = Klein()
    errors_as_json(app)

    def __init__(self) -> None:
        self.pages: list[bytes | Exception] = []
        self.closed = 0

    @app.route("/pages")
    def _pages(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.stream)

    def stream(self, headers: Headers, body: bytes) -> Streamed:
        """Stream the pages."""
        return Streamed(self._yield())

    async def _yield(self) -> AsyncIterator[bytes]:
        try:
            while self.pages:
                page = self.pages.pop(0)
                if isinstance(page, Exception):
                    raise page
                yield page
        finally:
            self.closed += 1


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a site and a client."""
        self.pages = Pages()
        self.client = Web(self.pages.app.resource(), direct=self.direct()).client()

    def direct(self) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that are served directly."""
        return {}

    def test_pages_arrive_in_order_and_the_connection_is_kept(self) -> None:
        """A streamed answer is whole, and another request may follow it."""
        self.pages.pages = [b"[1,", b"", b"2]"]
        first = self.client.ask("GET", "/pages")
        self.pages.pages = [b"[]"]
        second = self.client.ask("GET", "/pages")

        self.assertEqual((first.status, first.json, second.json), (200, [1, 2], []))
        self.assertEqual((first.headers["Transfer-Encoding"], self.pages.closed), ("chunked", 2))

    def test_nothing_is_produced_while_the_client_does_not_read(self) -> None:
        """While the send buffer is full no page is fetched, and the next ones are as soon as there is room."""
        self.client.wire.room = 300
        self.pages.pages = [b"x" * 200 for _ in range(10)]

        self.client.request("GET", "/pages")
        left = [len(self.pages.pages)]
        received = b""
        while self.pages.pages:
            received += self.client.received()
            left.append(len(self.pages.pages))

        self.assertEqual(left, [9, 7, 5, 3, 1, 0])
        self.assertEqual(Reply(received + self.client.received() + self.client.received()).body, b"x" * 2000)

    def test_failure_before_the_first_page_is_an_ordinary_error(self) -> None:
        """As long as nothing is written, an error has its own status."""
        self.pages.pages = [ApiError("unavailable", "no quorum", status=503)]

        reply = self.client.ask("GET", "/pages")

        self.assertEqual((reply.status, reply.code, self.client.open), (503, "unavailable", True))

    def test_failure_midway_aborts_the_connection(self) -> None:
        """Half an answer must not look like a whole one: the connection is cut before its end is written."""
        self.pages.pages = [b"[1,", ApiError("unavailable", "no quorum", status=503)]

        self.client.request("GET", "/pages")

        self.assertTrue(self.client.aborted)
        self.assertNotIn(b"\r\n0\r\n", self.client.received())
        self.assertEqual(len(self.flushLoggedErrors(ApiError)), 1)

    def test_client_that_goes_away_ends_the_production(self) -> None:
        """Nobody reads any more, so nothing more is fetched."""
        self.client.wire.room = 300
        self.pages.pages = [b"x" * 200 for _ in range(10)]
        self.client.request("GET", "/pages")

        self.client.closed(ConnectionLost())

        self.assertEqual((len(self.pages.pages), self.pages.closed), (9, 1))

    def test_head_ends_after_the_head(self) -> None:
        """HEAD of a streamed answer fetches no more than its first page."""
        self.pages.pages = [b"1", b"2"]

        reply = self.client.ask("HEAD", "/pages")

        self.assertEqual((reply.status, reply.body, self.pages.pages), (200, b"", [b"2"]))


class DirectStreamTests(StreamTests):
    """The same over the short way, which hands a streamed answer to the long one."""

    def direct(self) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that are served directly."""
        return {(b"GET", b"/pages"): self.pages.stream}
