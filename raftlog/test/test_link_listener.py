"""Listening: strangers are bounded and cut off, and of two connections of a peer the newer one counts."""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Identity, Lane
from raftlog.link.frames import frame
from raftlog.link.greeting import Prover
from raftlog.link.handshake import DiallerHandshake
from raftlog.link.options import LinkOptions
from raftlog.test.link_rigs import PipeRig, encode
from raftlog.test.pipes import PipeTransport


class Stranger(Protocol):
    """Somebody at the other end who does nothing by himself."""

    transport: PipeTransport  # type: ignore[assignment]  # what tests use of it

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        """Note the end."""
        self.lost = True

    def take(self) -> bytes:
        """Return what came since the last time."""
        data, self.received = self.received, b""
        return data


class ListenerTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have one server that listens."""
        self.rig = PipeRig(LinkOptions(strangers_max=3))
        self.b = self.rig.start("B")

    def connect(self, host: str = "stranger") -> Stranger:
        """Connect a stranger."""
        stranger = Stranger()
        factory = Factory.forProtocol(lambda: stranger)
        self.successResultOf(self.rig.pipes.connect(host, self.rig.endpoint(self.b), factory))
        return stranger

    def greet(self, stranger: Stranger, name: str = "A") -> None:
        """Have a stranger turn out to be a server that knows the secret."""
        identity = Identity("c1", "server", name, "one")
        handshake = DiallerHandshake(identity, Prover(b"the secret"), b"n" * 32, "B", Lane.DATA)
        stranger.transport.write(handshake.start())
        while not handshake.complete:
            self.rig.turn()
            stranger.transport.write(handshake.receive(stranger.take()))

    def say(self, stranger: Stranger, data: bytes) -> None:
        """Have a stranger send some bytes."""
        stranger.transport.write(data)
        self.rig.turn()

    def test_newest_wins(self) -> None:
        """Each further connection of a peer on a lane ends the one before, as after the peer's restart."""
        connections = [self.connect() for _ in range(3)]
        for connection in connections:
            self.greet(connection)
            self.rig.turn()
        self.say(connections[2], frame(encode(["hello"])))

        self.assertEqual([connection.lost for connection in connections], [True, True, False])
        self.assertEqual(self.b.frames, [["hello"]])

    def test_other_peers_stay(self) -> None:
        """Connections of different peers do not end each other."""
        one, other = self.connect(), self.connect()
        self.greet(one, "A")
        self.greet(other, "C")
        self.rig.turn()

        self.assertFalse(one.lost or other.lost)

    def test_replaced_only_with_proof(self) -> None:
        """Whoever only claims to be a peer does not end its connection."""
        real, claimant = self.connect(), self.connect()
        self.greet(real)
        identity = Identity("c1", "server", "A", "two")
        handshake = DiallerHandshake(identity, Prover(b"a guess"), b"n" * 32, "B", Lane.DATA)
        self.say(claimant, handshake.start())
        self.say(claimant, handshake.receive(claimant.take()))

        self.assertTrue(claimant.lost)
        self.assertFalse(real.lost)

    def test_too_many_strangers(self) -> None:
        """The oldest stranger goes when there are too many; who has proved himself is none any more."""
        peer = self.connect()
        self.greet(peer)
        strangers = [self.connect() for _ in range(5)]
        self.rig.turn()

        self.assertEqual([stranger.lost for stranger in strangers], [True, True, False, False, False])
        self.assertFalse(peer.lost)

    def test_a_crowd_drives_out_its_own(self) -> None:
        """A flood from one host costs nobody of another host his place."""
        quiet = self.connect("elsewhere")
        crowd = [self.connect() for _ in range(10)]
        self.rig.turn()
        self.greet(quiet)

        self.assertEqual([stranger.lost for stranger in crowd], [True] * 8 + [False] * 2)
        self.assertFalse(quiet.lost)

    def test_half_open(self) -> None:
        """Strangers who say nothing are gone after the deadline, and the next one is served."""
        strangers = [self.connect() for _ in range(3)]
        self.rig.clock.advance(self.rig.options.handshake_seconds)
        self.rig.turn()
        peer = self.connect()
        self.greet(peer)

        self.assertTrue(all(stranger.lost for stranger in strangers))
        self.assertFalse(peer.lost)

    def test_garbage(self) -> None:
        """Bytes of another protocol end the connection that brought them, and reach nobody."""
        peer, stranger = self.connect(), self.connect()
        self.greet(peer)
        self.say(stranger, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
        self.say(peer, frame(encode(["still here"])))

        self.assertTrue(stranger.lost)
        self.assertEqual(self.b.frames, [["still here"]])

    def test_logged_once(self) -> None:
        """The same refusal of the same host is one line, however often it comes."""
        with capturedLogs() as events:
            for garbage in (b"GET /", b"GET /", frame(b"nonsense"), b"SSH-2"):
                self.say(self.connect(), garbage)
            self.connect()
            self.rig.clock.advance(self.rig.options.handshake_seconds)
            self.rig.turn()

        refusals = [event for event in events if "refused" in (event["log_format"] or "")]
        self.assertEqual(len(refusals), 2)
        self.assertEqual({event["log_level"].name for event in refusals}, {"warn"})
