"""What somebody can do who recorded a whole genuine conversation, and changes it as he likes: nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Connection, Identity, Lane
from raftlog.link.connection import FramedConnection, Wiring
from raftlog.link.frames import frame
from raftlog.link.greeting import NONCE_BYTES, Prover
from raftlog.link.handshake import DiallerHandshake, Handshake, ListenerHandshake
from raftlog.link.options import LinkCounters, LinkOptions
from raftlog.link.outbox import Turn
from raftlog.test.link_rigs import decode, encode

settled = settings(derandomize=True, deadline=None, max_examples=150)
SECRET = b"correct horse battery staple"
A = Identity("c1", "server", "A", "a1")
B = Identity("c1", "server", "B", "b1")
FRAMES = frame(encode(["one"])) + frame(encode(["two", "three"]))


def recorded() -> tuple[list[bytes], list[bytes]]:
    """Return what A sent when it dialled B, message by message, and what B sent."""
    dialler = DiallerHandshake(A, Prover(SECRET), b"d" * NONCE_BYTES, "B", Lane.DATA)
    listener = ListenerHandshake(B, Prover(SECRET), b"l" * NONCE_BYTES)
    from_dialler, from_listener = [dialler.start()], []
    while not dialler.complete:
        from_listener.append(listener.receive(from_dialler[-1]))
        from_dialler.append(dialler.receive(from_listener[-1]))
    return [*from_dialler[:-1], FRAMES], [*from_listener, FRAMES]


FROM_DIALLER, FROM_LISTENER = recorded()
#: Bytes of one place of the recording in another, and of nobody.
pieces = st.lists(st.sampled_from([*FROM_DIALLER, *FROM_LISTENER]) | st.binary(max_size=30), max_size=6)


class End:
    """One end of a new connection, in the hands of the test."""

    def __init__(self, handshake: Handshake) -> None:
        self.received: list[Any] = []
        self.established: list[FramedConnection] = []
        clock = Clock()
        wiring = Wiring(
            clock=clock,
            identity=B,
            prover=Prover(SECRET),
            encode=encode,
            decode=decode,
            receive=self.receive,
            options=LinkOptions(),
            counters=LinkCounters(),
            turn=Turn(clock),
            nonce=lambda: b"n" * NONCE_BYTES,
        )
        self.connection = FramedConnection(
            wiring, handshake, wiring.outbox(), self.established.append, lambda connection, error: None
        )
        self.connection.makeConnection(StringTransport())

    def receive(self, connection: Connection, items: list[Any]) -> None:
        """Keep what is received."""
        self.received.extend(items)


def listening(nonce: bytes) -> End:
    """Return B's end of a connection that somebody else made."""
    return End(ListenerHandshake(B, Prover(SECRET), nonce))


def dialling(nonce: bytes) -> End:
    """Return A's end of a connection that somebody else answers."""
    return End(DiallerHandshake(A, Prover(SECRET), nonce, "B", Lane.DATA))


class ForgeryTests(SynchronousTestCase):
    def check_nothing_gained(self, end: End, data: list[bytes]) -> None:
        """Feed an end; check that it lets nobody in and hands nothing on."""
        for piece in data:
            end.connection.dataReceived(piece)

        self.assertEqual((end.established, end.received), ([], []))

    def test_the_recording_is_genuine(self) -> None:
        """With the nonces that it was made with, the recording works: what follows fails for no other reason."""
        ends = listening(b"l" * NONCE_BYTES), dialling(b"d" * NONCE_BYTES)
        for end, data in zip(ends, (FROM_DIALLER, FROM_LISTENER), strict=True):
            for piece in data:
                end.connection.dataReceived(piece)

            self.assertEqual(end.received, ["one", "two", "three"])

    def test_replayed(self) -> None:
        """Played again, to either end, it opens nothing."""
        self.check_nothing_gained(listening(b"n" * NONCE_BYTES), FROM_DIALLER)
        self.check_nothing_gained(dialling(b"n" * NONCE_BYTES), FROM_LISTENER)

    @settled
    @given(pieces, st.booleans())
    def test_put_together_otherwise(self, data: list[bytes], dialled: bool) -> None:
        """Nor does any other order of its messages, those of the other end and anybody's bytes among them."""
        end = dialling(b"n" * NONCE_BYTES) if dialled else listening(b"n" * NONCE_BYTES)

        self.check_nothing_gained(end, data)

    @settled
    @given(st.integers(0, len(b"".join(FROM_DIALLER[:2])) - 1), st.integers(0, 7), st.integers(1, 50))
    def test_changed_on_its_way(self, place: int, bit: int, cut: int) -> None:
        """One bit of the handshake changed, in the very conversation, and whatever the reads: the end is closed."""
        changed = bytearray(b"".join(FROM_DIALLER))
        changed[place] ^= 1 << bit
        data = [bytes(changed[start : start + cut]) for start in range(0, len(changed), cut)]

        self.check_nothing_gained(listening(b"l" * NONCE_BYTES), data)
