"""A cluster of the bench's own: a balancer with the process launcher in a directory of its own, and its servers.

Every process of it is known by pid and start time from the files that the servers write in that directory; nothing
else is ever signalled.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.task import deferLater

from benchmarks.door import Door, UnexpectedAnswerError, UnreachableError
from benchmarks.process import Child, StartError, answers, free_port
from benchmarks.usage import Watched, arguments, descendants
from benchmarks.workloads import Workload
from dbnode.wire import Endpoint, ServerFile

#: How long a cluster may take to serve: some seconds per server on a small machine.
_START_SECONDS = 120.0
_POLL_SECONDS = 0.05
#: How long servers that outlived their balancer get between SIGTERM and SIGKILL.
_LEFTOVER_SECONDS = 10.0
#: What a server writes into its data directory once it listens.
_SERVER_FILE = "endpoints.json"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A database server as its own file describes it."""

    name: str
    data_dir: Path
    pid: int
    started_at: int
    http: Endpoint

    @property
    def alive(self) -> bool:
        """Return whether this very process runs; another one under a reused pid is not it."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        state, *fields = stat.rpartition(")")[2].split()
        return state != "Z" and int(fields[18]) == self.started_at

    def signal(self, number: int) -> None:
        """Send it a signal if it runs."""
        if self.alive:
            with suppress(ProcessLookupError):  # it may end just now
                os.kill(self.pid, number)

    def wipe(self) -> None:
        """Remove its data directory; a PostgreSQL of its own may still be ending there, and make and remove files."""
        gone = self.data_dir.parent.with_name(f"{self.data_dir.name}-{self.pid}-wiped")
        self.data_dir.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


class Cluster:
    """A balancer at `door` and its servers, all in `directory`. `stop` ends every one of them.

    `arguments` are further ones of `twistd shardlb`.
    """

    def __init__(self, reactor: Any, directory: Path, arguments: Sequence[str] = ()) -> None:
        self._reactor = reactor
        self._directory = directory
        port = free_port()
        self.door = Door(reactor, "127.0.0.1", port)
        self._balancer = self._child(
            "balancer.log",
            "shardlb",
            "--port",
            f"tcp:{port}:interface=127.0.0.1",
            "--data-dir",
            str(directory / "data"),
            *arguments,
        )
        self._restarted: list[Child] = []

    async def start(self, workload: Workload) -> None:
        """Start everything and make the workload's table; returns once every shard serves. Raises StartError."""
        self._balancer.start()
        await self._balancer.until(lambda: answers(self.door, "GET", "/healthz"), _START_SECONDS)
        try:
            await self.door.json("POST", "/init", workload.init_request(), deadline_seconds=_START_SECONDS)
            if (growth := workload.add_request()) is not None:
                await self.door.json("POST", "/add", growth, deadline_seconds=_START_SECONDS)
        except (UnexpectedAnswerError, UnreachableError) as reason:
            raise StartError(f"{reason}; {self._balancer.end_of_log()}") from reason
        await self._balancer.until(lambda: answers(self.door, "GET", "/readyz"), _START_SECONDS)

    async def stop(self) -> None:
        """Stop the balancer, which stops its servers, and whatever is left of them."""
        await self._balancer.stop()
        for child in self._restarted:
            await child.stop()
        waited = 0.0
        for server in self.servers():
            server.signal(signal.SIGTERM)
        while any(server.alive for server in self.servers()) and waited < _LEFTOVER_SECONDS:
            await deferLater(self._reactor, _POLL_SECONDS)
            waited += _POLL_SECONDS
        for server in self.servers():
            server.signal(signal.SIGKILL)

    def servers(self) -> list[ServerProcess]:
        """Return the servers that have a data directory, running or not."""
        return list(servers_below(self._directory))

    def processes(self) -> list[Watched]:
        """Return the balancer, its workers and the servers, with what each of them started."""
        servers = {server.pid: server.name for server in self.servers() if server.alive}
        found = [Watched(name, "servers", child) for pid, name in servers.items() for child in descendants(pid)]
        taken = {watched.pid for watched in found}
        others = [pid for pid in descendants(self._balancer.pid) if pid not in taken]
        # A server that has just been started has not said yet that it is there.
        new = [pid for pid in others if "dbnode" in arguments(pid)]
        return [
            *(Watched("balancer", "balancer", pid) for pid in others if pid not in new),
            *(Watched("new server", "servers", pid) for pid in new),
            *found,
        ]

    def kill(self, name: str) -> None:
        """End a server without warning, as `kill -9` does."""
        self._server(name).signal(signal.SIGKILL)

    def kill_balancer(self) -> None:
        """End the balancer without warning; its servers stay."""
        self._balancer.kill()

    async def start_balancer(self) -> None:
        """Start the balancer again after it was killed; returns once it answers. Raises StartError."""
        await self._balancer.stop()
        self._balancer.start()
        await self._balancer.until(lambda: answers(self.door, "GET", "/healthz"), _START_SECONDS)

    def restart(self, name: str) -> list[str]:
        """Start a killed server, unless the balancer has done so; return the command that does it by hand."""
        server = self._server(name)
        child = self._child(f"{name}.log", "dbnode", f"--data-dir={server.data_dir}")
        if not server.alive:
            child.start()
            self._restarted.append(child)
        return child.command

    def _child(self, log: str, *arguments: str) -> Child:
        twistd = str(Path(sys.executable).with_name("twistd"))
        return Child(self._reactor, [twistd, "--nodaemon", "--pidfile=", *arguments], self._directory / log)

    def _server(self, name: str) -> ServerProcess:
        for server in self.servers():
            if server.name == name:
                return server
        raise StartError(f"no server {name} in {self._directory}")


def servers_below(directory: Path) -> Iterator[ServerProcess]:
    """Yield the servers whose data directories lie below a directory.

    What a data directory holds is not looked at: the storage makes and removes directories there all the time.
    """
    for place, directories, files in os.walk(directory):  # passes over what is removed while it looks
        directories.sort()
        if _SERVER_FILE not in files:
            continue
        directories.clear()
        home = Path(place)
        with suppress(FileNotFoundError):  # it may be removed just now
            described = msgspec.json.decode((home / _SERVER_FILE).read_bytes(), type=ServerFile)
            yield ServerProcess(described.name, home, described.pid, described.started_at, described.http)
