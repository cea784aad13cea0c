"""A PostgreSQL of a server's own, in its data directory: made when first needed, kept running, ended with the server.

    DIR/postgres/        PostgreSQL's data directory (0700), and in it the socket on which alone it listens
    DIR/postgres.log     what PostgreSQL says

Whoever can enter the directory is trusted, so nobody else can. When we are root, it belongs to the user `postgres` or
`nobody`, since PostgreSQL refuses to be root. It is never called by its path: a path may be too long for a socket
(107 bytes, unix(7)), or lead through directories that the other user may not enter. PostgreSQL gets it as an open
descriptor, and so do connections to it (proc(5), /proc/self/fd).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.postgres import child
from dbnode.postgres.connection import Parameters
from dbnode.postgres.orphans import end_orphans
from dbnode.postgres.programs import Programs, find_programs
from dbnode.store import StoreError

#: Whom we become in order not to be root: the first of these that there is.
_USERS = ("postgres", "nobody")
#: PostgreSQL's own superuser; no user of the system.
_ROLE = "shardlb"
_INITDB = (
    f"--username={_ROLE}",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--data-checksums",
    "--wal-segsize=4",
)
#: A server holds a part of one table beside others on its machine: small, quiet, and reached by its socket only.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "max_connections": "1000",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "min_wal_size": "16MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers": "0",
    "jit": "off",
    "fsync": "on",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
}
#: The log of an earlier run is kept, unless it is longer than this.
_LOG_BYTES_MAX = 4 << 20
_LOG_LINES_SHOWN = 8
#: How long PostgreSQL may take until it takes connections: after a crash it reads its log first.
START_SECONDS = 120.0
#: How long it may take to end in order, then to drop everything, before the next stronger signal.
STOP_SECONDS = 5.0
#: Pauses before a PostgreSQL that died is started again.
_RESTART_SECONDS_MIN = 0.1
_RESTART_SECONDS_MAX = 5.0
_POLL_SECONDS = 0.02
_DIRECTORY_FD = 3


class PrivatePostgres:
    """PostgreSQL in `directory`/postgres; `programs`: the folder of its programs, None to look for them."""

    _log = Logger()

    def __init__(self, reactor: Any, directory: Path, programs: Path | None) -> None:
        self._reactor = reactor
        self._data = directory / "postgres"
        self._log_file = directory / "postgres.log"
        self._given_programs = programs
        self._programs: Programs | None = None
        self._user = "-"
        self._descriptor = -1
        self._process: _Process | None = None
        self._restart: IDelayedCall | None = None
        self._restart_seconds = _RESTART_SECONDS_MIN
        self._stopping = False

    @property
    def pid(self) -> int:
        """The running PostgreSQL, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    def parameters(self, database: str) -> Parameters:
        """Return how one of its databases is reached."""
        return {"host": f"/proc/self/fd/{self._descriptor}", "user": _ROLE, "dbname": database}

    async def start(self) -> None:
        """Make it if there is none, and start it; returns once it takes connections. Fails with StoreError."""
        path = os.environ.get("PATH", os.defpath)
        self._programs = find_programs(self._given_programs, path, _release_of(self._data))
        owner = _owner()
        if owner is not None:
            self._user = f"{owner.pw_uid}:{owner.pw_gid}"
        if not self._data.exists():
            await self._make(owner)
        self._descriptor = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY)
        await end_orphans(self._reactor, self._data)
        self._spawn()
        await self._until_ready()

    async def stop(self) -> None:
        """End it, with everything on disk, and return once it is gone."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._process is not None and self._process.pid:
            await self._process.end(self._reactor)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def drop(self) -> None:
        """End it now, in the process's last moment; it will read its log when it is started again."""
        self._stopping = True
        if self._process is not None:
            self._process.signal(signal.SIGQUIT)

    # ---- making -----------------------------------------------------------------------------------------------

    async def _make(self, owner: pwd.struct_passwd | None) -> None:
        """Make the data directory; a crash leaves none, or a whole one."""
        new = self._data.with_name(self._data.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if owner is not None:
            os.chown(new, owner.pw_uid, owner.pw_gid)
        descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert self._programs is not None
            initdb = self._run([str(self._programs.initdb), f"--pgdata={_in_child()}", *_INITDB], descriptor)
            reason = await initdb.ended
        finally:
            os.close(descriptor)
        if not (new / "global").is_dir() or not (new / "pg_wal").is_dir() or reason != "":
            raise StoreError(f"{self._programs.initdb} failed: {reason or 'it ended early'}\n{self._log_end()}")
        os.replace(new, self._data)
        self._log.info("made a PostgreSQL in {directory}", directory=str(self._data))

    # ---- running ----------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        assert self._programs is not None
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs.postgres), "-D", _in_child(), *settings]
        self._process = process = self._run(command, self._descriptor)
        in_background(process.ended.addCallback(self._ended), "watching PostgreSQL")

    def _run(self, command: Sequence[str], descriptor: int) -> _Process:
        if self._log_file.exists() and self._log_file.stat().st_size > _LOG_BYTES_MAX:
            self._log_file.unlink()
        arguments = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), self._user, *command]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        process = _Process()
        with open(os.devnull, "rb") as nothing, open(self._log_file, "ab") as log:
            descriptors = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno(), _DIRECTORY_FD: descriptor}
            self._reactor.spawnProcess(process, sys.executable, arguments, environment, childFDs=descriptors)
        return process

    async def _until_ready(self) -> None:
        deadline = self._reactor.seconds() + START_SECONDS
        while self._reactor.seconds() < deadline:
            if not self.pid:
                raise StoreError(f"PostgreSQL did not start in {self._data}\n{self._log_end()}")
            if _is_ready(self._data, self.pid):
                self._restart_seconds = _RESTART_SECONDS_MIN
                return
            await deferLater(self._reactor, _POLL_SECONDS)
        raise StoreError(f"PostgreSQL in {self._data} took no connections within {START_SECONDS:g} s")

    def _ended(self, reason: str) -> None:
        if not self._stopping:
            self._log.error(
                "PostgreSQL has ended ({reason}); starting it again in {seconds} s\n{log}",
                reason=reason or "by itself",
                seconds=self._restart_seconds,
                log=self._log_end(),
            )
            self._restart = self._reactor.callLater(self._restart_seconds, self._start_again)
            self._restart_seconds = min(2 * self._restart_seconds, _RESTART_SECONDS_MAX)

    def _start_again(self) -> None:
        self._restart = None
        in_background(Deferred.fromCoroutine(self._restarted()), "starting PostgreSQL again")

    async def _restarted(self) -> None:
        try:
            await end_orphans(self._reactor, self._data)
            if not self._stopping:
                self._spawn()
                await self._until_ready()
        except StoreError as error:
            self._log.error("{error}", error=error)

    def _log_end(self) -> str:
        if not self._log_file.exists():
            return ""
        return "\n".join(self._log_file.read_text("utf-8", "replace").splitlines()[-_LOG_LINES_SHOWN:])


