"""The control plane's client, against a real site in memory."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from klein import Klein
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived
from twisted.web.http import Request
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from dbnode.client.control import Control, ControlFailed
from dbnode.client.signature import is_signed, sign
from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, Response, answer, decode_object, errors_as_json, json_response
from dbnode.test.request_body import Body
from dbnode.wire import Endpoint, GroupConfig, ManagedConfig

SECRET = b"secret"
SERVER = Endpoint("127.0.0.1", 5000)
CONFIG = ManagedConfig("c", 3, "Server0", [GroupConfig(7, "sh1", {"1": "Server0"}, [1])], {"Server0": SERVER}, "i")


class Server:
    """A server's control endpoints; `refusal` is what /config answers with, if set."""

    app = Klein()
    errors_as_json(app)

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.refusal: ApiError | None = None
        self.answer = json_response({})

    @app.route("/heartbeat")
    def _heartbeat(self, request: Request) -> Deferred[None] | None:
        return answer(request, lambda headers, body: Response(200, b"", ()))

    @app.route("/config", methods=["POST"])
    def _config(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.config)

    @app.route("/copy", methods=["POST"])
    def _copy(self, request: Request) -> Deferred[None] | None:
        return answer(request, lambda headers, body: Response(200, b'{"asked":' + body + b"}"))

    def config(self, headers: Headers, body: bytes) -> Response:
        """Check the signature and remember what was told."""
        if self.refusal is not None:
            raise self.refusal
        assert is_signed(SECRET, "POST", "/config", body, headers.get(b"authorization"))
        self.told.append(decode_object(headers, body))
        return self.answer


class ControlTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a server, and a client of it."""
        self.clock = Clock()
        self.server = Server()
        agent = RequestTraversalAgent(self.server.app.resource())
        self.control = Control(self.clock, HTTPClient(agent, data_to_body_producer=Body), SECRET)

    def run_now(self, work: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
        """Run a coroutine that needs no time."""
        return Deferred.fromCoroutine(work)

    def test_heartbeat_of_a_live_server(self) -> None:
        """A server that answers is alive."""
        self.assertIsNone(self.successResultOf(self.run_now(self.control.heartbeat(SERVER, 1))))

    def test_configuration_arrives_whole_and_signed(self) -> None:
        """A server gets schema, names of shards and the cluster's part, under a signature of all of it."""
        schema = {"columns": ["id"], "dtypes": ["Number"]}

        self.successResultOf(self.run_now(self.control.configure(SERVER, schema, CONFIG, 1)))

        (told,) = self.server.told
        self.assertEqual((told["schema"], told["shards"]), (schema, ["sh1"]))
        self.assertEqual((told["cluster"]["version"], told["cluster"]["incarnation"]), (3, "i"))

    def test_refusal_carries_the_servers_words(self) -> None:
        """What the server says is wrong reaches the caller: code, text and status."""
        self.server.refusal = ApiError("stale_config", "too old", status=409)

        failed = self.run_now(self.control.configure(SERVER, {}, CONFIG, 1))

        error = self.failureResultOf(failed, ControlFailed).value
        self.assertEqual((error.code, error.text, error.status), ("stale_config", "too old", 409))

    def test_refusal_without_words(self) -> None:
        """A refusal that explains nothing is told with its status, whatever its body holds."""
        for body in (b"", b'{"code":"\xff"}', b"[" * 100_000):
            self.server.answer = Response(500, body)

            failed = self.run_now(self.control.configure(SERVER, {}, CONFIG, 1))

            error = self.failureResultOf(failed, ControlFailed).value
            self.assertEqual((error.code, error.status), ("bad_answer", 500))

    def test_copy_is_passed_on_as_it_comes(self) -> None:
        """The bytes of a copy are delivered, not kept."""
        pieces: list[bytes] = []

        self.successResultOf(self.run_now(self.control.copy(SERVER, ["sh1"], pieces.append, 1)))

        self.assertEqual(b"".join(pieces), b'{"asked":{"shards":["sh1"]}}')

    def test_silence_fails_in_time(self) -> None:
        """A server that does not answer, or does not even take a connection, is unreachable once the time is over."""
        for cancelled in CANCELLED:
            failed = self.run_now(self.silent(cancelled).heartbeat(SERVER, 2))
            self.clock.advance(1.9)
            self.assertNoResult(failed)
            self.clock.advance(0.2)

            self.assertIn("no answer within 2 seconds", self.failureResultOf(failed, ControlFailed).value.text)

    def test_whoever_gives_up_is_told_so(self) -> None:
        """A request that its caller cancels says nothing about the server."""
        for cancelled in CANCELLED:
            given_up = self.run_now(self.silent(cancelled).heartbeat(SERVER, 2))

            given_up.cancel()

            self.failureResultOf(given_up, CancelledError)

    def silent(self, cancelled: Exception) -> Control:
        """Return the control plane of servers that never answer."""
        return Control(self.clock, HTTPClient(_Silent(cancelled)), SECRET)


#: How a request that is cancelled ends, by the stage it is in: connecting, sending, waiting; or before any of these.
CANCELLED = (
    ConnectingCancelledError(IPv4Address("TCP", "127.0.0.1", 5000)),
    RequestTransmissionFailed([Failure(CancelledError())]),
    ResponseNeverReceived([Failure(CancelledError())]),
    CancelledError(),
)


@implementer(IAgent)
class _Silent:
    """An agent whose requests are never answered; one that is cancelled ends with an error."""

    def __init__(self, cancelled: Exception) -> None:
        self._cancelled = cancelled

    def request(
        self, method: bytes, uri: bytes, headers: object = None, bodyProducer: object = None
    ) -> Deferred[IResponse]:
        return Deferred(lambda request: request.errback(self._cancelled))


class SignatureTests(SynchronousTestCase):
    def test_signature_covers_everything(self) -> None:
        """A signature is good for one method, path, body and secret."""
        signed = sign(SECRET, "POST", "/config", b"{}")

        self.assertTrue(is_signed(SECRET, "POST", "/config", b"{}", signed))
        for changed in (
            (b"other", "POST", "/config", b"{}", signed),
            (SECRET, "PUT", "/config", b"{}", signed),
            (SECRET, "POST", "/copy", b"{}", signed),
            (SECRET, "POST", "/config", b"{ }", signed),
            (SECRET, "POST", "/config", b"{}", b"Basic x"),
            (SECRET, "POST", "/config", b"{}", None),
        ):
            self.assertFalse(is_signed(*changed))
