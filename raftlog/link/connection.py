"""A connection on a Twisted transport: first the handshake, then frames both ways until either end has enough.

Decides nothing about peers, redialling or duplicates; who made the connection is told when it is established and
when it is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from math import ceil
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from raftlog.link.frames import FrameDecoder, FrameError
from raftlog.link.greeting import Prover
from raftlog.link.handshake import Handshake, HandshakeError
from raftlog.link.identity import Identity, Lane
from raftlog.link.interface import Receive
from raftlog.link.options import LinkCounters, LinkOptions
from raftlog.link.outbox import Outbox, Turn
from raftlog.link.prompt import prompt_write
from raftlog.tls import explained, peer_of


class BrokenConnectionError(Exception):
    """We gave the connection up; the text says why."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What all connections of one process share."""

    clock: IReactorTime
    identity: Identity
    prover: Prover
    encode: Callable[[list[Any]], bytes]
    decode: Callable[[bytes | memoryview], list[Any]]
    receive: Receive
    options: LinkOptions
    counters: LinkCounters
    turn: Turn
    #: Returns bytes that nobody can guess.
    nonce: Callable[[], bytes]
    #: Every connection that has a transport.
    live: set[FramedConnection] = field(default_factory=set)

    def outbox(self) -> Outbox:
        """Return a new outgoing queue."""
        return Outbox(self.turn, self.encode, self.options, self.counters)


class _State(Enum):
    GREETING = auto()
    OPEN = auto()
    CLOSED = auto()


Established: TypeAlias = Callable[["FramedConnection"], None]
Lost: TypeAlias = Callable[["FramedConnection", BaseException], None]


