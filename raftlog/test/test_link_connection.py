"""A connection on a transport: handshake, frames, signs of life, deadlines, and who is told when it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Connection, Identity, Lane
from raftlog.link.connection import BrokenConnectionError, FramedConnection, Wiring
from raftlog.link.frames import EMPTY_FRAME, frame
from raftlog.link.greeting import Prover
from raftlog.link.handshake import DiallerHandshake, HandshakeError, ListenerHandshake
from raftlog.link.options import LinkCounters, LinkOptions
from raftlog.link.outbox import Turn
from raftlog.test.link_rigs import decode, encode

A = Identity("c1", "server", "A", "a1")
B = Identity("c1", "server", "B", "b1")
PROVER = Prover(b"the secret")


class AcceptedConnectionTests(SynchronousTestCase):
    """B's end of a connection, with the test as A."""

    def setUp(self) -> None:
        """Have a connection of which nothing has come yet."""
        self.clock = Clock()
        self.frames: list[list[Any]] = []
        self.established: list[FramedConnection] = []
        self.lost: list[BaseException] = []
        self.options = LinkOptions(ping_seconds=1.0, silence_seconds=3.0, frame_bytes_max=1000, frame_seconds=20.0)
        self.wiring = Wiring(
            clock=self.clock,
            identity=B,
            prover=PROVER,
            encode=encode,
            decode=decode,
            receive=self.receive,
            options=self.options,
            counters=LinkCounters(),
            turn=Turn(self.clock),
            nonce=lambda: b"l" * 32,
        )
        self.connection = FramedConnection(
            self.wiring,
            ListenerHandshake(B, PROVER, b"l" * 32),
            self.wiring.outbox(),
            self.established.append,
            lambda connection, error: self.lost.append(error),
        )
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)
        self.dialler = DiallerHandshake(A, PROVER, b"d" * 32, "B", Lane.DATA)

    def receive(self, connection: Connection, items: list[Any]) -> None:
        """Record a frame."""
        self.frames.append(items)
        if items == ["fail"]:
            raise ValueError("asked to fail")
        if items == ["close"]:
            self.connection.close()

    def take(self) -> bytes:
        """Return what was written since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def establish(self, follow: bytes = b"") -> None:
        """Do A's part of the handshake, with some bytes right behind it."""
        self.connection.dataReceived(self.dialler.start())
        self.connection.dataReceived(self.dialler.receive(self.take()) + follow)
        self.dialler.receive(self.take())

    def lose(self) -> None:
        """Let the transport tell that it is gone."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    def test_established(self) -> None:
        """After the handshake the peer and the lane are known, and both are told."""
        self.establish()

        self.assertTrue(self.dialler.complete)
        self.assertEqual(self.established, [self.connection])
        self.assertEqual((self.connection.peer, self.connection.lane), (A, Lane.DATA))
        self.assertFalse(self.connection.paused)

    def test_frames_right_behind_the_handshake(self) -> None:
        """Frames may come in the same read as the last message of the handshake."""
        self.establish(follow=frame(encode([1])) + frame(encode([2, 3])))

        self.assertEqual(self.frames, [[1], [2, 3]])

    def test_byte_by_byte(self) -> None:
        """Frames may come in single bytes."""
        self.establish()
        for byte in frame(encode(["a", "b"])) + frame(encode(["c"])):
            self.connection.dataReceived(bytes((byte,)))

        self.assertEqual(self.frames, [["a", "b"], ["c"]])
        self.assertEqual(self.wiring.counters.frames_received, 2)

    def test_a_frame_in_drops(self) -> None:
        """Whoever never ends a frame is cut off though he is never silent; a slow one that ends in time is not."""
        self.establish()
        slow = frame(encode(["slow"]))
        for byte in slow[:-1]:
            self.connection.dataReceived(bytes((byte,)))
            self.connection.tick()
        self.connection.dataReceived(slow[-1:] + frame(b"x" * 999)[:10])
        for _ in range(20):
            self.connection.dataReceived(b"x")
            self.connection.tick()
        still_there = not self.transport.disconnecting and not self.transport.disconnected
        self.connection.dataReceived(b"x")
        self.connection.tick()

        self.assertEqual(self.frames, [["slow"]])
        self.assertTrue(still_there)
        self.assertTrue(self.transport.disconnected)

    def test_nothing_before_the_proof(self) -> None:
        """Frames of somebody who has not proved himself reach nobody, and end the connection."""
        self.connection.dataReceived(frame(encode(["let me in"])))

        self.assertEqual(self.frames, [])
        self.assertTrue(self.transport.disconnecting)

    def test_refused(self) -> None:
        """A wrong secret is answered with a refusal and closed; the reason is what `on_lost` gets."""
        self.dialler = DiallerHandshake(A, Prover(b"a guess"), b"d" * 32, "B", Lane.DATA)
        self.connection.dataReceived(self.dialler.start())
        self.connection.dataReceived(self.dialler.receive(self.take()))
        told = self.assertRaises(HandshakeError, self.dialler.receive, self.take())
        self.lose()

        self.assertEqual(told.code, "secret")
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual([str(error) for error in self.lost], ["the two ends do not share a secret"])
        self.assertEqual(self.wiring.counters.handshakes_failed, 1)

    def test_silent_stranger(self) -> None:
        """Who does not complete the handshake in time is cut off."""
        self.clock.advance(self.options.handshake_seconds)
        self.lose()

        self.assertTrue(self.transport.disconnected)
        self.assertEqual([str(error) for error in self.lost], ["no handshake within 5.0 seconds"])

    def test_slow_stranger(self) -> None:
        """The deadline is for the whole handshake, however often a byte of it comes."""
        for byte in self.dialler.start():
            self.connection.dataReceived(bytes((byte,)))
            self.clock.advance(self.options.handshake_seconds / 20)

        self.assertTrue(self.transport.disconnected)

    def test_no_deadline_after_the_handshake(self) -> None:
        """An established connection has no timer of its own."""
        self.establish()

        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_frame_too_large(self) -> None:
        """An announced length above the limit ends the connection at once."""
        self.establish()
        self.connection.dataReceived(b"\xff\xff\xff\xff")

        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.frames, [])

    def test_frame_that_is_no_list(self) -> None:
        """A payload that cannot be decoded is logged and ends the connection."""
        self.establish()
        self.connection.dataReceived(frame(b"\xc1"))

        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertTrue(self.transport.disconnected)

    def test_receiver_fails(self) -> None:
        """After a receiver has raised, nothing more is delivered, not even of the same read."""
        self.establish()
        self.connection.dataReceived(frame(encode(["fail"])) + frame(encode(["next"])))
        self.connection.dataReceived(frame(encode(["more"])))

        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.frames, [["fail"]])
        self.assertFalse(self.connection.send("reply"))

    def test_closed_by_a_receiver(self) -> None:
        """After a receiver has closed the connection nothing more of the same read is delivered."""
        self.establish()
        self.connection.dataReceived(frame(encode(["close"])) + frame(encode(["next"])))

        self.assertEqual(self.frames, [["close"]])
        self.assertTrue(self.transport.disconnecting)

    def test_sign_of_life(self) -> None:
        """An idle connection sends an empty frame each tick; one that wrote something does not."""
        self.establish()
        self.connection.send(1)
        self.clock.advance(0)
        busy = self.take()
        self.connection.tick()
        after_busy = self.take()
        self.connection.tick()

        self.assertEqual(busy, frame(encode([1])))
        self.assertEqual(after_busy, b"")
        self.assertEqual(self.take(), EMPTY_FRAME)

    def test_silent_peer(self) -> None:
        """A peer of which nothing is heard for so many ticks is given up; its empty frames count as heard."""
        self.establish()
        for _ in range(3):
            self.connection.tick()
        self.connection.dataReceived(EMPTY_FRAME)
        for _ in range(3):
            self.connection.tick()
        alive = not self.transport.disconnected
        self.connection.tick()
        self.lose()

        self.assertTrue(alive)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual([type(error) for error in self.lost], [BrokenConnectionError])
        self.assertEqual(self.frames, [])

    def test_stuck_reader(self) -> None:
        """A transport that has enough pauses the connection, which then only holds a bounded queue."""
        self.establish()
        producer = self.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.connection.send("held")
        self.clock.advance(0)
        self.connection.tick()
        paused, written = self.connection.paused, self.take()
        producer.resumeProducing()

        self.assertEqual((paused, written), (True, b""))
        self.assertEqual(self.take(), frame(encode(["held"])))
        self.assertFalse(self.connection.paused)

    def test_close(self) -> None:
        """Closing writes what this turn sent, and waits for the transport."""
        self.establish()
        self.connection.send("last")
        self.connection.close()

        self.assertEqual(self.take(), frame(encode(["last"])))
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)
        self.assertIsNone(self.transport.producer)
        self.assertFalse(self.connection.send("too late"))

    def test_close_has_a_deadline(self) -> None:
        """A peer that does not take the rest is not waited for."""
        self.establish()
        self.connection.close()
        self.clock.advance(self.options.goodbye_seconds)

        self.assertTrue(self.transport.disconnected)

    def test_gone(self) -> None:
        """The end is told once, and leaves nothing behind."""
        self.establish()
        self.connection.close()
        self.lose()

        self.assertEqual([type(error) for error in self.lost], [ConnectionDone])
        self.assertEqual(self.wiring.live, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.connection.gone)
