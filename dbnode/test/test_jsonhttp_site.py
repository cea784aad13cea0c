"""The site: everything that is refused is refused in JSON, and nobody takes more of us than the limits say."""

from __future__ import annotations

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request

from dbnode.errors import ApiError
from dbnode.jsonhttp import (
    Endpoint,
    Headers,
    Limits,
    Response,
    answer,
    decode_object,
    errors_as_json,
    json_response,
)
from dbnode.test.web_rig import Reply, Web

LIMITS = Limits(body_bytes_max=100, connections_max=2, receive_seconds=5, idle_seconds=20, unread_seconds=10)


class Echo:
    """A small application; `waiting` holds the requests to /later."""

    app = Klein()
    errors_as_json(app)

    def __init__(self) -> None:
        self.waiting: list[Deferred[Response]] = []

    @app.route("/echo", methods=["POST", "GET", "DELETE"])
    def _echo(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.echo)

    @app.route("/later", methods=["POST"])
    def _later(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.later)

    @app.route("/refuse")
    def _refuse(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.refuse)

    @app.route("/bug")
    def _bug(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.bug)

    @app.route("/broken")
    def _broken(self, request: Request) -> None:
        raise ValueError("outside any endpoint")

    def echo(self, headers: Headers, body: bytes) -> Response:
        """Return the object that came."""
        return json_response(decode_object(headers, body))

    def later(self, headers: Headers, body: bytes) -> Deferred[Response]:
        """Answer when the test says so."""
        deferred: Deferred[Response] = Deferred()
        self.waiting.append(deferred)
        return deferred

    async def refuse(self, headers: Headers, body: bytes) -> Response:
        """Refuse, as overloaded."""
        raise ApiError("overloaded", "too much", status=503, applied="no", retry_after_seconds=2, extra={"ids": [1]})

    async def bug(self, headers: Headers, body: bytes) -> Response:
        """Fail by a mistake of our own."""
        raise KeyError("secret detail")


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a site with small limits."""
        self.echo = Echo()
        self.web = Web(self.echo.app.resource(), LIMITS, self.direct())

    def direct(self) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that are served directly."""
        return {}

    def check_failure(self, reply: Reply, status: int, code: str) -> None:
        """Check that the answer is the JSON failure that HTTP_API promises."""
        self.assertEqual(reply.status, status)
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertEqual(reply.headers["Content-Length"], str(len(reply.body)))
        self.assertEqual((reply.json["status"], reply.code), ("failure", code))
        self.assertTrue(reply.json["message"].startswith("<Error> "))

    def test_answer_has_length_date_and_type(self) -> None:
        """An ordinary answer is complete and may be followed by another one."""
        client = self.web.client()

        first = client.ask("POST", "/echo", {"a": 1})
        second = client.ask("DELETE", "/echo", {"b": 2})

        self.assertEqual((first.status, first.json), (200, {"a": 1}))
        self.assertEqual(first.headers["Content-Length"], "7")
        self.assertEqual(first.headers["Date"], "Thu, 01 Jan 1970 00:00:00 GMT")
        self.assertEqual(second.json, {"b": 2})
        self.assertTrue(client.open)

    def test_paths_are_normalised(self) -> None:
        """Doubled and trailing slashes, percent encoding and the absolute form reach the endpoint."""
        for path in ("//echo", "/echo/", "/%65cho", "http://other.example/echo", "/echo?x=1"):
            self.assertEqual(self.web.ask("POST", path, {}).status, 200, path)

    def test_odd_host_is_no_obstacle(self) -> None:
        """Klein's router cannot encode every Host header; ours is asked for none."""
        for host in ("a..b", "x" * 300, "\xff"):
            self.assertEqual(self.web.ask("POST", "/echo", {}, {"Host": host}).status, 200)

    def test_unknown_paths_are_404_in_json(self) -> None:
        """No path, however odd, gets HTML."""
        for path in ("/", "/nope", "/echo/more", "/%ff", "*", "/<script>"):
            self.check_failure(self.web.ask("GET", path), 404, "unknown_path")

    def test_wrong_method_is_405_and_says_which_are_right(self) -> None:
        """A 405 names the methods, in the Allow header too (RFC 9110 §15.5.6)."""
        for method in ("PUT", "OPTIONS", "BREW"):
            reply = self.web.ask(method, "/echo")

            self.check_failure(reply, 405, "method_not_allowed")
            self.assertEqual(reply.headers["Allow"], "DELETE, GET, HEAD, POST")

    def test_head_has_the_headers_only(self) -> None:
        """HEAD gets what GET would get, without the body."""
        reply = self.web.ask("HEAD", "/echo", {"a": 1})

        self.assertEqual((reply.status, reply.headers["Content-Length"], reply.body), (200, "7", b""))

    def test_refusal_carries_all_that_the_error_says(self) -> None:
        """An ApiError becomes status, code, message, extra fields and Retry-After."""
        reply = self.web.ask("GET", "/refuse")

        self.check_failure(reply, 503, "overloaded")
        self.assertEqual((reply.json["applied"], reply.json["ids"], reply.headers["Retry-After"]), ("no", [1], "2"))

    def test_our_bugs_are_500_and_in_the_log(self) -> None:
        """A mistake of ours is told apart from the caller's, and its details stay here."""
        self.check_failure(self.web.ask("GET", "/bug"), 500, "internal_error")
        self.check_failure(self.web.ask("GET", "/broken"), 500, "internal_error")

        self.assertEqual(len(self.flushLoggedErrors(KeyError, ValueError)), 2)

    def test_announced_body_beyond_the_limit_is_refused_before_it_comes(self) -> None:
        """A Content-Length beyond the limit is a 413 at once; what still comes is dropped, then the client is cut."""
        client = self.web.client()

        reply = Reply(client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n"))
        more = client.send(b"x" * 101)

        self.check_failure(reply, 413, "body_too_large")
        self.assertEqual(reply.json["applied"], "no")
        self.assertEqual((more, reply.headers["Connection"], client.wire.half_closed), (b"", "close", True))
        self.web.clock.pump([1] * 5)
        self.assertTrue(client.aborted)

    def test_growing_body_is_refused_at_the_limit(self) -> None:
        """A chunked body is refused once it has grown too long, and never served."""
        client = self.web.client()

        self.assertEqual(client.send(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), b"")
        self.assertEqual(client.send(b"60\r\n" + b" " * 0x60 + b"\r\n"), b"")
        reply = Reply(client.send(b"60\r\n" + b" " * 0x60 + b"\r\n0\r\n\r\nGET /bug HTTP/1.1\r\n\r\n"))

        self.check_failure(reply, 413, "body_too_large")
        self.assertEqual(client.send(b"GET /bug HTTP/1.1\r\n\r\n"), b"")

    def test_malformed_requests_are_400_in_json(self) -> None:
        """twisted.web's own bare 400 does not show, and nothing after it is served."""
        for garbage in (
            b"GARBAGE\r\n\r\n",
            b"GET /echo HTTP/3.0\r\n\r\n",
            b"G\xc3T /echo HTTP/1.1\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nno colon\r\nHost: x\r\n\r\nGET /bug HTTP/1.1\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            web = Web(self.echo.app.resource(), LIMITS, self.direct())

            self.check_failure(Reply(web.client().send(garbage)), 400, "bad_request")

    def test_headers_without_end_are_431(self) -> None:
        """A request line or header without an end, and headers without number, are refused at 16 KiB or 500."""
        for flood in (
            b"GET /" + b"a" * 40_000,
            b"POST /echo HTTP/1.1\r\nX: " + b"a" * 40_000,
            b"POST /echo HTTP/1.1\r\n" + (b"X: " + b"y" * 100 + b"\r\n") * 200,
            b"POST /echo HTTP/1.1\r\n" + b"X: y\r\n" * 600 + b"\r\n",
        ):
            web = Web(self.echo.app.resource(), LIMITS, self.direct())

            self.check_failure(Reply(web.client().send(flood)), 431, "headers_too_large")

    def test_too_many_connections_are_told_so(self) -> None:
        """One connection too many is a 503; far too many get nothing at all."""
        held = [self.web.client(), self.web.client()]

        surplus = self.web.client()
        self.check_failure(Reply(surplus.received()), 503, "too_many_connections")
        self.web.client()
        self.assertIsNone(self.web.site.buildProtocol(None))

        for _ in range(5):
            self.web.clock.advance(1)
        held[0].closed(ConnectionLost())
        self.assertEqual(self.web.ask("POST", "/echo", {}).status, 200)

    def test_slow_request_is_408(self) -> None:
        """A request that trickles in for too long is refused, however regularly its bytes come."""
        client = self.web.client()
        received = b""

        for _ in range(8):
            received += client.send(b"X" if received == b"" else b"")
            self.web.clock.advance(1)

        self.check_failure(Reply(received + client.received()), 408, "request_timeout")

    def test_idle_connection_is_closed(self) -> None:
        """A kept connection is closed after a while without a request, and not before."""
        client = self.web.client()
        client.ask("POST", "/echo", {})

        self.web.clock.pump([1] * 20)
        self.assertTrue(client.open)
        self.web.clock.pump([1] * 2)

        self.assertFalse(client.open)

    def test_long_work_is_no_idleness(self) -> None:
        """A client that waits for its answer is left alone, however long that takes us."""
        client = self.web.client()
        client.request("POST", "/later", {})

        self.web.clock.pump([1] * 100)
        self.echo.waiting[0].callback(json_response({"done": True}))

        self.assertEqual(Reply(client.received()).json, {"done": True})

    def test_client_that_does_not_read_is_cut(self) -> None:
        """Answers that nobody reads are not kept for ever."""
        client = self.web.client()
        client.channel.pauseProducing()

        self.web.clock.pump([1] * 12)

        self.assertTrue(client.aborted)

    def test_client_that_went_away_cancels_nothing(self) -> None:
        """Work goes on when its client is gone; its answer is dropped without a word in the log."""
        cancelled: list[object] = []
        client = self.web.client()
        client.request("POST", "/later", {})
        work = self.echo.waiting[0].addErrback(cancelled.append)

        client.closed(ConnectionLost())
        work.callback(json_response({}))

        self.assertEqual((cancelled, client.received()), ([], b""))

    def test_direct_endpoint_is_served_without_the_router(self) -> None:
        """A direct endpoint answers as the same function behind a route does."""
        web = Web(self.echo.app.resource(), LIMITS, {(b"POST", b"/straight"): self.echo.echo})

        self.assertEqual(web.ask("POST", "/straight", {"a": 1}).json, {"a": 1})
        self.check_failure(web.ask("GET", "/straight"), 404, "unknown_path")

    def test_requests_in_a_row_are_answered_in_order(self) -> None:
        """Requests of both lanes, with lengths and in chunks, share a connection, however their bytes are cut."""
        plain = b'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{"a":1}'
        chunked = b'POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"b\r\n4\r\n":2}\r\n0\r\n\r\n'
        routed = b'POST //echo HTTP/1.1\r\nContent-Length: 7\r\n\r\n{"c":3}'
        whole = plain + chunked + routed + chunked + routed + routed + plain + plain + routed + chunked + plain

        for size in (1, 2, 7, 50, len(whole)):
            client = self.web.client()
            pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
            received = b"".join([client.send(piece) for piece in pieces])

            letters = b"".join(piece[-5:-4] for piece in received.split(b"HTTP/1.1 200 OK")[1:])
            self.assertEqual(letters, b"abcbccaacba")
            client.closed(ConnectionLost())

    def test_many_requests_at_once(self) -> None:
        """However many requests come in one piece, each is answered."""
        one = b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

        received = self.web.client().send(one * 3000)

        self.assertEqual(received.count(b"HTTP/1.1 200 OK"), 3000)

    def test_client_is_told_to_go_on(self) -> None:
        """A client that expects it is told once to send its body (RFC 9110 §10.1.1), and one that has not is not."""
        client = self.web.client()
        head = b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"

        told = client.send(head), client.send(b"{"), client.send(b"}")

        self.assertEqual(told[:2], (b"HTTP/1.1 100 Continue\r\n\r\n", b""))
        self.assertEqual(Reply(told[2]).status, 200)

    def test_last_answer_says_so(self) -> None:
        """A connection that the client wants closed is closed with an answer that tells it."""
        client = self.web.client()

        reply = client.ask("POST", "/echo", {}, {"Connection": "close"})

        self.assertEqual((reply.status, reply.headers["Connection"], client.open), (200, "close", False))

    def test_draining_site_ends_connections_with_their_answers(self) -> None:
        """A stopping site closes idle connections at once and busy ones after their answer."""
        idle, busy = self.web.client(), self.web.client()
        busy.request("POST", "/later", {})

        self.web.site.drain()
        self.assertEqual((idle.open, busy.open), (False, True))
        self.echo.waiting[0].callback(json_response({}))

        self.assertEqual(Reply(busy.received()).status, 200)
        self.assertFalse(busy.open)

    def test_stopped_site_leaves_no_timer(self) -> None:
        """A site that is no longer listened on looks after nobody."""
        self.web.site.stopFactory()

        self.assertEqual(self.web.clock.getDelayedCalls(), [])


class DirectSiteTests(SiteTests):
    """The same over the lean lane."""

    def direct(self) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that are served directly: all of them."""
        echo = self.echo
        return {
            (b"POST", b"/echo"): echo.echo,
            (b"DELETE", b"/echo"): echo.echo,
            (b"POST", b"/later"): echo.later,
            (b"GET", b"/refuse"): echo.refuse,
            (b"GET", b"/bug"): echo.bug,
        }

    def test_requests_sent_ahead_wait_for_their_turn(self) -> None:
        """What comes while a request is served is answered after it, whichever way it takes."""
        client = self.web.client()
        client.request("POST", "/later", {})

        client.request("POST", "/echo", {"a": 1})
        client.request("GET", "/nope")
        self.assertEqual(client.received(), b"")
        self.echo.waiting[0].callback(json_response({"first": True}))

        received = client.received()
        self.assertEqual(received.count(b"HTTP/1.1 200 OK"), 2)
        self.assertLess(received.index(b"first"), received.index(b'"a":1'))
        self.assertLess(received.index(b'"a":1'), received.index(b"unknown_path"))

    def test_client_that_sends_too_far_ahead_is_read_no_further(self) -> None:
        """While a request is served only so much of what follows is taken."""
        client = self.web.client()
        client.request("POST", "/later", {})

        client.send(b"x" * 70_000)
        paused = client.wire.producerState
        self.echo.waiting[0].callback(json_response({}))

        self.assertEqual((paused, client.wire.producerState), ("paused", "producing"))

    def test_what_follows_the_last_request_is_not_answered(self) -> None:
        """After the answer that ends a connection there is no other one, whatever was sent ahead."""
        client = self.web.client()
        self.patch(client.wire, "loseConnection", lambda: None)  # a real one is lost only after this turn
        client.request("POST", "/later", {}, {"Connection": "close"})
        client.send(b"x" * 50_000)

        self.echo.waiting[0].callback(json_response({}))

        self.assertEqual(client.received().count(b"HTTP/1.1 "), 1)

    def test_client_that_reads_nothing_is_asked_nothing_more(self) -> None:
        """Once enough answers wait to be read, no more requests are served until the client reads."""
        client = self.web.client()
        client.wire.room = 5000
        one = b"POST /later HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

        client.channel.dataReceived(one * 100)
        served = []
        for _ in range(3):
            while self.echo.waiting:
                self.echo.waiting.pop().callback(json_response({"long": "x" * 1000}))
            served.append(client.received().count(b"HTTP/1.1 200 OK"))

        self.assertEqual(served, [5, 5, 5])

    def test_answers_that_are_there_at_once_wait_to_be_read_too(self) -> None:
        """The same holds for requests that are answered as soon as they are read."""
        client = self.web.client()
        client.wire.room = 500
        one = b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

        client.channel.dataReceived(one * 100)
        served = [client.received().count(b"HTTP/1.1 200 OK") for _ in range(20)]

        self.assertEqual(set(served), {served[0]})
        self.assertLess(served[0], 10)

    def test_trickling_first_line_is_408(self) -> None:
        """What may still become a direct request is waited for only so long."""
        client = self.web.client()
        client.send(b"POST /ec")

        self.web.clock.pump([1] * 7)

        self.check_failure(Reply(client.received()), 408, "request_timeout")
