"""Bodies of lines through a site: taken as they come, over both lanes, and answered with the truth when cut short."""

from __future__ import annotations

import re
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, Limits, Response, Upload, errors_as_json, json_response
from dbnode.jsonhttp.upload import UNTAKEN_BYTES_MAX
from dbnode.test.web_rig import Reply, Web

LIMITS = Limits(body_bytes_max=100, receive_seconds=5, idle_seconds=20)
PUT = b"PUT /put HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"PUT /put HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nab"


class Counting:
    """An endpoint that counts the bytes it takes; `held` makes it take no more for a while."""

    def __init__(self) -> None:
        self.taken = 0
        self.pieces = 0
        self.held: Deferred[None] | None = None
        self.failed: Exception | None = None

    async def put(self, headers: Headers, pieces: Upload) -> Response:
        """Take all that comes."""
        try:
            async for piece in pieces:
                self.taken += len(piece)
                self.pieces += 1
                if b"!" in piece:
                    raise ApiError("wrong", "no exclamation marks", applied="partial")
                if self.held is not None:
                    await self.held
        except Exception as error:
            self.failed = error
            raise
        return json_response({"taken": self.taken})

    def buffered(self, headers: Headers, body: bytes) -> Response:
        """Take a body that is no lines."""
        return json_response({"buffered": len(body)})


