"""The handshake: who is let in, who is refused and why, and what strangers can do to it."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Identity, Lane, Role
from raftlog.link.frames import frame
from raftlog.link.greeting import (
    MAGIC,
    MESSAGE_BYTES_MAX,
    NONCE_BYTES,
    PROOF_BYTES,
    VERSION,
    Greeting,
    Hello,
    Proof,
    Prover,
    Refusal,
    encode_greeting,
)
from raftlog.link.handshake import DiallerHandshake, Handshake, HandshakeError, ListenerHandshake

#: The same examples in every run, and no limit of time for one: the machine may be busy.
settled = settings(derandomize=True, deadline=None, max_examples=300)

SECRET = b"correct horse battery staple"
A = Identity("c1", "server", "A", "a1")
B = Identity("c1", "server", "B", "b1")


def dialler(
    identity: Identity = A, secret: bytes = SECRET, wants: str = "B", lane: Lane = Lane.DATA
) -> DiallerHandshake:
    """Return A's side of dialling B, with what a test changes of it."""
    return DiallerHandshake(identity, Prover(secret), b"d" * NONCE_BYTES, wants, lane)


def listener(identity: Identity = B, secret: bytes = SECRET, nonce: bytes = b"l" * NONCE_BYTES) -> ListenerHandshake:
    """Return B's side, with what a test changes of it."""
    return ListenerHandshake(identity, Prover(secret), nonce)


def message(greeting: Greeting) -> bytes:
    """Return a greeting as it travels."""
    return frame(encode_greeting(greeting))


def talk(one: DiallerHandshake, other: ListenerHandshake) -> list[bytes]:
    """Let the two talk until one has nothing to say; return what was sent, alternating, the dialler first."""
    said = [one.start()]
    while said[-1]:
        said.append((one, other)[len(said) % 2].receive(said[-1]))
    return said[:-1]


class AgreementTests(SynchronousTestCase):
    def test_both_know(self) -> None:
        """After two messages each way both sides know who is there, and the lane."""
        one, other = dialler(lane=Lane.BULK), listener()

        said = talk(one, other)

        self.assertEqual(len(said), 4)
        self.assertTrue(one.complete and other.complete)
        self.assertEqual((one.peer, other.peer), (B, A))
        self.assertEqual((one.lane, other.lane), (Lane.BULK, Lane.BULK))

    def test_byte_by_byte(self) -> None:
        """Messages may come in single bytes."""
        one, other = dialler(), listener()

        said = one.start()
        for side in (other, one, other, one):
            said = b"".join(side.receive(bytes((byte,))) for byte in said)

        self.assertTrue(one.complete and other.complete)

    def test_rest(self) -> None:
        """What follows the last message, however large it says it is, is left to the connection."""
        one, other = dialler(), listener()
        consent = other.receive(one.receive(other.receive(one.start())))
        large = (1 << 20).to_bytes(4) + b"the beginning"

        one.receive(consent + large)

        self.assertEqual(one.rest(), large)

    def test_longest_names(self) -> None:
        """Names of the greatest length in four-byte characters still fit."""
        name = "\U0001f418" * 255
        one = dialler(identity=Identity(name, "balancer", name, name))
        other = listener(identity=Identity(name, "server", "B", name))

        talk(one, other)

        self.assertTrue(one.complete and other.complete)

    def test_secret_is_not_shown(self) -> None:
        """Neither a handshake nor a prover keeps the secret where something could print it."""
        prover = Prover(SECRET)
        one = DiallerHandshake(A, prover, b"", "B", Lane.DATA)

        for thing in (prover, vars(prover), one, vars(one)):
            self.assertNotIn(SECRET.decode(), repr(thing))


