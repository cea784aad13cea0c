"""One connection of a load client, with one request outstanding at most."""

from __future__ import annotations

from typing import Protocol as Shape

from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from benchmarks.http1 import MalformedResponseError, Response, ResponseParser

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
        self.transport.write(request)

    def connectionMade(self) -> None:
        """Join the loop."""
        self.transport.setTcpNoDelay(True)
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


class WorkerFactory(Factory):
    """Builds the workers of one loop."""

    noisy = False

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return a worker for a new connection."""
        return Worker(self._loop)
