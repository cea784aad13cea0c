"""The control plane of a server, over HTTP: is it alive, what shall it hold, what does it hold.

Every call has a deadline and fails with ControlFailed, whatever went wrong; nothing is retried here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers

from dbnode.client.signature import sign
from dbnode.wire import Endpoint, ManagedConfig
from raftlog.tls import words

#: What is read of an error's body; ours are far shorter.
_ERROR_BYTES_MAX = 1 << 16


#: What the network does to a request.
_UNREACHABLE = (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)


class ControlFailed(Exception):
    """A control request failed. `code` is the server's own word, or "unreachable"; `status` is 0 without an answer."""

    def __init__(self, code: str, text: str, status: int = 0) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status


class Control:
    """The control plane of all servers of a cluster.

    `http` is a treq client over the process's one connection pool; with `tls` it is one that servers in TLS accept
    (dbnode.client.tls). `secret` is the cluster's.
    """

    def __init__(self, clock: IReactorTime, http: HTTPClient, secret: bytes, *, tls: bool = False) -> None:
        self._clock = clock
        self._http = http
        self._secret = secret
        self._scheme = "https" if tls else "http"

    async def heartbeat(self, server: Endpoint, timeout_seconds: float) -> None:
        """Return if the server is alive."""
        await self.exchange("GET", server, "/heartbeat", b"", timeout_seconds)

    async def configure(
        self,
        server: Endpoint,
        schema: dict[str, list[str]],
        cluster: ManagedConfig,
        timeout_seconds: float,
    ) -> None:
        """Tell a server what it holds; returns once its replicas exist durably. Safe to repeat."""
        shards = [group.shard for group in cluster.groups]
        body = msgspec.json.encode({"schema": schema, "shards": shards, "cluster": cluster})
        await self.exchange("POST", server, "/config", body, timeout_seconds)

    async def copy(
        self, server: Endpoint, shards: list[str], deliver: Callable[[bytes], None], timeout_seconds: float
    ) -> None:
        """Pass all rows of some shards of one server on, as the bytes of one JSON object, while they arrive.

        `timeout_seconds` bounds the whole. If it fails, what was delivered is not the whole.
        """
        body = msgspec.json.encode({"shards": shards})
        await self._timed(self._copy(server, body, deliver), timeout_seconds)

    async def _copy(self, server: Endpoint, body: bytes, deliver: Callable[[bytes], None]) -> None:
        response = await self._request("POST", server, "/copy", body)
        await response.collect(deliver)

    async def exchange(self, method: str, server: Endpoint, path: str, body: bytes, timeout_seconds: float) -> bytes:
        """Make a signed request, of a server or of a balancer, and return the whole body of its answer."""

        async def whole() -> bytes:
            response = await self._request(method, server, path, body)
            content: bytes = await response.content()
            return content

        content: bytes = await self._timed(whole(), timeout_seconds)
        return content

    async def _request(self, method: str, server: Endpoint, path: str, body: bytes) -> Any:
        headers = Headers(
            {b"Authorization": [sign(self._secret, method, path, body)], b"Content-Type": [b"application/json"]}
        )
        url = f"{self._scheme}://{server.host}:{server.port}{path}"
        response: Any = await self._http.request(method, url, headers=headers, data=body or None, unbuffered=True)
        if response.code != 200:
            raise await _refusal(response)
        return response

    async def _timed(self, work: Any, timeout_seconds: float) -> Any:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(timeout_seconds, self._clock, _too_late)
        except _UNREACHABLE as error:
            if _is_cancelled(error):
                raise CancelledError from None
            raise ControlFailed("unreachable", _in_words(error)) from error


def _too_late(result: object, timeout_seconds: float) -> NoReturn:
    raise ControlFailed("unreachable", f"no answer within {timeout_seconds:g} seconds")


def _in_words(error: Exception) -> str:
    """Return what kept a request from being answered; the client wraps what TLS says in a list."""
    for reason in getattr(error, "reasons", ()):
        if reason.check(SSL.Error):
            return f"TLS failed: {words(reason.value)}"
    return str(error) or type(error).__name__


def _is_cancelled(error: Exception) -> bool:
    """Tell whether a request ended because its caller gave up: each stage of a request says so in its own way."""
    reasons = getattr(error, "reasons", ())
    return isinstance(error, ConnectingCancelledError) or any(reason.check(CancelledError) for reason in reasons)


async def _refusal(response: Any) -> ControlFailed:
    body = (await response.content())[:_ERROR_BYTES_MAX]
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError):  # ValueError: msgspec's errors, and bytes that are no UTF-8
        told = {}
    code = str(told.get("code", "bad_answer"))
    text = str(told.get("message", f"status {response.code} without an explanation")).removeprefix("<Error> ")
    return ControlFailed(code, text, response.code)