class RefusalTests(SynchronousTestCase):
    def assertRefuses(self, code: str, judge: Handshake, received: bytes) -> HandshakeError:
        """Check that `judge` refuses what it received with this code, and that the peer is told the same."""
        error: HandshakeError = self.assertRaises(HandshakeError, judge.receive, received)
        told = self.assertRaises(HandshakeError, dialler().receive, error.reply)
        self.assertEqual((error.code, told.code), (code, code))
        self.assertFalse(judge.complete)
        self.assertEqual(told.reply, b"")
        return error

    def test_wrong_secret(self) -> None:
        """A dialler with another secret is refused before anything is proved to it."""
        one, other = dialler(secret=b"guess"), listener()

        proof = one.receive(other.receive(one.start()))

        self.assertRefuses("secret", other, proof)

    def test_listener_without_secret(self) -> None:
        """Who answers a dialled connection without knowing the secret is refused too."""
        one = dialler()
        one.start()
        one.receive(message(Hello(B, Lane.DATA, b"x" * NONCE_BYTES)))

        self.assertRefuses("secret", one, message(Proof(b"x" * PROOF_BYTES)))

    def test_wrong_cluster(self) -> None:
        """A process of another cluster is refused, and does not learn ours."""
        stranger = dialler(identity=Identity("c2", "server", "A", "a1"))
        other = listener(identity=Identity("our cluster", "server", "B", "b1"))

        error = self.assertRefuses("cluster", other, stranger.start())

        self.assertNotIn(b"our cluster", error.reply)

    def test_wrong_version(self) -> None:
        """Another version of the protocol is named in the refusal."""
        hello = bytearray(dialler().start())
        hello[4 + len(MAGIC)] = VERSION + 1

        error = self.assertRefuses("version", listener(), bytes(hello))

        self.assertEqual(str(error), f"the peer speaks version {VERSION + 1}, here it is {VERSION}")

    def test_other_protocol(self) -> None:
        """Somebody who speaks HTTP is told so at the first bytes."""
        self.assertRefuses("protocol", listener(), b"GET / HTTP/1.1\r\n")

    def test_wrong_magic(self) -> None:
        """A frame without the magic is refused."""
        self.assertRefuses("protocol", listener(), frame(b"something else"))

    def test_wrong_peer(self) -> None:
        """An address at which another server answers now is of no use."""
        one, other = dialler(wants="C"), listener()

        error = self.assertRefuses("wrong_peer", one, other.receive(one.start()))

        self.assertEqual(str(error), "C was dialled, B answered")

    def test_oneself(self) -> None:
        """A process does not talk to itself, nor to another one that uses its name."""
        self.assertRefuses("self", listener(), dialler(identity=B).start())

    def test_lane_of_a_balancer(self) -> None:
        """CONTROL is for members of a group, which have one role."""
        balancer = Identity("c1", "balancer", "L", "l1")
        other = Identity("c1", "balancer", "M", "m1")

        self.assertRefuses("lane", listener(), dialler(identity=balancer, lane=Lane.CONTROL).start())
        self.assertRefuses("lane", listener(identity=balancer), dialler(lane=Lane.CONTROL).start())
        self.assertTrue(listener(identity=balancer).receive(dialler(identity=other, lane=Lane.CONTROL).start()))

    def test_out_of_turn(self) -> None:
        """A proof before the hello, and a second hello, are refused."""
        started = listener()
        started.receive(dialler().start())

        self.assertRefuses("protocol", listener(), message(Proof(b"x" * PROOF_BYTES)))
        self.assertRefuses("protocol", started, dialler().start())

    def test_bad_fields(self) -> None:
        """Fields beyond their limits are refused."""
        no_role: Role = "king"  # type: ignore[assignment]
        for hello in (
            Hello(A, Lane.DATA, b"short"),
            Hello(Identity("c1", "server", "", "a1"), Lane.DATA, b"x" * NONCE_BYTES),
            Hello(Identity("c1", "server", "A" * 256, "a1"), Lane.DATA, b"x" * NONCE_BYTES),
            Hello(Identity("c1", no_role, "A", "a1"), Lane.DATA, b"x" * NONCE_BYTES),
            Hello(A, 3, b"x" * NONCE_BYTES),  # type: ignore[arg-type]
        ):
            self.assertRefuses("protocol", listener(), message(hello))

    def test_refusals_are_short(self) -> None:
        """A refusal that quotes a hostile value is cut to what the other side takes."""
        endless: Role = "king" * 900  # type: ignore[assignment]

        self.assertRefuses("protocol", listener(), message(Hello(Identity("c", endless, "A", "a"), Lane.DATA, b"")))


