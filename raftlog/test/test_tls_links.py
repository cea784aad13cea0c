"""Links in mutual TLS over loopback sockets: who gets in, who does not, and what is logged of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer
from twisted.trial.unittest import TestCase
from zope.interface import provider

from raftlog.link import Connection, Endpoint, Identity, Lane, Role
from raftlog.link.connection import FramedConnection
from raftlog.link.links import Links
from raftlog.link.options import LinkOptions
from raftlog.test.link_rigs import decode, encode
from raftlog.tls import MutualTls, TlsRole, TlsUnusable
from raftlog.tls.authority import issue, make_authority
from raftlog.tls.name import process_file

SECRET = b"the secret of the test"
MIB = 1 << 20


class Hung(Protocol):
    """Somebody who connects, and notes when he is cut off."""

    lost = False

    def connectionLost(self, reason: object = None) -> None:
        """Take note."""
        self.lost = True


class Wire(ProxyServer):
    """A listener on the path: hears both directions, and may change what the dialler sends."""

    factory: WireFactory

    def dataReceived(self, data: bytes) -> None:
        """Pass on what the dialler sends."""
        self.factory.heard += data
        if self.factory.changes:
            data = data[:-1] + bytes((data[-1] ^ 1,))
        super().dataReceived(data)

    def connectionMade(self) -> None:
        """Hear the other direction too."""
        wire = self.factory

        class Back(ProxyClient):
            def dataReceived(self, data: bytes) -> None:
                wire.heard += data
                super().dataReceived(data)

        class BackFactory(ProxyClientFactory):
            protocol = Back
            noisy = False

        self.clientProtocolFactory = BackFactory
        super().connectionMade()


class WireFactory(ProxyFactory):
    """A wire to an endpoint."""

    protocol = Wire
    noisy = False

    def __init__(self, to: Endpoint) -> None:
        super().__init__(to.host, to.port)
        self.heard = b""
        self.changes = False


class TlsLinkTests(TestCase):
    """Server B listens in TLS; somebody else dials it."""

    timeout = 30

    def setUp(self) -> None:
        """Make the certificates of a cluster, and collect warnings."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.received: list[Any] = []
        self.connections: list[Connection] = []
        self.directory = self.authority("c1")
        self.warnings: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if (event["log_format"] or "").startswith("refused"):
                self.warnings.append(event["reason"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def authority(self, cluster_id: str) -> Path:
        """Make an authority."""
        directory = Path(self.mktemp())
        make_authority(directory, cluster_id, datetime.now(UTC))
        return directory

    def tls(self, role: TlsRole, name: str, directory: Path | None = None, age_days: int = 0) -> MutualTls:
        """Return the TLS of a process with a certificate made so many days ago."""
        directory = directory or self.directory
        issue(directory, role, name, datetime.now(UTC) - timedelta(days=age_days), 30)
        return MutualTls(self.reactor, directory, role, name)

    def receive(self, connection: Connection, items: list[Any]) -> None:
        """Keep what is received."""
        self.received.extend(items)
        self.connections.append(connection)

    def make(self, role: Role, name: str, tls: MutualTls | None) -> Links:
        """Start links that do not listen yet."""
        identity = Identity("c1", role, name, "one")
        options = LinkOptions(handshake_seconds=0.5)
        links = Links(
            self.reactor, identity, SECRET, encode, decode, self.receive, rng=Random(1), tls=tls, options=options
        )
        links.startService()
        self.addCleanup(links.stopService)
        return links

    async def listen(self, links: Links) -> Endpoint:
        """Listen on loopback."""
        port = await links.listen(TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1"))
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        return Endpoint("127.0.0.1", address.port)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to become true; trial's timeout ends it if it never does."""
        while not condition():
            await deferLater(self.reactor, 0.005)

    async def refused(self, role: Role, name: str, tls: MutualTls | None, *, answers: Links | None = None) -> str:
        """Dial B as somebody who is not let in, several times; return the one reason that was logged."""
        b = answers or self.make("server", "B", self.tls("server", "B"))
        at = await self.listen(b)
        dialler = self.make(role, name, tls)
        dialler.set_peer("B", at)
        dialler.send("B", Lane.DATA, "never arrives")
        await self.until(lambda: dialler._peers["B"].lanes[Lane.DATA]._backoff._failures > 2)

        self.assertEqual(self.received, [])
        self.assertEqual(len(set(self.warnings)), len(self.warnings), "logged more than once")
        return self.warnings[0]

    async def test_items_of_all_sizes(self) -> None:
        """Peers with certificates of the cluster talk as without TLS, undelayed by Nagle."""
        a = self.make("balancer", "lb/1", self.tls("balancer", "lb"))
        b = self.make("server", "B", self.tls("server", "B"))
        a.set_peer("B", await self.listen(b))
        sent = [b"x" * size for size in (0, 1, 70_000, 3 * MIB, 10)]
        for item in sent:
            self.assertTrue(a.send("B", Lane.DATA, item))
            await deferLater(self.reactor, 0)
        await self.until(lambda: len(self.received) == len(sent))

        self.assertEqual(self.received, sent)
        accepted = self.connections[0]
        assert isinstance(accepted, FramedConnection)
        self.assertTrue(accepted.transport.transport.getTcpNoDelay())
        self.assertEqual(accepted.transport.getHandle().get_protocol_version_name(), "TLSv1.3")

    async def test_somebody_on_the_path(self) -> None:
        """He hears neither items nor who talks, and when he changes one bit the connection ends."""
        a = self.make("server", "A", self.tls("server", "A"))
        wire = WireFactory(await self.listen(self.make("server", "B", self.tls("server", "B"))))
        port: Any = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(wire)
        self.addCleanup(port.stopListening)
        a.set_peer("B", Endpoint("127.0.0.1", port.getHost().port))
        a.send("B", Lane.DATA, "a private item")
        await self.until(lambda: self.received)
        heard = wire.heard
        wire.changes = True
        a.send("B", Lane.DATA, "a changed item")
        await self.until(lambda: a.counters.connections_lost)

        self.assertEqual(self.received, ["a private item"])
        self.assertGreater(len(heard), 1000)
        for private in (b"private", b"server", b"shardlb"):
            self.assertNotIn(private, heard)
        a.remove_peer("B")

    async def test_balancers_listen_too(self) -> None:
        """A balancer's certificate is good for being dialled."""
        a = self.make("server", "A", self.tls("server", "A"))
        b = self.make("balancer", "lb", self.tls("balancer", "lb"))
        a.set_peer("lb", await self.listen(b))
        a.send("lb", Lane.BULK, "hello")
        await self.until(lambda: self.received)

        self.assertEqual(self.received, ["hello"])

    async def test_another_servers_name(self) -> None:
        """Who knows the secret and has a certificate of his own still cannot say that he is somebody else."""
        said = await self.refused("server", "C", self.tls("server", "A"))

        self.assertEqual(said, "server A of cluster c1 says that it is server C")

    async def test_a_server_is_no_balancer(self) -> None:
        """Nor can a server say that it is a balancer, not even of its own name."""
        said = await self.refused("balancer", "A", self.tls("server", "A"))

        self.assertEqual(said, "server A of cluster c1 says that it is balancer A")

    async def test_a_listener_that_is_another(self) -> None:
        """The dialler holds the listener to its certificate as well."""
        impostor = self.make("server", "B", self.tls("server", "A"))

        said = await self.refused("server", "D", self.tls("server", "D"), answers=impostor)

        self.assertEqual(said, "refused by the peer: server A of cluster c1 says that it is server B")

    async def test_expired(self) -> None:
        """A certificate whose time is over opens nothing."""
        self.assertEqual(
            await self.refused("server", "A", self.tls("server", "A", age_days=31)), "its certificate has expired"
        )

    async def test_foreign(self) -> None:
        """A certificate of another authority, though it says the same, opens nothing."""
        foreign = self.authority("c1")
        issue(foreign, "server", "A", datetime.now(UTC))
        # The stranger believes our authority: it is we who refuse.
        (foreign / "ca.pem").write_bytes((self.directory / "ca.pem").read_bytes())

        said = await self.refused("server", "A", MutualTls(self.reactor, foreign, "server", "A"))

        self.assertEqual(said, "its certificate is of a foreign authority")

    async def test_to_a_foreign_listener(self) -> None:
        """A dialler tells a listener of another cluster nothing: it leaves within the TLS handshake."""
        foreign = self.make("server", "B", self.tls("server", "B", self.authority("c1")))

        self.assertIn("alert", await self.refused("server", "A", self.tls("server", "A"), answers=foreign))

    async def test_operators_open_no_links(self) -> None:
        """An operator's certificate is for HTTP."""
        said = await self.refused("server", "ops", self.tls("operator", "ops"))

        self.assertIn("is of operator ops of cluster c1; wanted here: balancer or server", said)

    async def test_without_tls(self) -> None:
        """Who speaks no TLS is refused, however much he knows."""
        self.assertIn("TLS failed", await self.refused("server", "A", None))

    async def test_to_a_listener_without_tls(self) -> None:
        """A listener without TLS refuses who speaks it."""
        plain = self.make("server", "B", None)

        self.assertIn(
            "not the link protocol", await self.refused("server", "A", self.tls("server", "A"), answers=plain)
        )

    async def test_silent_strangers_are_cut_off(self) -> None:
        """Who connects and never begins TLS has as long as for the handshake itself, and is counted as a stranger."""
        b = self.make("server", "B", self.tls("server", "B"))
        at = await self.listen(b)
        hung: Any = await connectProtocol(TCP4ClientEndpoint(self.reactor, at.host, at.port), Hung())
        await self.until(lambda: hung.lost)

        self.assertEqual(self.warnings, ["no handshake within 0.5 seconds"])
        self.assertEqual(b.counters.handshakes_failed, 1)

    async def test_renewed_without_a_restart(self) -> None:
        """A process whose certificate is renewed uses the new one from the next connection; a damaged one is not."""
        expiring = self.tls("server", "A", age_days=31)
        a = self.make("server", "A", expiring)
        b = self.make("server", "B", self.tls("server", "B"))
        a.set_peer("B", await self.listen(b))
        a.send("B", Lane.DATA, "lost")
        await self.until(lambda: self.warnings)
        issue(self.directory, "server", "A", datetime.now(UTC))
        await self.until(lambda: a.connected("B", Lane.DATA))
        process_file(self.directory, "server", "A").write_text("damaged")
        a.remove_peer("B")
        a.set_peer("B", await self.listen(b))
        await self.until(lambda: a.connected("B", Lane.DATA))

        with self.assertRaisesRegex(TlsUnusable, "holds no certificate"):
            MutualTls(self.reactor, self.directory, "server", "A")
