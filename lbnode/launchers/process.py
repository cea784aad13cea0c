"""Servers as processes of this machine: `twistd dbnode` on the loopback, one data directory each.

Every server runs in a session of its own, so that Ctrl-C in the balancer's terminal does not reach it and a killed
balancer leaves it running. It is found again by what it wrote to its data directory (pid and start time); one that was
still starting when its balancer died is found by its command line. Only a process that is told apart with certainty
is ever signalled. The cluster's secret goes into a file that only the owner may read, never into an argument.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFDSet, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dbnode.client.control import ControlFailed
from dbnode.wire import Endpoint, ServerFile
from lbnode.launchers import STORAGE_FILE, LaunchFailed, LaunchTimes, LostHome, ServerSpec, ServerStorage
from lbnode.launchers.certify import certify
from lbnode.launchers.exits import Exits
from lbnode.launchers.processes import Process, with_argument

#: What the new process runs: a session of its own first, then twistd as its command line would.
PROGRAM = "import os; os.setsid(); from twisted.scripts.twistd import run; run()"

#: Lines of a server's log that an error shows.
_LOG_LINES = 12

#: How often a file or a process is looked at while we wait for it.
_POLL_SECONDS = 0.05


class _Exit(ProcessProtocol):
    """Remembers how the process that we started ended."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - called by Twisted
        """Take note."""
        self.reason = reason.getErrorMessage()


class ProcessLauncher:
    """Launcher of `twistd dbnode` processes with their data below `directory`.

    `heartbeat` asks a server whether it serves, within some seconds; `environment` is what the servers inherit;
    `tls_dir` is where their certificates are, and are made if the authority's key is there; `wrapper` stands in front
    of each server's command and becomes it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        processes: IReactorProcess,
        readers: IReactorFDSet,
        directory: Path,
        secret: bytes,
        heartbeat: Callable[[Endpoint, float], Awaitable[None]],
        environment: Mapping[str, str],
        times: LaunchTimes,
        tls_dir: Path | None = None,
        storage: ServerStorage | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._processes = processes
        self._directory = directory
        self._secret = secret
        self._heartbeat = heartbeat
        self._environment = dict(environment)
        self._times = times
        self._tls_dir = tls_dir
        self._storage = storage or ServerStorage()
        self._wrapper = list(wrapper)
        self._ended: Callable[[str], None] = lambda home: None
        self._exits = Exits(readers, lambda home: self._ended(home))

    def open(self) -> Deferred[None]:
        """See Launcher.open: a process needs nothing that a balancer has not."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See Launcher.close."""
        self._exits.stop()
        return succeed(None)

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """See Launcher.start."""
        return Deferred.fromCoroutine(self._start(spec))

    def look(self, home: str) -> Deferred[ServerFile | None]:
        """See Launcher.look."""
        file = _running(self._directory / home)
        if file is not None:
            self._exits.watch(home, Process(file.pid, file.started_at))
        return succeed(file)

    def on_exit(self, ended: Callable[[str], None]) -> None:
        """See Launcher.on_exit."""
        self._ended = ended

    def stop(self, home: str) -> Deferred[None]:
        """See Launcher.stop."""
        return Deferred.fromCoroutine(self._stop(home))

    def destroy(self, home: str) -> Deferred[None]:
        """See Launcher.destroy."""
        return Deferred.fromCoroutine(self._destroy(home))

    # ---- starting ---------------------------------------------------------------------------------------------

    async def _start(self, spec: ServerSpec) -> ServerFile:
        home = self._directory / spec.home
        if spec.incarnation and (_incarnation(home) != spec.incarnation or not _has_log(home)):
            raise LostHome(f"{home} does not hold the data of {spec.name} any more (incarnation {spec.incarnation})")
        deadline = self._clock.seconds() + self._times.start_seconds
        if _processes_of(home):
            return await self._until_it_answers(spec, home, None, deadline)
        if self._tls_dir is not None:
            certify(self._tls_dir, spec.name)
        exit_ = self._spawn(spec, home)
        try:
            return await self._until_it_answers(spec, home, exit_, deadline)
        except LaunchFailed:
            await self._stop(spec.home)
            raise

    def _spawn(self, spec: ServerSpec, home: Path) -> _Exit:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret_file = home / "secret"
        _write_private(secret_file, self._secret)
        arguments = [*self._wrapper, sys.executable, "-P", "-c", PROGRAM]
        arguments += ["--nodaemon", "--pidfile=", f"--logfile={home}/server.log"]
        arguments += ["dbnode", "--name", spec.name, "--data-dir", str(home)]
        arguments += ["--cluster-id", spec.cluster_id, "--secret-file", str(secret_file)]
        arguments += ["--tls-dir", "off" if self._tls_dir is None else str(self._tls_dir)]
        arguments += self._storage_arguments(home)
        exit_ = _Exit()
        with open(os.devnull, "rb") as nothing, open(_output(home), "wb") as output:
            self._processes.spawnProcess(
                exit_,
                arguments[0],
                arguments,
                env=self._environment,
                path=str(home),
                childFDs={0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()},
            )
        self._log.info("started {name} on {home}", name=spec.name, home=str(home))
        return exit_

    def _storage_arguments(self, home: Path) -> list[str]:
        told, programs = self._storage.told, self._storage.programs
        arguments = ["--postgres-programs", programs] if programs else []
        if told is not None:
            _write_private(home / STORAGE_FILE, told.encode())
            arguments += ["--storage-file", str(home / STORAGE_FILE)]
        return arguments

    async def _until_it_answers(self, spec: ServerSpec, home: Path, exit_: _Exit | None, deadline: float) -> ServerFile:
        while self._clock.seconds() < deadline:
            running = _running(home)
            if running is not None and await self._answers(running, deadline):
                return running
            if running is None and (not _processes_of(home) if exit_ is None else exit_.reason is not None):
                reason = exit_.reason if exit_ and exit_.reason else "it ended"
                raise LaunchFailed(f"{spec.name} did not start: {reason}\n{_log_end(home)}")
            await deferLater(self._clock, _POLL_SECONDS)
        raise LaunchFailed(
            f"{spec.name} did not answer within {self._times.start_seconds:g} s of its start\n{_log_end(home)}"
        )

    async def _answers(self, server: ServerFile, deadline: float) -> bool:
        try:
            await self._heartbeat(server.http, max(0.0, deadline - self._clock.seconds()))
        except ControlFailed as error:
            self._log.debug("{name} does not answer yet: {error}", name=server.name, error=error)
            return False
        return True

    # ---- stopping ---------------------------------------------------------------------------------------------

    async def _stop(self, home: str) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = self._clock.seconds() + self._times.stop_seconds
            for process in _processes_of(self._directory / home):
                process.send_signal(number)
            while _processes_of(self._directory / home):
                if self._clock.seconds() >= deadline:
                    break
                await deferLater(self._clock, _POLL_SECONDS)
            else:
                return
            self._log.warn("the server on {home} did not stop by {signal}", home=home, signal=number.name)
        raise LaunchFailed(f"the server on {home} does not stop, not even by SIGKILL")

    async def _destroy(self, home: str) -> None:
        await self._stop(home)
        directory = self._directory / home
        deadline = self._clock.seconds() + self._times.stop_seconds
        while directory.exists():
            # A PostgreSQL whose server had to be killed may still be ending there, and make and remove files.
            shutil.rmtree(directory, ignore_errors=self._clock.seconds() < deadline)
            if not directory.exists():
                self._log.info("removed {home}", home=str(directory))
                return
            await deferLater(self._clock, _POLL_SECONDS)