class StrangerTests(SynchronousTestCase):
    def test_replay(self) -> None:
        """A recorded handshake is of no use against another nonce."""
        hello, _, proof, _ = talk(dialler(), listener())
        other = listener(nonce=b"m" * NONCE_BYTES)
        other.receive(hello)

        error = self.assertRaises(HandshakeError, other.receive, proof)

        self.assertEqual(error.code, "secret")

    def test_reflection(self) -> None:
        """A proof sent back to who made it proves nothing."""
        one, other = dialler(), listener()
        proof = one.receive(other.receive(one.start()))

        error = self.assertRaises(HandshakeError, one.receive, proof)

        self.assertEqual(error.code, "secret")

    def test_announced_too_large(self) -> None:
        """A message longer than any greeting is refused before it has come."""
        announcement = (MESSAGE_BYTES_MAX + 1).to_bytes(4)

        self.assertRaises(HandshakeError, listener().receive, announcement)

    @settled
    @given(st.lists(st.binary(max_size=300), max_size=5))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Whatever comes, a handshake waits or raises HandshakeError."""
        for side in (dialler(), listener()):
            try:
                for chunk in chunks:
                    side.receive(chunk)
            except HandshakeError:
                pass
            self.assertFalse(side.complete)

    @settled
    @given(st.binary(max_size=200))
    def test_any_payload(self, payload: bytes) -> None:
        """Any MessagePack, or none, behind the prefix is a HandshakeError too."""
        for side in (dialler(), listener()):
            self.assertRaises(HandshakeError, side.receive, frame(MAGIC + bytes((VERSION,)) + payload))

    @settled
    @given(st.integers(0, 3), st.integers(0, 1 << 20))
    def test_any_flipped_bit(self, victim: int, position: int) -> None:
        """Whoever flips a bit in any of the four messages keeps the dialler from taking the listener for real."""
        one, other = dialler(), listener()
        said = bytearray(one.start())
        try:
            for number, side in enumerate((other, one, other, one)):
                if number == victim:
                    said[position // 8 % len(said)] ^= 1 << position % 8
                said = bytearray(side.receive(bytes(said)))
        except HandshakeError:
            pass

        self.assertFalse(one.complete)

    def test_names_that_are_no_text(self) -> None:
        """Bytes that are no UTF-8 in a name are a malformed greeting."""
        hello = dialler().start().replace(b"\xa1A", b"\xa1\xe3")

        self.assertRaises(HandshakeError, listener().receive, hello)

    def test_deep_nesting(self) -> None:
        """Nesting meant to exhaust the stack is a malformed greeting."""
        payload = MAGIC + bytes((VERSION,)) + b"\x91" * (MESSAGE_BYTES_MAX - 100)

        self.assertRaises(HandshakeError, listener().receive, frame(payload))

    def test_refusal_is_believed(self) -> None:
        """A refusal from the peer ends the handshake with the peer's reason, and is not answered."""
        text = "no"
        error = self.assertRaises(HandshakeError, dialler().receive, message(Refusal("lane", text)))

        self.assertEqual((error.code, str(error), error.reply), ("lane", "refused by the peer: no", b""))

    def test_malformed_refusal(self) -> None:
        """A refusal with an unknown code is malformed, not repeated into a log."""
        payload = MAGIC + bytes((VERSION,)) + msgspec.msgpack.encode([3, "code\nof mine", "text"])

        error = self.assertRaises(HandshakeError, dialler().receive, frame(payload))

        self.assertEqual(error.code, "protocol")
