"""Twisted transports and endpoints joined in memory, pumped by the test; for the real Links without sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from raftlog.link import Endpoint

#: As in Twisted's transports: a producer is paused when more waits to be written.
WRITE_BUFFER_BYTES = 1 << 16


class PipeTransport:
    """One end of a pipe. What is written waits here until `pump`; a stuck end does not read what the other wrote."""

    other: PipeTransport
    protocol: IProtocol

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.stuck = False
        self.closed = False
        self._closing: Exception | None = None
        self._producer: IPushProducer | None = None
        self._paused = False

    @property
    def written_bytes(self) -> int:
        """Return how much waits here."""
        return sum(map(len, self.written))

    def write(self, data: bytes) -> None:
        """Buffer, and pause the producer above the limit."""
        if self._closing is None and data:
            self.written.append(data)
            if self._producer is not None and self.written_bytes > WRITE_BUFFER_BYTES and not self._paused:
                self._paused = True
                self._producer.pauseProducing()

    def loseConnection(self) -> None:
        """Close once everything is written; with a producer that is never."""
        if self._producer is None:
            self._closing = self._closing or ConnectionDone()

    def abortConnection(self) -> None:
        """Close without writing more."""
        self.written.clear()
        self._closing = ConnectionAborted()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Take a streaming producer."""
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Have no producer."""
        self._producer = None

    def pump(self) -> bool:
        """Move what was written to the other end, or close; return whether anything happened."""
        if self.closed:
            return False
        if self.written and not self.other.stuck:
            data = b"".join(self.written)
            self.written.clear()
            self.other.protocol.dataReceived(data)
            self._resume()
            return True
        if self._closing is not None and not self.written:
            self.lose(self._closing)
            return True
        return False

    def lose(self, reason: Exception) -> None:
        """Have this end end for `reason`, the other one simply be told."""
        for end, why in ((self, reason), (self.other, ConnectionLost())):
            if not end.closed:
                end.closed = True
                end.protocol.connectionLost(Failure(why))

    def _resume(self) -> None:
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()


class Pipes:
    """All pipes of a test."""

    def __init__(self) -> None:
        self.listening: dict[Endpoint, IProtocolFactory] = {}
        #: Pairs of hosts that do not reach each other.
        self.parted: set[frozenset[str]] = set()
        #: Dialling host, listening host, and the dialled end, in the order of dialling.
        self.dialled: list[tuple[str, str, PipeTransport]] = []

    def connect(self, caller: str, target: Endpoint, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Join a protocol of `factory` to one of the factory that listens at `target`."""
        listening = self.listening.get(target)
        if frozenset((caller, target.host)) in self.parted:
            return fail(Failure(TimeoutError()))
        if listening is None:
            return fail(Failure(ConnectionRefusedError()))
        near, far = PipeTransport(), PipeTransport()
        near.other, far.other = far, near
        near.protocol, far.protocol = _built(factory, target.host), _built(listening, caller)
        self.dialled.append((caller, target.host, near))
        far.protocol.makeConnection(far)  # type: ignore[arg-type]  # what connections use of ITransport is there
        near.protocol.makeConnection(near)  # type: ignore[arg-type]
        return succeed(near.protocol)

    def part(self, one: str, other: str) -> None:
        """Break the pipes between two hosts and let no new ones be made."""
        self.parted.add(frozenset((one, other)))
        for caller, target, near in self.dialled:
            if {caller, target} == {one, other} and not near.closed:
                near.lose(ConnectionLost())

    def rejoin(self, one: str, other: str) -> None:
        """Undo `part`."""
        self.parted.discard(frozenset((one, other)))

    def pump(self) -> bool:
        """Move everything one step; return whether anything happened."""
        moved = [end.pump() for _, _, near in list(self.dialled) for end in (near, near.other)]
        return any(moved)


def _built(factory: IProtocolFactory, far_host: str) -> IProtocol:
    protocol = factory.buildProtocol(HostnameAddress(far_host.encode(), 0))
    assert protocol is not None
    return protocol


@implementer(IStreamClientEndpoint)
class PipeClientEndpoint:
    """Connects `caller` to what listens at `target`."""

    def __init__(self, pipes: Pipes, caller: str, target: Endpoint) -> None:
        self._pipes = pipes
        self._caller = caller
        self._target = target

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect at once, or be refused."""
        return self._pipes.connect(self._caller, self._target, factory)


@implementer(IStreamServerEndpoint)
class PipeServerEndpoint:
    """Listens at an address."""

    def __init__(self, pipes: Pipes, at: Endpoint) -> None:
        self._pipes = pipes
        self._at = at

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen at once."""
        self._pipes.listening[self._at] = factory
        return succeed(PipePort(self._pipes, self._at))


@implementer(IListeningPort)
class PipePort:
    """A listening pipe."""

    def __init__(self, pipes: Pipes, at: Endpoint) -> None:
        self._pipes = pipes
        self._at = at

    def startListening(self) -> None:
        """Nothing: it listens already."""

    def stopListening(self) -> None:
        """Refuse further connections."""
        del self._pipes.listening[self._at]

    def getHost(self) -> Any:
        """Return the address."""
        return self._at
