"""Passing requests on: against a site in memory, and against nobody."""

from __future__ import annotations

from klein import Klein
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.http import Request
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from dbnode.errors import ApiError
from dbnode.jsonhttp import Endpoint, Headers, Response, answer, errors_as_json
from dbnode.test.request_body import Body
from lbnode.forwarding import HOPS_HEADER, Forwarding

URL = "http://10.0.0.1:5000"


class Controller:
    """Where requests arrive; what it answers can be set."""

    app = Klein()
    errors_as_json(app)

    def __init__(self) -> None:
        self.asked: list[tuple[bytes | None, bytes | None, bytes]] = []
        self.answer = Response(200, b'{"status":"success"}')
        #: What the endpoint does instead, if set.
        self.endpoint: Endpoint = self.take

    @app.route("/init", methods=["POST"])
    def _init(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.endpoint)

    async def take(self, headers: Headers, body: bytes) -> Response:
        """Remember a request."""
        self.asked.append((headers.get(HOPS_HEADER), headers.get(b"content-type"), body))
        return self.answer


@implementer(IAgent)
class Fate:
    """An agent whose requests all end in the same way; None: never."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def request(
        self, method: bytes, uri: bytes, headers: object = None, bodyProducer: object = None
    ) -> Deferred[IResponse]:
        """See IAgent.request."""
        return Deferred() if self._error is None else fail(self._error)


class ForwardingTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a controller, and somebody who passes requests on to it."""
        self.clock = Clock()
        self.controller = Controller()
        self.url: str | None = URL
        self.passer = self.with_agent(RequestTraversalAgent(self.controller.app.resource()))

    def with_agent(self, agent: IAgent) -> Forwarding:
        """Return who passes requests on by an agent."""
        http = HTTPClient(agent, data_to_body_producer=Body)
        return Forwarding(self.clock, http, lambda: self.url, deadline_seconds=60)

    def forward(self, passer: Forwarding, headers: dict[bytes, bytes] | None = None) -> Deferred[Response]:
        """Pass on an /init."""
        return Deferred.fromCoroutine(passer.forward("POST", "/init", headers or {}, b'{"N":1}'))

    def assertFails(self, asked: Deferred[Response], code: str, status: int, applied: str) -> ApiError:
        """Check how a request failed."""
        error: ApiError = self.failureResultOf(asked, ApiError).value
        self.assertEqual((error.code, error.status, error.applied), (code, status, applied))
        return error

    def test_a_request_arrives_as_it_was(self) -> None:
        """The body and the headers that count arrive, with the number of hops; the answer comes back."""
        answered = self.successResultOf(self.forward(self.passer, {b"content-type": b"application/json"}))

        self.assertEqual(self.controller.asked, [(b"1", b"application/json", b'{"N":1}')])
        self.assertEqual((answered.status, answered.body), (200, b'{"status":"success"}'))
        self.assertIn((b"Content-Type", b"application/json"), answered.headers)

    def test_a_refusal_comes_back_as_it_is(self) -> None:
        """Status, body and Retry-After are the controller's own."""
        self.controller.answer = Response(409, b'{"code":"busy"}', ((b"Retry-After", b"3"),))

        answered = self.successResultOf(self.forward(self.passer))

        self.assertEqual((answered.status, answered.body), (409, b'{"code":"busy"}'))
        self.assertIn((b"Retry-After", b"3"), answered.headers)

    def test_nothing_goes_in_circles(self) -> None:
        """Two processes that pass everything on to each other stop after the third hop, and say so."""
        self.controller.endpoint = self.passer.endpoint("POST", "/init")

        answered = self.successResultOf(self.forward(self.passer))

        self.assertEqual(answered.status, 503)
        self.assertIn(b"no_controller", answered.body)
        self.assertFails(self.forward(self.passer, {HOPS_HEADER: b"3"}), "no_controller", 503, "no")
        self.assertFails(self.forward(self.passer, {HOPS_HEADER: b"many"}), "no_controller", 503, "no")

    def test_without_a_controller(self) -> None:
        """While nobody is the controller a request is refused at once, with a time to try again."""
        self.url = None

        error = self.assertFails(self.forward(self.passer), "no_controller", 503, "no")

        self.assertEqual(error.retry_after_seconds, 1)
        self.assertEqual(self.controller.asked, [])

    def test_what_was_not_sent_was_not_carried_out(self) -> None:
        """A controller that takes no connection has certainly done nothing."""
        gone = self.with_agent(Fate(ConnectionRefusedError()))

        self.assertFails(self.forward(gone), "no_controller", 503, "no")

    def test_what_was_cut_off_is_unknown(self) -> None:
        """A controller that goes away after it was asked may have done it."""
        cut = self.with_agent(Fate(ResponseNeverReceived([Failure(ConnectionLost())])))

        error = self.assertFails(self.forward(cut), "outcome_unknown", 504, "unknown")

        self.assertIn("cut off", error.text)

    def test_silence_ends_in_time(self) -> None:
        """After the deadline the outcome is unknown."""
        asked = self.forward(self.with_agent(Fate(None)))

        self.clock.advance(59)
        self.assertNoResult(asked)
        self.clock.advance(2)

        error = self.assertFails(asked, "outcome_unknown", 504, "unknown")
        self.assertIn("60 seconds", error.text)
