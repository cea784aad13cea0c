"""A server at the other end of an in-memory connection, for tests of the client without sockets."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.test.iosim import IOPump, makeFakeClient, makeFakeServer
from zope.interface import implementer


class Recorder(Protocol):
    """A server that keeps what it gets and answers only what a test writes through its transport."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep the bytes."""
        self.received += data


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to servers made by `build`, or refuses while `refuses` is set.

    `servers` are the server protocols of all connections so far, in order.
    """

    def __init__(self, build: type[Protocol] = Recorder) -> None:
        self._build = build
        self._pumps: list[IOPump] = []
        self.servers: list[Protocol] = []
        self.refuses = False

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect at once; bytes move when the test calls `flush`."""
        if self.refuses:
            return fail(ConnectionRefusedError())
        client = factory.buildProtocol(None)  # type: ignore[arg-type]
        assert client is not None
        server = self._build()
        self.servers.append(server)
        near, far = makeFakeClient(client), makeFakeServer(server)
        self._pumps.append(IOPump(client, server, near, far, False))
        client.makeConnection(near)
        server.makeConnection(far)
        return succeed(client)

    def flush(self) -> None:
        """Move bytes until all connections are quiet."""
        while sum(pump.pump() for pump in self._pumps):
            continue
