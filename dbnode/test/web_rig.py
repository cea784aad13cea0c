"""A JsonSite without sockets: raw bytes in, parsed answers out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from zope.interface import implementer

from dbnode.jsonhttp import Endpoint, JsonSite, Limits, UploadEndpoint
from dbnode.jsonhttp.channel import JsonChannel


@implementer(ITCPTransport)
class Wire(StringTransport):
    """The server's side of a TCP connection to `client`."""

    client: Client
    half_closed = False
    #: So many bytes may wait for the client before the producer is paused; None: any number.
    room: int | None = None

    def write(self, data: bytes) -> None:
        """Take bytes, and ask for a pause when too many wait."""
        super().write(data)
        if self.room is not None and len(self.value()) > self.room:
            self.client.channel.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Take bytes."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """Note that nothing more will be written."""
        self.half_closed = True

    def loseConnection(self) -> None:
        """Close."""
        super().loseConnection()
        self.client.closed(ConnectionDone())

    def abortConnection(self) -> None:
        """Cut."""
        self.client.aborted = True
        self.client.closed(ConnectionAborted())

    def setTcpNoDelay(self, enabled: object) -> None:
        """Do nothing: there is no Nagle here."""

    def getTcpNoDelay(self) -> bool:
        """Say that nothing is delayed."""
        return True

    def setTcpKeepAlive(self, enabled: object) -> None:
        """Do nothing: there is nothing to keep alive."""

    def getTcpKeepAlive(self) -> bool:
        """Say that nothing is kept alive."""
        return False


class Client:
    """One client's connection to a site."""

    def __init__(self, site: JsonSite) -> None:
        channel = site.buildProtocol(None)
        assert isinstance(channel, JsonChannel)
        self.channel = channel
        self.aborted = False
        self.open = True
        self.wire = Wire()
        self.wire.client = self
        channel.makeConnection(self.wire)

    def send(self, data: bytes) -> bytes:
        """Send raw bytes; return all that has come back since the last time."""
        self.channel.dataReceived(data)
        return self.received()

    def received(self) -> bytes:
        """Return all that has come back since the last time, which makes room for more."""
        data: bytes = self.wire.value()
        self.wire.clear()
        if self.open and self.wire.room is not None:
            self.channel.resumeProducing()
        return data

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Make a whole request whose answer comes at once."""
        self.request(method, path, body, headers)
        return Reply(self.received())

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        """Make a whole request; a body that is not bytes is encoded as JSON."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + content)

    def closed(self, reason: Exception) -> None:
        """Take the end of the connection, from either side."""
        if self.open:
            self.open = False
            self.channel.connectionLost(Failure(reason))


class Reply:
    """A parsed answer."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = dict(line.split(": ", 1) for line in lines)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = _unchunked(self.body)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        """The code of a failure."""
        return self.json["code"]


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        whole += data[:length]
        data = data[length + 2 :]
    return whole


class Web:
    """A started site with a clock, and its clients."""

    def __init__(
        self,
        resource: IResource,
        limits: Limits | None = None,
        direct: Mapping[tuple[bytes, bytes], Endpoint] | None = None,
        clock: Clock | None = None,
        uploads: Mapping[tuple[bytes, bytes], UploadEndpoint] | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.site = JsonSite(self.clock, resource, limits or Limits(), direct, uploads)
        self.site.startFactory()

    def client(self) -> Client:
        """Open a connection."""
        return Client(self.site)

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Make one request on a connection of its own; its answer comes at once."""
        client = self.client()
        reply = client.ask(method, path, body, headers)
        client.closed(ConnectionDone())
        return reply
