"""Strangers at a port of a server: what somebody can do who reaches it and has no business there. All of it blocks."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TypeAlias

from dbnode.wire import Endpoint
from raftlog.link import Identity, Lane
from raftlog.link.frames import HEADER_BYTES, first_payload, frame
from raftlog.link.greeting import (
    MAGIC,
    MESSAGE_BYTES_MAX,
    NONCE_BYTES,
    Greeting,
    Hello,
    Prover,
    Refusal,
    decode_greeting,
    encode_greeting,
)
from raftlog.link.handshake import DiallerHandshake, HandshakeError

#: Makes a connection to a port: in the clear, or in TLS.
Connect: TypeAlias = Callable[[Endpoint], socket.socket]

#: Longer than the server's deadline for a handshake; whoever is still connected then was not cut off.
_PATIENCE_SECONDS = 15.0
#: How it looks to be cut off, without TLS and with it.
_CUT_OFF = (ConnectionError, ssl.SSLError)


def in_the_clear(at: Endpoint) -> socket.socket:
    """Connect without TLS."""
    return socket.create_connection((at.host, at.port), timeout=_PATIENCE_SECONDS)


def until_cut_off(stranger: socket.socket) -> bytes:
    """Return what comes until the other end closes; raises TimeoutError if it does not."""
    received = b""
    with contextlib.suppress(*_CUT_OFF):
        while piece := stranger.recv(65536):
            received += piece
    return received


def send_what_is_taken(stranger: socket.socket, data: bytes) -> None:
    """Send bytes to somebody who may cut us off before the last."""
    with contextlib.suppress(*_CUT_OFF):
        stranger.sendall(data)


def garbage(connect: Connect, at: Endpoint, seed: int, times: int) -> None:
    """Come many times with random bytes, and with what looks like the beginning of something."""
    rng = random.Random(seed)
    beginnings = [b"", MAGIC, frame(MAGIC + b"\1")[:HEADER_BYTES] + MAGIC, b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0"]
    for _ in range(times):
        with connect(at) as stranger:
            send_what_is_taken(stranger, rng.choice(beginnings) + rng.randbytes(rng.randrange(5000)))


def oversized(connect: Connect, at: Endpoint) -> bytes:
    """Announce four gigabytes and begin to send them; return what is said to that."""
    with connect(at) as stranger:
        send_what_is_taken(stranger, b"\xff\xff\xff\xff" + b"x" * (8 << 20))
        return until_cut_off(stranger)


def slow(connect: Connect, at: Endpoint, data: bytes) -> bytes:
    """Send bytes one by one until cut off; return what is said to that."""
    received = b""
    # A crowd of others may drive us out before TLS is agreed on.
    with contextlib.suppress(*_CUT_OFF), connect(at) as stranger:
        for byte in data:
            stranger.send(bytes((byte,)))
            if select.select([stranger], [], [], 0.2)[0]:
                received += (piece := stranger.recv(65536))
                if not piece:
                    break
    return received


def half_open(connect: Connect, at: Endpoint, crowd: int) -> list[socket.socket]:
    """Return connections on which nothing was said yet."""
    return [connect(at) for _ in range(crowd)]


def refusal_of(received: bytes) -> str:
    """Return the code of the refusal at the end of what was received, "" if there is none."""
    code = ""
    while (payload := first_payload(received, MESSAGE_BYTES_MAX)) is not None:
        received = received[HEADER_BYTES + len(payload) :]
        greeting = decode_greeting(payload)
        code = greeting.code if isinstance(greeting, Refusal) else ""
    return code


def greet(connect: Connect, at: Endpoint, greeting: Greeting | bytes) -> str:
    """Say one thing; return the code of the refusal."""
    payload = greeting if isinstance(greeting, bytes) else encode_greeting(greeting)
    with connect(at) as stranger:
        send_what_is_taken(stranger, frame(payload))
        return refusal_of(until_cut_off(stranger))


def hello(cluster_id: str, name: str = "balancer", lane: Lane = Lane.DATA) -> Hello:
    """Return how somebody introduces himself."""
    return Hello(Identity(cluster_id, "balancer", name, "one"), lane, b"n" * NONCE_BYTES)


def enter(connect: Connect, at: Endpoint, identity: Identity, secret: bytes, peer: str) -> str:
    """Go through the handshake; return the code of the refusal, "" for being let in."""
    handshake = DiallerHandshake(identity, Prover(secret), b"n" * NONCE_BYTES, peer, Lane.DATA)
    with connect(at) as stranger:
        stranger.sendall(handshake.start())
        try:
            while not handshake.complete:
                received = stranger.recv(65536)
                if not received:
                    return "cut off"
                stranger.sendall(handshake.receive(received))
        except HandshakeError as error:
            return error.code
        except _CUT_OFF:
            return "cut off"
    return ""


def replay(at: Endpoint, recorded: list[bytes], times: int) -> list[bytes]:
    """Send what was recorded, in one piece and as it came; return what was answered to each."""
    answers = []
    for number in range(times):
        with in_the_clear(at) as stranger:
            if number % 2:
                send_what_is_taken(stranger, b"".join(recorded))
            else:
                for piece in recorded:
                    send_what_is_taken(stranger, piece)
                    select.select([stranger], [], [], 0.05)
            # ENOTCONN, which is no ConnectionError, if the other end has reset the connection before.
            with contextlib.suppress(OSError):
                stranger.shutdown(socket.SHUT_WR)
            answers.append(until_cut_off(stranger))
    return answers


class Recorder:
    """A wire to `target` with an ear in it: accepts one connection after the other and keeps what they send."""

    def __init__(self, target: Endpoint) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        #: Of each connection, what came from the dialler.
        self.recorded: list[list[bytes]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect instead."""
        host, port = self._listening.getsockname()
        return Endpoint(host, port)

    def stop(self) -> None:
        """Cut the wire."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                said: list[bytes] = []
                self.recorded.append(said)
                with near, socket.create_connection((self._target.host, self._target.port)) as far:
                    self._pass_on(near, far, said)

    def _pass_on(self, near: socket.socket, far: socket.socket, said: list[bytes]) -> None:
        while True:
            for one in select.select([near, far], [], [])[0]:
                piece = one.recv(65536)
                if not piece:
                    return
                if one is near:
                    said.append(piece)
                (far if one is near else near).sendall(piece)