@implementer(IPushProducer)
class FramedConnection(Protocol):
    """One connection (see `interface.Connection`), dialled or accepted.

    `on_established` is called once the peer has proved itself, `on_lost` once the transport is gone, with the reason;
    the latter also without the former.
    """

    _log = Logger()
    #: ITCPTransport and IConsumer, for which mypy has no intersection.
    transport: Any

    def __init__(
        self, wiring: Wiring, handshake: Handshake, outbox: Outbox, on_established: Established, on_lost: Lost
    ) -> None:
        self._wiring = wiring
        self._receive = wiring.receive
        self._decode = wiring.decode
        self._counters = wiring.counters
        self._handshake = handshake
        self._outbox = outbox
        self._on_established = on_established
        self._on_lost = on_lost
        self._state = _State.GREETING
        #: Whether the peer has ever proved itself.
        self.established = False
        self._decoder = FrameDecoder(wiring.options.frame_bytes_max)
        #: Ends the handshake, or a close that the peer does not let come to an end.
        self._deadline: IDelayedCall | None = None
        #: Why we closed, if it was us.
        self._error: BaseException | None = None
        #: Calls of `tick` since anything was heard. Ticks, not seconds: our own stall must not look like the peer's.
        self._quiet_ticks = 0
        self._quiet_ticks_max = ceil(wiring.options.silence_seconds / wiring.options.ping_seconds)
        self._alone_ticks_max = ceil(wiring.options.lane_silence_seconds / wiring.options.ping_seconds)
        #: Calls of `tick` since the last frame ended, while there is a part of the next.
        self._unfinished_ticks = 0
        self._unfinished_ticks_max = ceil(wiring.options.frame_seconds / wiring.options.ping_seconds)
        #: Fires when the transport is gone.
        self.gone: Deferred[None] = Deferred()

    @property
    def peer(self) -> Identity:
        """Return who proved itself at the other end."""
        assert self._handshake.peer is not None, "asked before the connection was established"
        return self._handshake.peer

    @property
    def lane(self) -> Lane:
        """Return the lane that the dialling side chose."""
        assert self._handshake.lane is not None, "asked before the connection was established"
        return self._handshake.lane

    @property
    def paused(self) -> bool:
        """Return whether frames are held since the transport has enough."""
        return self._outbox.paused

    def send(self, item: Any) -> bool:
        """Queue an item for the frame of this turn; False: dropped."""
        return self._outbox.put(item)

    def close(self) -> None:
        """Write what is queued, as far as the transport takes it, and close."""
        if self._state is _State.OPEN:
            self._outbox.flush()
            self.transport.unregisterProducer()
        self._shut()
        self._deadline = self._wiring.clock.callLater(self._wiring.options.goodbye_seconds, self._goodbye_late)
        self.transport.loseConnection()

    def abort(self, why: str) -> None:
        """Close at once, whatever is still queued."""
        self._error = self._error or BrokenConnectionError(why)
        self._shut()
        self.transport.abortConnection()

    @property
    def heard(self) -> bool:
        """Return whether the peer has proved itself and was heard since the last tick."""
        return self._state is _State.OPEN and not self._quiet_ticks

    def tick(self, *, peer_heard: bool = False) -> None:
        """Notice a silent peer, and give a sign of life where nothing else did; called every `ping_seconds`.

        `peer_heard`: another connection with the same peer was heard since the last tick.
        """
        if self._state is not _State.OPEN:
            return
        self._quiet_ticks += 1
        self._unfinished_ticks += self._decoder.in_frame
        if peer_heard and self._quiet_ticks > self._alone_ticks_max:
            self.abort(
                f"nothing heard for {self._wiring.options.lane_silence_seconds} seconds but on other connections"
            )
        elif self._quiet_ticks > self._quiet_ticks_max:
            self.abort(f"nothing heard for {self._wiring.options.silence_seconds} seconds")
        elif self._unfinished_ticks > self._unfinished_ticks_max:
            self._log.warn("{peer} did not end a frame in time", peer=self.peer.name)
            self.abort(f"a frame did not end within {self._wiring.options.frame_seconds} seconds")
        else:
            self._outbox.give_sign_of_life()

    # ---- called by the transport ----

    def connectionMade(self) -> None:
        """Start the handshake and its deadline."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self._wiring.live.add(self)
        self._deadline = self._wiring.clock.callLater(self._wiring.options.handshake_seconds, self._handshake_late)
        self.transport.write(self._handshake.start())

    def dataReceived(self, data: bytes) -> None:
        """Take bytes of the handshake or of frames."""
        self._quiet_ticks = 0
        if self._state is _State.OPEN:
            self._deliver(data)
        elif self._state is _State.GREETING:
            self._greet(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell who made this connection."""
        self._shut()
        self._wiring.live.discard(self)
        error = self._error or explained(self.transport, reason.value or BrokenConnectionError("closed"))
        self._on_lost(self, error)
        self.gone.callback(None)

    def pauseProducing(self) -> None:
        """Hold frames; the transport has enough."""
        self._outbox.pause()

    def resumeProducing(self) -> None:
        """Write held frames."""
        self._outbox.resume()

    def stopProducing(self) -> None:
        """Nothing: `connectionLost` follows."""

    # ---- handshake ----

    def _greet(self, data: bytes) -> None:
        self._handshake.certified = peer_of(self.transport)
        try:
            self.transport.write(self._handshake.receive(data))
        except HandshakeError as error:
            self._error = error
            self._wiring.counters.handshakes_failed += 1
            self.transport.write(error.reply)
            self.close()
            return
        if self._handshake.complete:
            self._establish()

    def _establish(self) -> None:
        self._state = _State.OPEN
        self.established = True
        self._cancel_deadline()
        self.transport.registerProducer(self, True)
        self._outbox.attach(prompt_write(self.transport))
        self._on_established(self)
        if (rest := self._handshake.rest()) and self._state is _State.OPEN:
            self._deliver(rest)

    def _goodbye_late(self) -> None:
        self._deadline = None
        self.abort("not closed in time")

    def _handshake_late(self) -> None:
        self._deadline = None
        self._wiring.counters.handshakes_failed += 1
        self.abort(f"no handshake within {self._wiring.options.handshake_seconds} seconds")

    # ---- frames ----

    def _deliver(self, data: bytes) -> None:
        counters = self._counters
        counters.bytes_received += len(data)
        try:
            for payload in self._decoder.feed(data):
                self._unfinished_ticks = 0
                if payload:
                    counters.frames_received += 1
                    self._receive(self, self._decode(payload))
                    if self._state is not _State.OPEN:
                        return
        except FrameError as error:
            self._log.warn("{peer} sent {error}", peer=self.peer.name, error=error)
            self.abort(str(error))
        except Exception:  # noqa: BLE001 (whatever a frame makes a receiver raise costs this connection, no other)
            self._log.failure("a frame of {peer} on lane {lane} failed", peer=self.peer.name, lane=self.lane.name)
            self.abort("a frame failed")

    def _shut(self) -> None:
        self._state = _State.CLOSED
        self._cancel_deadline()
        self._outbox.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
