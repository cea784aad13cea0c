"""Single requests to a balancer, for what surrounds a measurement: state, initialisation, verification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IReactorTCP, IReactorTime, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from benchmarks.http1 import MalformedResponseError, Response, ResponseParser
from benchmarks.workloads import http_request

_NO_ANSWER = (ConnectError, ConnectionClosed, TimeoutError, MalformedResponseError)


class UnexpectedAnswerError(Exception):
    """The balancer answered a request of ours with something else than 200."""

    def __init__(self, what: str, response: Response) -> None:
        super().__init__(f"{what} answered {response.status}: {response.body[:500].decode(errors='replace')}")
        self.status = response.status


class UnreachableError(Exception):
    """The world's fault: no whole answer came."""


class NotConnectedError(UnreachableError):
    """The world's fault: there was no connection, so nothing was asked."""


class Door:
    """The balancer at host and port. Every request has a connection of its own and a deadline."""

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor: IReactorTime = reactor
        tcp: IReactorTCP = reactor
        self.host = f"{host}:{port}"
        self.endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(tcp, host, port)

    async def ask(self, method: str, path: str, body: object = None, *, deadline_seconds: float = 60.0) -> Response:
        """Return the answer, whatever its status. Raises UnreachableError if there is none within the deadline.

        Cancelled while connecting it fails with ConnectingCancelledError, else with CancelledError.
        """
        exchange = _Exchange(http_request(method, path, self.host, body))
        connecting: Deferred[_Exchange] = connectProtocol(self.endpoint, exchange)
        try:
            await connecting.addTimeout(deadline_seconds, self._reactor, _time_out)
            response: Response = await exchange.answer.addTimeout(deadline_seconds, self._reactor, _time_out)
        except _NO_ANSWER as reason:
            kind = UnreachableError if exchange.connected else NotConnectedError
            raise kind(f"no answer to {method} {path} at {self.host}: {reason}") from reason
        finally:
            exchange.close()
        return response

    async def json(self, method: str, path: str, body: object = None, *, deadline_seconds: float = 60.0) -> Any:
        """Return the decoded body of a 200; raises UnexpectedAnswerError for anything else."""
        response = await self.ask(method, path, body, deadline_seconds=deadline_seconds)
        if response.status != 200:
            raise UnexpectedAnswerError(f"{method} {path}", response)
        return msgspec.json.decode(response.body)

    async def leaders(self) -> dict[str, str]:
        """Return who leads each shard."""
        return _without_status(await self.json("GET", "/primary_elect"))

    async def rows_on(self, server: str) -> dict[str, list[Any]]:
        """Return what the replicas of a server hold, by shard."""
        return _without_status(await self.json("GET", f"/read/{quote(server, safe='')}"))


def _time_out(outcome: object, seconds: float) -> NoReturn:
    """Tell a deadline from a cancellation: a connection attempt fails in the same way from both."""
    raise TimeoutError(f"{seconds:g} s are over")


def _without_status(answer: dict[str, Any]) -> dict[str, Any]:
    return {shard: value for shard, value in answer.items() if shard != "status"}


def host_and_port(url: str) -> tuple[str, int]:
    """Return where `http://host:port` points; raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{url!r} is not of the form http://host:port")
    return parts.hostname, parts.port or 80


class _Exchange(Protocol):
    """Sends one request and gives its answer."""

    transport: ITCPTransport

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser = ResponseParser()
        self.answer: Deferred[Response] = Deferred()

    def close(self) -> None:
        """End the connection, if there is one."""
        if self.connected:
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._deliver(lambda: self._parser.feed(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deliver(self._parser.close)
        if not self.answer.called:
            self.answer.errback(reason)

    def _deliver(self, read: Callable[[], Response | None]) -> None:
        if self.answer.called:
            return
        try:
            response = read()
        except MalformedResponseError:
            self.answer.errback()
            return
        if response is not None:
            self.answer.callback(response)
