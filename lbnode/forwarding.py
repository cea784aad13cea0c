"""Requests about the cluster that reach a process which is not the controller: passed on, once, over HTTP.

Whoever passes a request on says in a header how often that was done already. A worker passes it to its balancer, and
that to the controller, perhaps by way of the controller's worker; nobody passes it further, so that two processes that
take each other for the controller cannot play it back and forth. Nothing is sent twice: when it is not known whether
the other end got the request, the outcome is unknown and said to be so (RAFT_RULES 41).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers as WebHeaders

from dbnode.errors import ApiError
from dbnode.jsonhttp import Endpoint, Headers, Response

#: How often the request was passed on before.
HOPS_HEADER = b"shardlb-hops"
#: From a worker to its balancer, from there to the controller's worker, and from that to the controller.
_HOPS_MAX = 3
#: What of a request and of an answer means something to the other side.
_REQUEST_HEADERS = (b"content-type", b"authorization", b"idempotency-key")
_ANSWER_HEADERS = (b"Content-Type", b"Retry-After")
#: A new controller is there after an election or two.
_RETRY_AFTER_SECONDS = 1

#: The connection never came to be: nothing was sent.
_NOT_SENT = (ConnectError, ConnectingCancelledError, DNSLookupError)
#: It was lost, and who knows when.
_CUT_OFF = (ConnectionClosed, RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived)


def no_controller(why: str) -> ApiError:
    """Return what a client is told while nobody can change the cluster."""
    text = f"{why}; reads and writes go on, try again later"
    return ApiError("no_controller", text, status=503, applied="no", retry_after_seconds=_RETRY_AFTER_SECONDS)


def outcome_unknown(why: str) -> ApiError:
    """Return what a client is told who must look at /status to see what became of the request."""
    text = f"{why}: it may or may not be carried out; GET /status shows it"
    return ApiError("outcome_unknown", text, status=504, applied="unknown", retry_after_seconds=_RETRY_AFTER_SECONDS)


class Forwarding:
    """Passes requests on.

    `http` is a treq client that keeps no connections: on one that the other side has just closed a request could get
    lost, and nobody would know. `find` returns the base URL of who shall get a request, such as
    `http://10.0.0.1:5000`, None if there is nobody. `deadline_seconds` is how long it may take there.
    """

    def __init__(
        self, clock: IReactorTime, http: HTTPClient, find: Callable[[], str | None], *, deadline_seconds: float
    ) -> None:
        self._clock = clock
        self._http = http
        self._find = find
        self._deadline_seconds = deadline_seconds

    def endpoint(self, method: str, path: str) -> Endpoint:
        """Return the endpoint that passes on all requests for this method and path."""

        async def forwarded(headers: Headers, body: bytes) -> Response:
            return await self.forward(method, path, headers, body)

        return forwarded

    async def forward(self, method: str, path: str, headers: Headers, body: bytes) -> Response:
        """Return the other side's answer, whatever it is.

        Raises ApiError: `no_controller` (503) if the request was certainly not carried out, `outcome_unknown` (504)
        if nobody can say.
        """
        hops = _hops(headers)
        if hops >= _HOPS_MAX:
            raise no_controller(f"the request was passed on {hops} times, and nobody took it")
        url = self._find()
        if url is None:
            raise no_controller("nobody is the controller now")
        passed = WebHeaders({HOPS_HEADER: [b"%d" % (hops + 1)]})
        for name in _REQUEST_HEADERS:
            if (value := headers.get(name)) is not None:
                passed.setRawHeaders(name, [value])
        return await self._in_time(url, self._exchange(method, f"{url}{path}", passed, body))

    async def _exchange(self, method: str, url: str, headers: WebHeaders, body: bytes) -> Response:
        response: Any = await self._http.request(method, url, headers=headers, data=body or None, unbuffered=True)
        content: bytes = await response.content()
        raw = response.headers.getRawHeaders
        return Response(response.code, content, tuple((name, raw(name)[-1]) for name in _ANSWER_HEADERS if raw(name)))

    async def _in_time(self, url: str, exchange: Any) -> Response:
        late = f"{url} did not answer within {self._deadline_seconds:g} seconds"
        try:
            answer: Response = await Deferred.fromCoroutine(exchange).addTimeout(self._deadline_seconds, self._clock)
        except TimeoutError:
            raise outcome_unknown(late) from None
        except _NOT_SENT as error:
            raise no_controller(f"the controller at {url} does not take connections ({error})") from error
        except _CUT_OFF as error:
            # A request that is cancelled at its deadline fails of that.
            cancelled = any(reason.check(CancelledError) for reason in getattr(error, "reasons", ()))
            raise outcome_unknown(late if cancelled else f"{url} was cut off before it answered") from error
        return answer


def _hops(headers: Headers) -> int:
    """Return how often a request was passed on; a header that is no number counts as too often."""
    value = headers.get(HOPS_HEADER)
    if value is None:
        return 0
    return int(value) if value.isdigit() and len(value) < 4 else _HOPS_MAX