class LeanTests(SynchronousTestCase):
    """In front of twisted.web there is the lean lane, which leaves uploads to it."""

    lean = True

    def setUp(self) -> None:
        """Open a connection."""
        self.endpoint = Counting()
        direct = {(b"PUT", b"/put"): self.endpoint.buffered} if self.lean else None
        uploads = {(b"PUT", b"/put"): self.endpoint.put}
        app = Klein()
        errors_as_json(app)
        self.web = Web(app.resource(), LIMITS, direct, uploads=uploads)
        self.client = self.web.client()

    def feed(self, data: bytes) -> None:
        """Send bytes."""
        self.client.channel.dataReceived(data)

    def reply(self) -> Reply:
        """Return the answer that has come."""
        return Reply(self.client.received())

    def test_longer_than_other_bodies_may_be(self) -> None:
        """An upload is not bounded by what fits into memory, with a length or in chunks."""
        self.feed(PUT + b"Content-Length: 1000\r\n\r\n" + b"x" * 400)
        self.assertEqual(self.endpoint.taken, 400)
        self.feed(b"x" * 600)
        announced = self.reply()
        self.feed(CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        self.feed(b"5\r\n12345\r\n0\r\n\r\n")

        self.assertEqual((announced.status, announced.json), (200, {"taken": 1000}))
        self.assertEqual(self.reply().json, {"taken": 2005})

    def test_byte_by_byte(self) -> None:
        """However the request is cut, the answer is the same, and the connection goes on."""
        whole = CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        for _ in range(2):
            self.endpoint.taken = 0
            for place in range(len(whole)):
                self.client.channel.dataReceived(whole[place : place + 1])

            self.assertEqual(self.reply().json, {"taken": 5})

    def test_many_small_chunks(self) -> None:
        """Chunks that come together are one piece for the endpoint."""
        self.feed(CHUNKED)
        self.feed(b"3\r\nabc\r\n" * 100)
        self.feed(b"3\r\nabc\r\n" * 100 + b"0\r\n\r\n")

        self.assertEqual((self.reply().json, self.endpoint.pieces), ({"taken": 600}, 2))

    def test_requests_before_and_behind(self) -> None:
        """Other requests may come before an upload and wait behind it, on the same connection."""
        other = b"GET /absent HTTP/1.1\r\nHost: x\r\n\r\n"
        self.feed(other + PUT + b"Content-Length: 4\r\n\r\nabcd" + other)

        answers = self.client.received()
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", answers)
        self.assertEqual((self.endpoint.taken, statuses), (4, [b"404", b"200", b"404"]))

    def test_client_is_read_no_faster_than_the_endpoint_takes(self) -> None:
        """What is not taken stays in the connection; the time that takes is not the client's."""
        self.endpoint.held = Deferred()
        self.feed(CHUNKED)
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        sent = 0
        while self.client.wire.producerState == "producing":
            self.feed(piece)
            sent += 0x10000

        self.web.clock.pump([1.0] * 60)
        held, self.endpoint.held = self.endpoint.held, None
        held.callback(None)
        producing = self.client.wire.producerState
        self.feed(b"0\r\n\r\n")

        self.assertLessEqual(sent, UNTAKEN_BYTES_MAX + 3 * 0x10000)
        self.assertEqual(producing, "producing")
        self.assertEqual(self.reply().json, {"taken": sent})

    def test_refused_midway(self) -> None:
        """An endpoint may refuse before all has come; then the connection ends, and what still comes is dropped."""
        self.feed(CHUNKED + b"5\r\nhello\r\n")
        self.feed(b"1\r\n!\r\n")
        refused = self.reply()
        self.feed(b"5\r\nhello\r\n")

        self.assertEqual((refused.status, refused.code, refused.json["applied"]), (400, "wrong", "partial"))
        self.assertEqual(refused.headers["Connection"], "close")
        self.assertTrue(self.client.wire.half_closed)
        self.assertEqual((self.endpoint.taken, self.client.received()), (6, b""))

    def test_slow_client(self) -> None:
        """Each piece gives a client its time anew; one that sends nothing for too long is told so."""
        self.feed(CHUNKED)
        for _ in range(4):
            self.web.clock.pump([1.0] * 4)
            self.feed(b"1\r\nx\r\n")
        self.assertEqual(self.client.received(), b"")

        self.web.clock.pump([1.0] * 7)

        self.assertEqual((self.reply().code, self.endpoint.taken), ("request_timeout", 4))

    def test_bad_chunk(self) -> None:
        """What cannot be read ends the upload as any other failure."""
        self.feed(CHUNKED + b"1\r\nx\r\n")
        self.feed(b"1\r\nx\r\nnonsense\r\n")

        self.assertEqual((self.reply().code, self.endpoint.taken), ("bad_request", 1))

    def test_whole_body_while_held(self) -> None:
        """Once all has come, time is not the client's any more, and no part of it counts for the next request."""
        held: Deferred[None] = Deferred()
        self.endpoint.held = held
        self.feed(CHUNKED + b"1\r\nx\r\n" + b"60000\r\n" + b"x" * 0x60000 + b"\r\n0\r\n\r\n")
        self.endpoint.held = None
        held.callback(None)
        answer = self.reply()

        self.web.clock.pump([1.0] * 10)

        self.assertEqual(answer.json, {"taken": 0x60001})
        self.assertEqual(self.client.received(), b"")

    def test_flood_after_a_bad_chunk(self) -> None:
        """What comes while a refused upload is still being settled is dropped, and cannot become another end of it."""
        held: Deferred[None] = Deferred()
        self.endpoint.held = held
        self.feed(CHUNKED + b"1\r\nx\r\n")
        decoder: Any = self.client.channel._transferDecoder
        self.feed(b"nonsense\r\n")
        kept_bytes = len(decoder._buffer)
        for _ in range(100):
            self.feed(b"x" * 1000)
        flooded_bytes = len(decoder._buffer)
        held.callback(None)
        answer = self.reply()

        self.assertEqual(flooded_bytes, kept_bytes)
        self.assertEqual((answer.code, answer.headers["Connection"]), ("bad_request", "close"))

    def test_stopping(self) -> None:
        """When the site stops, an upload ends with an answer that tells what became of it."""
        self.feed(CHUNKED + b"1\r\nx\r\n")

        self.web.site.drain()
        answer = self.reply()

        self.assertEqual((answer.status, answer.code, self.endpoint.taken), (503, "stopping", 1))
        self.assertTrue(self.client.wire.half_closed)

    def test_client_goes_away(self) -> None:
        """An upload that is cut short ends for its endpoint too, and nothing is logged as our mistake."""
        self.feed(CHUNKED + b"1\r\nx\r\n")
        self.client.closed(ConnectionLost())

        self.assertEqual(type(self.endpoint.failed).__name__, "ClientGone")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_another_type_is_no_upload(self) -> None:
        """A body that is not lines goes to the ordinary endpoint, before and after an upload."""
        self.feed(NEXT)
        first = self.client.received()
        self.feed(PUT + b"Content-Length: 1\r\n\r\nx")
        self.assertEqual(self.reply().json, {"taken": 1})
        self.feed(NEXT)

        self.assertEqual(first[:12], self.client.received()[:12])
        self.assertEqual(first[:12], b"HTTP/1.1 200" if self.lean else b"HTTP/1.1 404")


class BehindTests(LeanTests):
    """twisted.web alone."""

    lean = False
