"""Child processes of the bench: started with their output in a file, stopped by their own pid and no other."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from benchmarks.door import Door, UnreachableError

#: How long a child may take to stop in order before it is killed.
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_LOG_LINES_SHOWN = 15


class StartError(Exception):
    """The world's fault: a process that we started does not serve."""


class Child:
    """One process started by us. `stop` may be called at any time, more than once, and is awaited."""

    def __init__(self, reactor: Any, command: Sequence[str], log: Path) -> None:
        self._reactor = reactor
        self.command = list(command)
        self._log = log
        self._protocol = _Exit()

    def start(self) -> None:
        """Start it, with standard output and error appended to the log."""
        with self._log.open("ab") as output, open(os.devnull, "rb") as nothing:
            self._reactor.spawnProcess(
                self._protocol,
                self.command[0],
                self.command,
                env=os.environ,
                childFDs={0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()},
            )

    @property
    def running(self) -> bool:
        """Return whether the process has started and not ended."""
        return self._protocol.running

    @property
    def pid(self) -> int:
        """Return the process id. It must have been started."""
        pid: int = self._protocol.transport.pid
        return pid

    def kill(self) -> None:
        """End it without warning."""
        self._protocol.signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to stop, wait, and kill it if it does not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._protocol.signal(number)
            waited = 0.0
            while self.running and waited < _STOP_SECONDS:
                await deferLater(self._reactor, _POLL_SECONDS)
                waited += _POLL_SECONDS

    async def until(self, ready: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Wait until `ready` says so. Raises StartError with the end of the log if it ends or takes longer."""
        deadline = self._reactor.seconds() + seconds
        while not await ready():
            if not self.running:
                raise StartError(f"{self} ended while starting; {self.end_of_log()}")
            if self._reactor.seconds() >= deadline:
                raise StartError(f"{self} does not serve after {seconds:g} s; {self.end_of_log()}")
            await deferLater(self._reactor, _POLL_SECONDS)

    def end_of_log(self) -> str:
        """Return the last lines that it wrote, for a message."""
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "its log ends:\n" + "\n".join(lines)

    def __str__(self) -> str:
        return " ".join(self.command)


class _Exit(ProcessProtocol):
    """Knows whether its process runs."""

    transport: Any  # IProcessTransport, whose pid that interface does not promise

    def __init__(self) -> None:
        self.running = False

    def makeConnection(self, process: IProcessTransport) -> None:
        self.running = True
        self.transport = process

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        self.running = False

    def signal(self, number: int) -> None:
        """Send a signal if there still is a process to send it to."""
        if self.running:
            self.transport.signalProcess(number)


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(door: Door, method: str, path: str, body: object = None) -> bool:
    """Return whether a request gets a 200, as the sign that a server serves."""
    try:
        return (await door.ask(method, path, body, deadline_seconds=10)).status == 200
    except UnreachableError:
        return False


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that goes on to its end even if its waiter is cancelled; the cancellation is raised after it."""
    done = ensureDeferred(work)
    try:
        await _one_more_waiter(done)
    except CancelledError:
        await _one_more_waiter(done)
        raise


def _one_more_waiter(done: Deferred[None]) -> Deferred[None]:
    waiter: Deferred[None] = Deferred()

    def tell(outcome: Failure | None) -> None:
        if not waiter.called:
            waiter.callback(outcome)  # a Failure makes it fail

    _ = done.addBoth(tell)
    return waiter
