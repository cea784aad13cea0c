"""Ways to knock at a balancer's HTTP door: one in memory, one over the network. The same tests go through each."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import alsoProvides

#: How far the clock is turned for one answer at most; beyond every deadline there is.
_ANSWER_SECONDS_MAX = 60.0
_STEP_SECONDS = 0.01


@dataclass(frozen=True)
class Reply:
    """What came back; `whole` is False if the connection was cut before the answer's end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class Door(Protocol):
    """Something that takes requests one by one."""

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request as it is, and return what comes back."""


class _Transport(StringTransport):
    """A StringTransport that tells an abort from an orderly end, and passes for TCP."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: nothing is delayed here."""

    def loseWriteConnection(self) -> None:
        """End our side; a client in memory never goes on sending."""
        self.loseConnection()

    def abortConnection(self) -> None:
        """Remember that the connection was cut."""
        self.aborted = True
        self.loseConnection()


class Call:
    """A request on a connection of its own, under way."""

    def __init__(self, clock: Clock, protocol: IProtocol, transport: _Transport) -> None:
        self._clock = clock
        self._protocol = protocol
        self._transport = transport

    @property
    def answered(self) -> bool:
        """Whether the answer is there."""
        return self._transport.disconnecting

    def reply(self) -> Reply:
        """Let time pass until the answer is there."""
        for _ in range(round(_ANSWER_SECONDS_MAX / _STEP_SECONDS)):
            if self._transport.disconnecting:
                return _parsed(self._transport.value(), whole=not self._transport.aborted)
            self._clock.advance(_STEP_SECONDS)
        raise AssertionError(f"no answer within {_ANSWER_SECONDS_MAX} seconds")

    def hang_up(self) -> None:
        """Go away without waiting for the answer."""
        self._protocol.connectionLost(Failure(ConnectionDone()))


class MemoryDoor:
    """A site without sockets; time passes on `clock` until there is an answer.

    The first `trickling` bytes of a request arrive one by one.
    """

    def __init__(self, clock: Clock, factory: IProtocolFactory, *, trickling: int = 0) -> None:
        self._clock = clock
        self._factory = factory
        self._trickling = trickling

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request and wait for its answer."""
        return self.begin(method, path, body, headers).reply()

    def begin(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Call:
        """Send one request."""
        address = IPv4Address("TCP", "127.0.0.1", 5000)
        protocol = self._factory.buildProtocol(address)
        assert protocol is not None
        transport = _Transport(hostAddress=address, peerAddress=address)
        alsoProvides(transport, ITCPTransport)
        protocol.makeConnection(transport)
        lines = [f"{method} {path} HTTP/1.1", "Host: balancer", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        data = "\r\n".join([*lines, "", ""]).encode() + body
        for byte in data[: self._trickling]:
            protocol.dataReceived(bytes([byte]))
        if rest := data[self._trickling :]:
            protocol.dataReceived(rest)
        return Call(self._clock, protocol, transport)


class UrlDoor:
    """A balancer that runs somewhere."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_ANSWER_SECONDS_MAX)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            return _read(connection.getresponse())
        finally:
            connection.close()


class _Received:
    """The received bytes as http.client wants a socket."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, *_: Any) -> BytesIO:
        return BytesIO(self._received)


def _parsed(received: bytes, *, whole: bool) -> Reply:
    response = http.client.HTTPResponse(_Received(received))  # type: ignore[arg-type]  # only makefile is asked for
    response.begin()
    return _read(response, whole=whole)


def _read(response: http.client.HTTPResponse, *, whole: bool = True) -> Reply:
    try:
        body = response.read()
    except http.client.IncompleteRead as cut:
        body, whole = cut.partial, False
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body, whole)
