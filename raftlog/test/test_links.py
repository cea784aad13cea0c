"""The real Links over loopback sockets: what only a real transport shows."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, KeyPair, PrivateCertificate
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from raftlog.link import Connection, Endpoint, Identity, Lane, Receive
from raftlog.link.connection import FramedConnection
from raftlog.link.frames import frame
from raftlog.link.greeting import Prover
from raftlog.link.handshake import DiallerHandshake
from raftlog.link.links import Links
from raftlog.link.options import LinkOptions
from raftlog.test.link_rigs import decode, encode

SECRET = b"the secret of the test"
MIB = 1 << 20


class StuckReader(Protocol):
    """A peer that knows the secret, and reads nothing once it is let in."""

    transport: Any

    def __init__(self) -> None:
        identity = Identity("c1", "server", "S", "s1")
        self._handshake = DiallerHandshake(identity, Prover(SECRET), b"s" * 32, "B", Lane.DATA)

    def connectionMade(self) -> None:
        """Begin the handshake."""
        self.transport.write(self._handshake.start())

    def dataReceived(self, data: bytes) -> None:
        """Go on with the handshake; after it, ask for much and stop reading."""
        self.transport.write(self._handshake.receive(data))
        if self._handshake.complete:
            self.transport.write(frame(encode(["much"])))
            self.transport.pauseProducing()


def port_of(listening: IListeningPort) -> int:
    """Return the number of a TCP port."""
    address = listening.getHost()
    assert isinstance(address, IPv4Address)
    return address.port


class SocketTests(TestCase):
    """Two servers on loopback."""

    def setUp(self) -> None:
        """Take the reactor that runs these tests."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.received: list[Any] = []

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to become true; trial's timeout ends it if it never does."""
        while not condition():
            await deferLater(self.reactor, 0.005)

    def keep(self, connection: Connection, items: list[Any]) -> None:
        """Keep what is received."""
        self.received.extend(items)

    def make(self, name: str, receive: Receive, **arguments: Any) -> Links:
        """Start links that do not listen yet."""
        identity = Identity("c1", "server", name, "one")
        links = Links(self.reactor, identity, SECRET, encode, decode, receive, rng=Random(1), **arguments)
        links.startService()
        self.addCleanup(links.stopService)
        return links

    async def start(self, name: str, receive: Receive, port: int = 0, **options: Any) -> tuple[Links, Endpoint]:
        """Start links that listen on loopback."""
        links = self.make(name, receive, options=LinkOptions(**options))
        listening = await links.listen(TCP4ServerEndpoint(self.reactor, port, interface="127.0.0.1"))
        return links, Endpoint("127.0.0.1", port_of(listening))

    async def raw(self, protocol: Protocol, at: Endpoint) -> Any:
        """Connect a protocol of the test's own."""
        return await connectProtocol(TCP4ClientEndpoint(self.reactor, at.host, at.port), protocol)

    async def test_frames_of_all_sizes(self) -> None:
        """Small and large items arrive whole and in order over TCP, with small ones not delayed by Nagle."""
        connections: list[Connection] = []

        def receive(connection: Connection, items: list[Any]) -> None:
            self.received.extend(items)
            connections.append(connection)

        a, _ = await self.start("A", self.keep)
        _, at = await self.start("B", receive)
        sent = [b"x" * size for size in (0, 1, 70_000, 3 * MIB, 10)]
        a.set_peer("B", at)
        for item in sent:
            self.assertTrue(a.send("B", Lane.DATA, item))
            await deferLater(self.reactor, 0)
        await self.until(lambda: len(self.received) == len(sent))

        self.assertEqual(self.received, sent)
        accepted = connections[0]
        assert isinstance(accepted, FramedConnection)
        self.assertTrue(accepted.transport.getTcpNoDelay())
        self.assertTrue(accepted.transport.getTcpKeepAlive())

    async def test_mutual_tls(self) -> None:
        """Endpoints with TLS on both sides can be given instead of plain ones; everything else stays as it is."""
        key = KeyPair.generate(size=2048)
        certificate = key.selfSignedCert(1, CN=b"B")
        tls = PrivateCertificate.fromCertificateAndKeyPair(certificate, key).options(Certificate(certificate.original))

        def measure(connection: Connection, items: list[Any]) -> None:
            connection.send(len(items[0]))

        def dial(at: Endpoint) -> IStreamClientEndpoint:
            return wrapClientTLS(tls, TCP4ClientEndpoint(self.reactor, at.host, at.port))

        a = self.make("A", self.keep, dial=dial)
        b = self.make("B", measure)
        listening = await b.listen(SSL4ServerEndpoint(self.reactor, 0, tls, interface="127.0.0.1"))
        a.set_peer("B", Endpoint("127.0.0.1", port_of(listening)))
        a.send("B", Lane.DATA, b"x" * MIB)
        await self.until(lambda: self.received)

        self.assertEqual(self.received, [MIB])

    async def test_stuck_reader(self) -> None:
        """A peer that asks and does not read is dropped on once its queue is full, with memory bounded."""
        connections: list[Connection] = []
        b, at = await self.start("B", lambda connection, items: connections.append(connection), queue_bytes_max=MIB)
        stuck = await self.raw(StuckReader(), at)
        await self.until(lambda: connections)
        accepted_bytes = 0
        while connections[0].send(b"x" * 100_000):
            accepted_bytes += 100_000
            await deferLater(self.reactor, 0)

        self.assertTrue(connections[0].paused)
        # Its queue, the transport's, and what the two kernels' buffers take.
        self.assertTrue(MIB < accepted_bytes < 32 * MIB, accepted_bytes)
        self.assertEqual(b.counters.items_dropped, 1)
        stuck.transport.abortConnection()

    async def test_strangers_do_not_disturb(self) -> None:
        """While a crowd holds connections open and talks nonsense, a peer gets in and is served."""
        a, _ = await self.start("A", self.keep)
        _, at = await self.start("B", self.keep, strangers_max=10)
        crowd = [await self.raw(Protocol(), at) for _ in range(40)]
        for number, stranger in enumerate(crowd):
            stranger.transport.write(bytes((number,)) * (number % 7))
        a.set_peer("B", at)
        a.send("B", Lane.DATA, "served")
        await self.until(lambda: self.received)

        self.assertEqual(self.received, ["served"])
        for stranger in crowd:
            stranger.transport.abortConnection()

    async def test_nobody_listens(self) -> None:
        """An address at which nobody listens is tried until somebody does."""
        a, _ = await self.start("A", self.keep)
        taken = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(Factory())
        port = port_of(taken)
        await maybeDeferred(taken.stopListening)
        a.set_peer("B", Endpoint("127.0.0.1", port))
        await deferLater(self.reactor, 0.05)
        early = a.connected("B", Lane.DATA)
        await self.start("B", self.keep, port=port)
        await self.until(lambda: a.connected("B", Lane.DATA))

        self.assertFalse(early)