class _Process(ProcessProtocol):
    """One of PostgreSQL's programs; `ended` fires with the reason, "" if it ended well."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.pid = 0
        self.ended: Deferred[str] = Deferred()

    def makeConnection(self, process: IProcessTransport) -> None:
        """Take note of the process."""
        self.transport = process
        self.pid = int(process.pid)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """Take note of its end."""
        self.pid = 0
        good = getattr(reason.value, "exitCode", None) == 0
        self.ended.callback("" if good else reason.getErrorMessage())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal while there is a process to send it to."""
        if self.pid:
            self.transport.signalProcess(number)

    async def end(self, clock: Any) -> None:
        """Shut PostgreSQL down: in order, else at once, else by force."""
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self.signal(number)
            deadline = clock.seconds() + STOP_SECONDS
            while self.pid and clock.seconds() < deadline:
                await deferLater(clock, _POLL_SECONDS)


def _in_child() -> str:
    """Return what the child calls the data directory."""
    return f"/proc/self/fd/{_DIRECTORY_FD}"


def _owner() -> pwd.struct_passwd | None:
    """Return whose PostgreSQL's files are to be, None if they are ours."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StoreError(f"PostgreSQL does not run as root, and there is no user called {' or '.join(_USERS)}")


def _release_of(data: Path) -> str | None:
    """Return the release that made a data directory, None if there is none."""
    try:
        return (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def _is_ready(data: Path, pid: int) -> bool:
    """Return whether PostgreSQL has written that it takes connections (its postmaster.pid, lines 1 and 8)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
