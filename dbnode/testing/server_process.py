"""One `twistd dbnode` as a child of the process that tests it: started, killed without mercy, started again.

Only the child itself is ever signalled, and only while it is known to run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dbnode.wire import ServerFile

#: What a server's interpreter runs, before twistd's own arguments.
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")
#: How long a server may take to start or to stop; it takes about a second.
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.01


class ServerProcess:
    """A server in `directory`, whose log is beside it. `arguments` follow `twistd dbnode`; `program`: see TWISTD.

    `wrapper` is a command that becomes the one that is put behind it, as `nice` does.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        arguments: Sequence[str],
        program: Sequence[str] = TWISTD,
        wrapper: Sequence[str] = (),
    ) -> None:
        self._reactor = reactor
        self.directory = directory
        self.log = directory.with_name(directory.name + ".log")
        self._command = [*wrapper, sys.executable, *program, "--nodaemon", "--pidfile="]
        self._command += ["dbnode", "--data-dir", str(directory)]
        self._command += arguments
        self._exit: _Exit | None = None

    @property
    def pid(self) -> int:
        """The running process, 0 if there is none."""
        return self._exit.pid if self._exit is not None else 0

    def start(self) -> None:
        """Start it; there must be none."""
        assert not self.pid
        self._exit = _Exit()
        environment = {name: value for name, value in os.environ.items() if name not in ("PORT", "PYTHONWARNINGS")}
        with self.log.open("ab") as output, open(os.devnull, "rb") as nothing:
            descriptors = {0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()}
            self._reactor.spawnProcess(self._exit, self._command[0], self._command, environment, childFDs=descriptors)

    async def serving(self) -> ServerFile:
        """Wait until it serves; return where. Raises AssertionError with its log if it ends before."""
        deadline = self._reactor.seconds() + PATIENCE_SECONDS
        while self.pid and self._reactor.seconds() < deadline:
            found = self._endpoints()
            if found is not None and found.pid == self.pid:
                return found
            await deferLater(self._reactor, _POLL_SECONDS)
        raise AssertionError(f"{self.directory.name} does not serve:\n{self.log.read_text(errors='replace')[-4000:]}")

    async def kill(self) -> None:
        """End it as `kill -9` does, if it runs; returns once it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, if it runs; returns once it is gone."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> None:
        if self._exit is None or not self._exit.pid:
            return
        self._exit.signal(number)
        late = self._reactor.callLater(PATIENCE_SECONDS, self._exit.signal, signal.SIGKILL)
        await self._exit.ended
        if late.active():
            late.cancel()

    def _endpoints(self) -> ServerFile | None:
        try:
            return msgspec.json.decode((self.directory / "endpoints.json").read_bytes(), type=ServerFile)
        except FileNotFoundError:
            return None


class _Exit(ProcessProtocol):
    """Knows whether its process runs, and tells one waiter of its end."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.pid = 0
        self.ended: Deferred[None] = Deferred()

    def makeConnection(self, process: IProcessTransport) -> None:
        """Take note of the process."""
        self.transport = process
        self.pid = int(process.pid)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """Take note of its end."""
        self.pid = 0
        self.ended.callback(None)

    def signal(self, number: int) -> None:
        """Send a signal while there is a process to send it to."""
        if self.pid:
            self.transport.signalProcess(number)
