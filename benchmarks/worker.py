"""The connections of a load client, with one request outstanding on each at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Shape

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from benchmarks.http1 import MalformedResponseError, Response, ResponseParser
from raftlog.link.prompt import prompt_write

#: The index of a worker that waits for work.
IDLE = -1


class Loop(Shape):
    """What workers report to."""

    def joined(self, worker: Worker) -> None:
        """Take a worker that is connected."""
        ...

    def answered(self, worker: Worker, response: Response) -> None:
        """Take the answer to what the worker sent."""
        ...

    def broken(self, worker: Worker, kind: str) -> None:
        """Take note that the answer will not come, or cannot be read."""
        ...

    def left(self, worker: Worker) -> None:
        """Forget a worker whose connection is gone."""
        ...


class Worker(Protocol):
    """One connection of a loop. `index` is the request outstanding, sent at `sent_at`."""

    transport: ITCPTransport

    def __init__(self, loop: Loop) -> None:
        self.index = IDLE
        self.sent_at = 0.0
        self._loop = loop
        self._parser = ResponseParser()

    def send(self, index: int, request: bytes, now: float) -> None:
        """Send a request."""
        self.index = index
        self.sent_at = now
        self._write(request)

    def connectionMade(self) -> None:
        """Join the loop."""
        self.transport.setTcpNoDelay(True)
        # By way of the poller a request costs this process half as much again, which shares the machine with servers.
        self._write = prompt_write(self.transport)
        self._loop.joined(self)

    def dataReceived(self, data: bytes) -> None:
        """Report an answer once it is whole."""
        try:
            response = self._parser.feed(data)
        except MalformedResponseError:
            self._loop.broken(self, "malformed response")
            return
        if response is not None and self.index != IDLE:
            self._loop.answered(self, response)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the loop."""
        self._loop.left(self)


class Crew:
    """The workers of one loop, and the attempts to connect further ones; `refused` gets what became of an attempt."""

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, loop: Loop, refused: Callable[[Failure], None]
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = _WorkerFactory(loop)
        self._refused = refused
        self._connecting: set[Deferred[Any]] = set()
        #: Those that are connected; the loop adds them when they join and discards them when they leave.
        self.workers: set[Worker] = set()

    def connect(self, delay_seconds: float = 0.0) -> None:
        """Open one more connection; its worker joins the loop."""
        attempt = deferLater(self._reactor, delay_seconds, self._endpoint.connect, self._factory)
        self._connecting.add(attempt)
        _ = attempt.addBoth(self._connected, attempt)

    def dismiss(self) -> None:
        """Close all connections and attempts; workers leave as their connections close."""
        for attempt in list(self._connecting):
            attempt.cancel()
        for worker in self.workers:
            worker.transport.loseConnection()

    def _connected(self, outcome: object, attempt: Deferred[Any]) -> None:
        self._connecting.discard(attempt)
        if isinstance(outcome, Failure) and not isinstance(outcome.value, CancelledError):
            self._refused(outcome)


class _WorkerFactory(Factory):
    """Builds the workers of one loop."""

    noisy = False

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return a worker for a new connection."""
        return Worker(self._loop)
