"""A TCP proxy that makes one way between two processes slow, narrow, silent or broken, each direction by itself.

    dialler --- there ---> proxy ---> listener
            <--- back ----       <---

Within a connection TCP keeps bytes in order, and so does the proxy; its jitter lets the chunks of different connections
overtake each other, which is all the reordering that a process over TCP can meet. What is held is not lost: as behind a
cable that is pulled and put back, it arrives late, after what retransmitted it; meanwhile neither end hears anything,
not even that the other one has closed. New connections are accepted meanwhile and hold as well.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from raftlog.link import Endpoint, Lane
from raftlog.link.frames import FrameError, first_payload
from raftlog.link.greeting import MESSAGE_BYTES_MAX, GreetingError, Hello, decode_greeting


@dataclass(frozen=True, slots=True)
class Conditions:
    """What happens to the bytes of one direction; by default nothing. `lane`: only to those of this lane of links."""

    held: bool = False
    delay_seconds: float = 0.0
    #: Up to so much is added to the delay, anew for each chunk.
    jitter_seconds: float = 0.0
    #: None: as many as there are.
    bytes_per_second: float | None = None
    lane: Lane | None = None


FINE = Conditions()
#: As much as two kernels would take of one direction; then the sender has to wait.
_WAITING_BYTES_MAX = 1 << 20


class Proxy:
    """One way to a listener at `target`; `there` and `back` are the conditions on it."""

    def __init__(self, reactor: Any, rng: random.Random, target: Endpoint) -> None:
        self._reactor = reactor
        self._rng = rng
        self._target = target
        self._there = self._back = FINE
        self._refusing = False
        self._port: IListeningPort | None = None
        self._connections: set[_Connection] = set()

    async def open(self) -> Endpoint:
        """Listen on the loopback; return where."""
        factory = Factory.forProtocol(lambda: _Side(self._accepted))
        factory.noisy = False
        self._port = await TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1").listen(factory)
        address: Any = self._port.getHost()
        return Endpoint(address.host, address.port)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        connections = list(self._connections)
        self.cut()
        await gatherResults([connection.gone for connection in connections])

    def impose(self, there: Conditions, back: Conditions) -> None:
        """Let these conditions hold from now on, also on the connections that there are."""
        self._there, self._back = there, back
        for connection in list(self._connections):
            connection.impose(there, back)

    def cut(self) -> None:
        """Reset every connection."""
        for connection in list(self._connections):
            connection.reset()

    def refuse(self, refusing: bool) -> None:
        """Reset every new connection too, or no more."""
        self._refusing = refusing

    def _accepted(self, side: _Side) -> None:
        if self._refusing:
            side.transport.abortConnection()
            return
        connection = _Connection(self._reactor, self._rng, side, self._connections.discard)
        self._connections.add(connection)
        connection.impose(self._there, self._back)
        connection.dial(self._target)


class _Connection:
    """The two sides of one connection."""

    def __init__(self, reactor: Any, rng: random.Random, dialler: _Side, ended: Callable[[_Connection], None]) -> None:
        self._reactor = reactor
        self._rng = rng
        self._ended = ended
        self._dialler = dialler
        self._listener: _Side | None = None
        self._lane: Lane | None = None
        self._greeting = b""
        self._conditions = FINE, FINE
        self._dialling = True
        self._there = _Direction(reactor, rng, dialler)
        self._back: _Direction | None = None
        dialler.received = self._greeted
        dialler.lost = self._dialler_lost
        #: Fires once neither side is connected.
        self.gone: Deferred[None] = Deferred()

    def dial(self, target: Endpoint) -> None:
        """Connect the other side."""
        endpoint = TCP4ClientEndpoint(self._reactor, target.host, target.port, timeout=5)
        connecting = endpoint.connect(Factory.forProtocol(lambda: _Side(self._reached)))
        _ = connecting.addErrback(self._unreachable)

    def impose(self, there: Conditions, back: Conditions) -> None:
        """Take conditions, as far as they are for this connection's lane."""
        self._conditions = there, back
        self._there.impose(self._own(there))
        if self._back is not None:
            self._back.impose(self._own(back))

    def reset(self) -> None:
        """Break both sides at once."""
        for side in (self._dialler, self._listener):
            if side is not None and side.open:
                side.transport.abortConnection()

    def _own(self, conditions: Conditions) -> Conditions:
        return conditions if conditions.lane in (None, self._lane) else FINE

    def _greeted(self, data: bytes) -> None:
        """Find out from the first message which lane of links this is, if it is one."""
        self._greeting += data
        self._lane = _lane_of(self._greeting)
        if self._lane is not None or len(self._greeting) > MESSAGE_BYTES_MAX:
            self._dialler.received = self._there.put
            self.impose(*self._conditions)
        self._there.put(data)

    def _reached(self, side: _Side) -> None:
        self._listener, self._dialling = side, False
        self._back = _Direction(self._reactor, self._rng, side)
        side.received = self._back.put
        side.lost = self._listener_lost
        self._there.attach(side)
        self._back.attach(self._dialler)
        self.impose(*self._conditions)

    def _unreachable(self, failure: Failure) -> None:
        failure.trap(ConnectError)
        self._dialling = False
        self.reset()
        self._side_lost()

    def _dialler_lost(self) -> None:
        self._there.put(None)
        self._side_lost()

    def _listener_lost(self) -> None:
        assert self._back is not None
        self._back.put(None)
        self._side_lost()

    def _side_lost(self) -> None:
        open_ = self._dialling or self._dialler.open or (self._listener is not None and self._listener.open)
        if open_ or self.gone.called:
            return
        for direction in (self._there, self._back):
            if direction is not None:
                direction.stop()
        self._ended(self)
        self.gone.callback(None)