def _write_private(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=_private) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _output(home: Path) -> Path:
    """Return where a server writes what it says before its log is open, and if the interpreter itself fails."""
    return home / "start.log"


def _server_file(home: Path) -> ServerFile | None:
    try:
        return msgspec.json.decode((home / "endpoints.json").read_bytes(), type=ServerFile)
    except (FileNotFoundError, ValueError, RecursionError):  # ValueError: msgspec's errors, and bytes that are no UTF-8
        return None


def _incarnation(home: Path) -> str:
    try:
        identity: dict[str, Any] = msgspec.json.decode((home / "identity.json").read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, ValueError, RecursionError):  # ValueError: msgspec's errors, and bytes that are no UTF-8
        return ""
    return str(identity.get("incarnation", ""))


def _has_log(home: Path) -> bool:
    """Return whether a server's log is where it should be; without it the server would refuse to start."""
    return any((home / "wal").glob("*"))


def _running(home: Path) -> ServerFile | None:
    file = _server_file(home)
    if file is None or not Process(file.pid, file.started_at).is_alive():
        return None
    return file


def _processes_of(home: Path) -> list[Process]:
    """Return the processes that run on a home: what its file names, else what was started on it by name."""
    file = _running(home)
    return with_argument("--data-dir", str(home)) if file is None else [Process(file.pid, file.started_at)]


def _log_end(home: Path) -> str:
    lines: list[str] = []
    for path in (home / "server.log", _output(home)):
        if path.exists():
            lines += path.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
    return "\n".join(lines) or f"(nothing in {home / 'server.log'})"
