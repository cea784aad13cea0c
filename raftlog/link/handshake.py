"""The handshake of a connection, as a state machine fed with bytes. No I/O, no clock; the nonce is given.

    dialler                         listener
    Hello(identity, lane, nonce) ->
                                 <- Hello(identity, lane, nonce)
    Proof                        ->
                                 <- Proof
    frames of items, both ways

The dialler proves itself first, and a listener tells nothing about itself to somebody who does not name its cluster.
Either side may send a Refusal instead of its message and close. `receive` raises HandshakeError for anything that is
not the next message, and no other exception whatever the bytes are; it keeps at most one small message and one read.
In TLS each side also holds the name in the other's hello against the one in its certificate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from raftlog.link.frames import HEADER_BYTES, FrameError, first_payload, frame
from raftlog.link.greeting import (
    MESSAGE_BYTES_MAX,
    Code,
    Direction,
    GreetingError,
    Hello,
    Proof,
    Prover,
    Refusal,
    decode_greeting,
    encode_greeting,
)
from raftlog.link.identity import Identity, Lane, lane_allowed
from raftlog.tls.name import CertifiedName

#: Texts quote what the peer sent, so they are cut to a length that its decoder takes.
_TEXT_CHARACTERS_MAX = 300


class HandshakeError(Exception):
    """The two do not talk to each other; `reply` is to be sent before closing."""

    def __init__(self, code: Code, text: str, *, by_peer: bool = False) -> None:
        text = text[:_TEXT_CHARACTERS_MAX]
        super().__init__(f"{'refused by the peer: ' if by_peer else ''}{text}")
        self.code = code
        self.reply = b"" if by_peer else frame(encode_greeting(Refusal(code, text)))


class Handshake(ABC):
    """What both sides share: each expects one Hello, then one Proof."""

    def __init__(self, identity: Identity, prover: Prover, nonce: bytes) -> None:
        self._identity = identity
        self._prover = prover
        self._nonce = nonce
        self._received = bytearray()
        #: Both hellos as they travelled; empty until then.
        self._own_hello = b""
        self._peer_hello = b""
        #: Who the peer says it is, and the lane that the dialler chose; to be believed once `complete`.
        self.peer: Identity | None = None
        self.lane: Lane | None = None
        self.complete = False
        #: In TLS, whom the peer's certificate names; to be set before its first message is received.
        self.certified: CertifiedName | None = None

    @abstractmethod
    def start(self) -> bytes:
        """Return what is to be sent before anything is received."""

    def receive(self, data: bytes) -> bytes:
        """Return what is to be sent in answer to `data`; raise HandshakeError. Not called again once `complete`."""
        self._received += data
        answers = []
        try:
            while not self.complete and (payload := first_payload(self._received, MESSAGE_BYTES_MAX)) is not None:
                del self._received[: HEADER_BYTES + len(payload)]
                answers.append(self._take(payload))
        except FrameError as error:
            raise HandshakeError("protocol", f"not the link protocol: {error}") from error
        except GreetingError as error:
            raise HandshakeError(error.code, error.text) from error
        return b"".join(answers)

    def rest(self) -> bytes:
        """Return what came after the last message of the handshake: the beginning of the first frames."""
        return bytes(self._received)

    def _take(self, payload: bytes) -> bytes:
        match decode_greeting(payload):
            case Refusal(code=code, text=text):
                raise HandshakeError(code, text, by_peer=True)
            case Hello() as hello if not self._peer_hello:
                self._peer_hello = payload
                self.peer = hello.identity
                self._check_peer(hello.identity)
                return self._after_hello(hello)
            case Proof() as proof if self._peer_hello:
                self._check_proof(proof)
                self.complete = True
                return self._after_proof()
        raise HandshakeError("protocol", "a greeting out of turn")

    def _check_peer(self, peer: Identity) -> None:
        if peer.cluster_id != self._identity.cluster_id:
            raise HandshakeError("cluster", f"{peer.role} {peer.name} belongs to another cluster")
        if (peer.role, peer.name) == (self._identity.role, self._identity.name):
            raise HandshakeError("self", f"{peer.role} {peer.name} is the name of both ends")
        if self.certified is not None and not self.certified.covers(peer.cluster_id, peer.role, peer.name):
            raise HandshakeError("certificate", f"{self.certified} says that it is {peer.role} {peer.name}")

    def _check_proof(self, received: Proof) -> None:
        if not self._prover.agrees(self._expected_proof(), received):
            raise HandshakeError("secret", "the two ends do not share a secret")

    def _send_hello(self, lane: Lane) -> bytes:
        self._own_hello = encode_greeting(Hello(self._identity, lane, self._nonce))
        return frame(self._own_hello)

    @abstractmethod
    def _after_hello(self, hello: Hello) -> bytes:
        """Judge what only this side can, and answer."""

    @abstractmethod
    def _after_proof(self) -> bytes:
        """Answer a good proof."""

    @abstractmethod
    def _expected_proof(self) -> Proof:
        """Return what a peer that knows the secret sends."""


class DiallerHandshake(Handshake):
    """The side that connected, knowing whom it wants."""

    def __init__(self, identity: Identity, prover: Prover, nonce: bytes, peer_name: str, lane: Lane) -> None:
        super().__init__(identity, prover, nonce)
        self._peer_name = peer_name
        self.lane: Lane = lane

    def start(self) -> bytes:
        """Return our hello."""
        return self._send_hello(self.lane)

    def _after_hello(self, hello: Hello) -> bytes:
        if hello.identity.name != self._peer_name:
            raise HandshakeError("wrong_peer", f"{self._peer_name} was dialled, {hello.identity.name} answered")
        return frame(encode_greeting(self._proof("from dialler")))

    def _after_proof(self) -> bytes:
        return b""

    def _expected_proof(self) -> Proof:
        return self._proof("from listener")

    def _proof(self, direction: Direction) -> Proof:
        return self._prover.proof(direction, self._own_hello, self._peer_hello)


class ListenerHandshake(Handshake):
    """The side that accepted a connection, from whomever."""

    def start(self) -> bytes:
        """Return nothing: the dialler speaks first."""
        return b""

    def _after_hello(self, hello: Hello) -> bytes:
        dialler = hello.identity
        if not lane_allowed(hello.lane, dialler.role, self._identity.role):
            raise HandshakeError("lane", f"{dialler.role} {dialler.name} may not open lane {hello.lane.name}")
        self.lane = hello.lane
        return self._send_hello(hello.lane)

    def _after_proof(self) -> bytes:
        return frame(encode_greeting(self._proof("from listener")))

    def _expected_proof(self) -> Proof:
        return self._proof("from dialler")

    def _proof(self, direction: Direction) -> Proof:
        return self._prover.proof(direction, self._peer_hello, self._own_hello)
