"""The outgoing half towards one peer on one lane: dials, queues meanwhile, redials with backoff.

    idle -> dialling -> up -> waiting -> dialling ...
             |                   ^
             +-------------------+

An eager lane leaves idle by itself and is dialled until it is closed; another one when something is sent on it. Items
are taken while dialling and up. What was taken and is lost with an attempt or a connection is announced by `on_down`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftlog.link.connection import BrokenConnectionError, FramedConnection, Wiring
from raftlog.link.handshake import DiallerHandshake
from raftlog.link.identity import Lane
from raftlog.link.interface import LaneChange, PeerEnd
from raftlog.link.outbox import Outbox


class Backoff:
    """Delays between attempts: none, then doubling from `low` to `high` seconds, each shortened by up to a half.

    The jitter keeps many lanes that lost the same peer from dialling in step.
    """

    def __init__(self, rng: Random, low: float, high: float) -> None:
        self._rng = rng
        self._low = low
        self._high = high
        self._failures = 0

    def reset(self) -> None:
        """Begin anew, after a success that lasted."""
        self._failures = 0

    def next_seconds(self) -> float:
        """Return how long to wait before the next attempt."""
        self._failures += 1
        if self._failures == 1:
            return 0.0
        # The exponent is bounded so that a peer that is away for weeks does not overflow a float.
        longest = min(self._high, self._low * float(1 << min(self._failures - 2, 30)))
        return longest * self._rng.uniform(0.5, 1.0)


class _Single(Factory):
    """Hands out one connection, for one attempt."""

    noisy = False

    def __init__(self, connection: FramedConnection) -> None:
        self._connection = connection

    def buildProtocol(self, address: IAddress | None) -> FramedConnection:
        """Return the connection."""
        return self._connection


class DialledLane:
    """One lane to one peer. `endpoint` makes the endpoint for each attempt."""

    _log = Logger()

    def __init__(
        self,
        wiring: Wiring,
        peer_name: str,
        lane: Lane,
        endpoint: Callable[[], IStreamClientEndpoint],
        rng: Random,
        on_up: LaneChange,
        on_down: LaneChange,
        on_end: PeerEnd,
        *,
        eager: bool,
    ) -> None:
        self._wiring = wiring
        self._peer_name = peer_name
        self._lane = lane
        self._endpoint = endpoint
        self._on_up = on_up
        self._on_down = on_down
        self._on_end = on_end
        #: Whether a connection stood when it was last known whether the peer listens.
        self._listened = False
        self._eager = eager
        self._backoff = Backoff(rng, wiring.options.backoff_seconds_min, wiring.options.backoff_seconds_max)
        #: Set while dialling and up.
        self._outbox: Outbox | None = None
        #: The latest attempt, also once it has an outcome, when cancelling it does nothing.
        self._attempt: Deferred[None] = succeed(None)
        self._connection: FramedConnection | None = None
        #: Set while waiting.
        self._retry: IDelayedCall | None = None
        self._up_since: float | None = None
        self._closed = False
        #: Whether the present row of failures was logged.
        self._warned = False

    @property
    def connected(self) -> bool:
        """Return whether the peer has proved itself on a connection that stands."""
        return self._up_since is not None

    def start(self) -> None:
        """Dial, if the lane is eager."""
        if self._eager:
            self._dial()

    def close(self) -> None:
        """End for good what is under way."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._attempt.cancel()
        if self._connection is not None:
            self._connection.close()
        self._give_up()

    def send(self, item: Any) -> bool:
        """Queue an item, dialling if this is the first on a lazy lane; False: dropped."""
        outbox = self._outbox or self._dial_if_idle()
        if outbox is None:
            self._wiring.counters.items_dropped += 1
            return False
        return outbox.put(item)

    def hurry(self) -> None:
        """Dial now if waiting: the peer was just heard of."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry_now()

    def _dial_if_idle(self) -> Outbox | None:
        if not self._closed and self._retry is None:
            self._dial()
        return self._outbox

    def _dial(self) -> None:
        wiring = self._wiring
        self._outbox = wiring.outbox()
        handshake = DiallerHandshake(wiring.identity, wiring.prover, wiring.nonce(), self._peer_name, self._lane)
        connection = FramedConnection(wiring, handshake, self._outbox, self._established, self._lost)
        attempt = self._endpoint().connect(_Single(connection))
        self._attempt = attempt.addCallbacks(self._reached, self._unreachable, callbackArgs=(connection,))

    def _reached(self, protocol: object, connection: FramedConnection) -> None:
        self._connection = connection

    def _unreachable(self, failure: Failure) -> None:
        if not self._closed:
            self._failed(failure.value or BrokenConnectionError("no reason given"))

    def _established(self, connection: FramedConnection) -> None:
        self._up_since = self._wiring.clock.seconds()
        self._warned = False
        self._listened = True
        self._log.info("lane {lane} to {peer} is up", lane=self._lane.name, peer=self._peer_name)
        self._on_up(self._peer_name, self._lane)

    def _lost(self, connection: FramedConnection, error: BaseException) -> None:
        if not self._closed:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._log_failure(error)
        self._wiring.counters.connections_lost += self.connected
        if self._up_since is not None and self._lasted(self._up_since):
            self._backoff.reset()
        self._retry = self._wiring.clock.callLater(self._backoff.next_seconds(), self._retry_now)
        self._give_up()
        if self._listened and isinstance(error, ConnectionRefusedError):
            self._listened = False
            self._on_end(self._peer_name)

    def _lasted(self, since: float) -> bool:
        # A peer that accepts and drops us at once is redialled ever more slowly, as one that does not answer.
        return self._wiring.clock.seconds() - since >= self._wiring.options.backoff_seconds_max

    def _log_failure(self, error: BaseException) -> None:
        names = {"lane": self._lane.name, "peer": self._peer_name, "error": error}
        if self.connected:
            self._log.info("lane {lane} to {peer} is down: {error}", **names)
        elif not self._warned:
            self._warned = True
            self._log.warn("lane {lane} to {peer} cannot be opened: {error}", **names)

    def _retry_now(self) -> None:
        self._retry = None
        self.start()

    def _give_up(self) -> None:
        """Forget the connection or attempt and what was queued for it; `on_down` comes last, since it may send."""
        lost = self.connected or (self._outbox is not None and self._outbox.used)
        if self._outbox is not None:
            self._outbox.close()
        self._outbox = self._connection = self._up_since = None
        if lost:
            self._on_down(self._peer_name, self._lane)
