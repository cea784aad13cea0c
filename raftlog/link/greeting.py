"""The messages of the handshake, as bytes, and the proofs in them.

Every message begins with the magic and the version of the protocol, which never change their place, so that peers of
any two versions can tell each other why they do not talk. A proof is an HMAC-SHA256 (RFC 2104) with the cluster's
secret over both hellos as they travelled, hence over both nonces, both identities and the lane, and over the
direction, so that neither a recorded proof nor one's own sent back is of use to anybody.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Literal, TypeAlias

import msgspec

from raftlog.link.identity import Identity, Lane

MAGIC = b"shardlb"
VERSION = 1
_PREFIX = MAGIC + bytes((VERSION,))
NONCE_BYTES = 32
PROOF_BYTES = 32

#: Bounds what a stranger can make us keep; a hello with the longest names stays below it.
MESSAGE_BYTES_MAX = 4096

Direction: TypeAlias = Literal["from dialler", "from listener"]
Code: TypeAlias = Literal["protocol", "version", "cluster", "self", "wrong_peer", "lane", "secret", "certificate"]

_Nonce: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Mac: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message of each side; the listener repeats the dialler's lane."""

    identity: Identity
    lane: Lane
    nonce: _Nonce


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The sender knows the secret; the listener's is also its consent."""

    mac: _Mac


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Why the sender closes the connection."""

    code: Code
    text: Annotated[str, msgspec.Meta(max_length=1000)]


Greeting: TypeAlias = Hello | Proof | Refusal


class GreetingError(Exception):
    """The peer's bytes are no greeting of this version; `code` is "protocol" or "version"."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Greeting] = msgspec.msgpack.Decoder(Greeting)


def encode_greeting(message: Greeting) -> bytes:
    """Return a message as the payload of a frame."""
    return _PREFIX + _encoder.encode(message)


def decode_greeting(payload: bytes) -> Greeting:
    """Return the message in a frame's payload; raises GreetingError, and nothing else, for any other bytes."""
    if not payload.startswith(MAGIC):
        raise GreetingError("protocol", "not the link protocol")
    version = payload[len(MAGIC) : len(_PREFIX)]
    if version != bytes((VERSION,)):
        raise GreetingError("version", f"the peer speaks version {int.from_bytes(version)}, here it is {VERSION}")
    try:
        return _decoder.decode(payload[len(_PREFIX) :])
    except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
        raise GreetingError("protocol", f"malformed greeting: {error}") from error


class Prover:
    """Makes and checks proofs without keeping the secret itself where a repr or a traceback could show it."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod="sha256")

    def proof(self, direction: Direction, dialler_hello: bytes, listener_hello: bytes) -> Proof:
        """Return the proof of one direction for these two hellos."""
        mac = self._keyed.copy()
        for part in (direction.encode(), dialler_hello, listener_hello):
            mac.update(len(part).to_bytes(4) + part)
        return Proof(mac.digest())

    def agrees(self, expected: Proof, received: Proof) -> bool:
        """Return whether two proofs are equal, in time that tells nothing about where they differ."""
        return hmac.compare_digest(expected.mac, received.mac)