class _Direction:
    """The bytes from one side on their way, each chunk with the time at which it is due; None is the end."""

    def __init__(self, reactor: Any, rng: random.Random, source: _Side) -> None:
        self._reactor = reactor
        self._rng = rng
        self._source = source
        self._conditions = FINE
        self._chunks: deque[tuple[float, bytes | None]] = deque()
        self._waiting_bytes = 0
        #: When what is on its way has passed the narrowest place.
        self._free_seconds = 0.0
        self._call: IDelayedCall | None = None
        self._to: _Side | None = None

    def attach(self, to: _Side) -> None:
        """Deliver to this side."""
        self._to = to
        self._go_on()

    def impose(self, conditions: Conditions) -> None:
        """Take new conditions; what is on its way keeps its time."""
        self._conditions = conditions
        self._go_on()

    def put(self, data: bytes | None) -> None:
        """Take a chunk."""
        now, conditions = self._reactor.seconds(), self._conditions
        self._waiting_bytes += len(data or b"")
        if self._waiting_bytes > _WAITING_BYTES_MAX and data is not None:
            self._source.pause(True)
        due = now + conditions.delay_seconds + self._rng.uniform(0, conditions.jitter_seconds)
        if data and conditions.bytes_per_second is not None:
            self._free_seconds = max(self._free_seconds, now) + len(data) / conditions.bytes_per_second
            due = max(due, self._free_seconds)
        if self._chunks:
            due = max(due, self._chunks[-1][0])
        self._chunks.append((due, data))
        self._go_on()

    def stop(self) -> None:
        """Deliver nothing more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._chunks.clear()

    def _go_on(self) -> None:
        """Deliver what is due, unless it is held; come back for the rest."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._to is None or self._conditions.held:
            return
        while self._chunks and self._chunks[0][0] <= self._reactor.seconds():
            _, data = self._chunks.popleft()
            self._waiting_bytes -= len(data or b"")
            if data is None:
                self._to.transport.loseConnection()
            elif self._to.open:
                self._to.transport.write(data)
        if self._waiting_bytes <= _WAITING_BYTES_MAX:
            self._source.pause(False)
        if self._chunks:
            self._call = self._reactor.callLater(max(0, self._chunks[0][0] - self._reactor.seconds()), self._due)

    def _due(self) -> None:
        self._call = None
        self._go_on()


class _Side(Protocol):
    """One socket. `made` is called once it is connected."""

    #: ITCPTransport and IPushProducer, for which mypy has no intersection.
    transport: Any

    def __init__(self, made: Callable[[_Side], None]) -> None:
        self._made = made
        self.open = False
        self._paused = False
        self.received: Callable[[bytes], None] = lambda data: None
        self.lost: Callable[[], None] = lambda: None

    def pause(self, paused: bool) -> None:
        if paused is not self._paused and self.open:
            self._paused = paused
            self.transport.pauseProducing() if paused else self.transport.resumeProducing()

    def connectionMade(self) -> None:
        self.open = True
        self.transport.setTcpNoDelay(True)
        self._made(self)

    def dataReceived(self, data: bytes) -> None:
        self.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        self.lost()


def _lane_of(data: bytes) -> Lane | None:
    """Return the lane that a dialler's first bytes ask for; None if they do not (yet)."""
    try:
        payload = first_payload(data, MESSAGE_BYTES_MAX)
        greeting = decode_greeting(payload) if payload is not None else None
    except (FrameError, GreetingError):
        return None
    return greeting.lane if isinstance(greeting, Hello) else None
