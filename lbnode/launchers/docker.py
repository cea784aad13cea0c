"""Servers as containers of a Docker engine: one container and one named volume each, on a private network.

Everything that asks the engine runs in threads of this launcher's own, with deadlines. While the engine does not
answer, servers that were seen running are taken to run on, as they do when only the engine is restarted: whether they
serve is for their heartbeats to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from dbnode.client.control import ControlFailed
from dbnode.wire import Endpoint, ServerFile
from lbnode.launchers import LaunchFailed, LaunchTimes, ServerSpec
from lbnode.launchers.docker_client import ENGINE_SECONDS, EngineUnreachable
from lbnode.launchers.docker_containers import Containers
from lbnode.launchers.docker_exits import ContainerExits
from lbnode.launchers.docker_names import home_name

T = TypeVar("T")

#: Requests to the engine at once.
THREADS_MAX = 8
#: How often a container that starts is looked at.
_POLL_SECONDS = 0.1


class DockerLauncher:
    """Launcher of containers. `heartbeat` asks a server whether it serves, within some seconds.

    `now_seconds` is the time of day, by which the engine tells its events. `open` makes it ready and `close` ends its
    threads; what runs stays.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        containers: Containers,
        cluster_id: str,
        heartbeat: Callable[[Endpoint, float], Awaitable[None]],
        now_seconds: Callable[[], float],
        times: LaunchTimes,
    ) -> None:
        self._reactor = reactor
        self._containers = containers
        self._cluster_id = cluster_id
        self._heartbeat = heartbeat
        self._now_seconds = now_seconds
        self._times = times
        self._threads = ThreadPool(0, THREADS_MAX, "docker")
        self._ended: Callable[[str], None] = lambda home: None
        self._exits = ContainerExits(containers.deaths, lambda home: reactor.callFromThread(lambda: self._ended(home)))
        #: What ran when the engine was last asked, by home.
        self._last: dict[str, ServerFile] = {}
        self._is_answered = True

    def open(self) -> Deferred[None]:
        """See Launcher.open."""
        return Deferred.fromCoroutine(self._open())

    def close(self) -> Deferred[None]:
        """See Launcher.close."""
        return Deferred.fromCoroutine(self._close())

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """See Launcher.start."""
        return Deferred.fromCoroutine(self._start(spec))

    def look(self, home: str) -> Deferred[ServerFile | None]:
        """See Launcher.look."""
        return Deferred.fromCoroutine(self._look(home))

    def on_exit(self, ended: Callable[[str], None]) -> None:
        """See Launcher.on_exit."""
        self._ended = ended

    def stop(self, home: str) -> Deferred[None]:
        """See Launcher.stop."""
        return Deferred.fromCoroutine(self._stop(home))

    def destroy(self, home: str) -> Deferred[None]:
        """See Launcher.destroy."""
        return Deferred.fromCoroutine(self._destroy(home))

    # ---- the engine -------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._threads.start()
        await self._in_thread(self._containers.open)
        now_seconds = int(self._now_seconds())
        await self._in_thread(lambda: self._exits.start(now_seconds))

    async def _close(self) -> None:
        if self._threads.started:
            await self._in_thread(self._exits.stop)
            self._threads.stop()
        self._containers.close()

    async def _in_thread(self, work: Callable[[], T], more_seconds: float = 0.0) -> T:
        """Return what blocking work gives; it may take `more_seconds` longer than the engine's usual time."""
        deadline_seconds = 2 * ENGINE_SECONDS + more_seconds
        working = deferToThreadPool(self._reactor, self._threads, work)
        try:
            result: T = await working.addTimeout(deadline_seconds, self._reactor, _too_late)
        except EngineUnreachable as error:
            if self._is_answered:
                self._log.warn("{error}", error=error)
            self._is_answered = False
            raise
        if not self._is_answered:
            self._log.info("the Docker engine answers again")
        self._is_answered = True
        return result

    # ---- looking ----------------------------------------------------------------------------------------------

    async def _look(self, home: str) -> ServerFile | None:
        try:
            file = await self._in_thread(lambda: self._containers.find(home))
        except EngineUnreachable:
            if home not in self._last:
                raise
            return self._last[home]
        if file is None:
            self._last.pop(home, None)
            return None
        return self._seen(home, file)

    def _seen(self, home: str, file: ServerFile) -> ServerFile:
        """Take note of what runs; one that is cut off from the network is where it was."""
        if not file.http.host:
            before = self._last.get(home)
            host = before.http.host if before is not None else home_name(self._cluster_id, home)
            http, link = (Endpoint(host, port.port) for port in (file.http, file.link) if port is not None)
            file = msgspec.structs.replace(file, http=http, link=link)
        self._last[home] = file
        return file

    # ---- starting ---------------------------------------------------------------------------------------------

    async def _start(self, spec: ServerSpec) -> ServerFile:
        deadline = self._reactor.seconds() + self._times.start_seconds
        was_running = await self._in_thread(lambda: self._containers.runs(spec.home))
        await self._in_thread(lambda: self._containers.start(spec))
        if was_running:
            return await self._until_it_answers(spec, deadline)
        self._log.info("started {name} in {container}", name=spec.name, container=self._name(spec.home))
        try:
            return await self._until_it_answers(spec, deadline)
        except LaunchFailed:
            await self._stop(spec.home)
            raise

    async def _until_it_answers(self, spec: ServerSpec, deadline: float) -> ServerFile:
        while self._reactor.seconds() < deadline:
            file = await self._look(spec.home)
            if file is not None and await self._answers(file, deadline):
                return file
            if file is None and not await self._in_thread(lambda: self._containers.runs(spec.home)):
                raise LaunchFailed(f"{spec.name} did not start: its container ended\n{await self._log_end(spec)}")
            await deferLater(self._reactor, _POLL_SECONDS)
        raise LaunchFailed(
            f"{spec.name} did not answer within {self._times.start_seconds:g} s of its start\n"
            f"{await self._log_end(spec)}"
        )

    async def _log_end(self, spec: ServerSpec) -> str:
        return await self._in_thread(lambda: self._containers.log_end(spec.home))

    async def _answers(self, server: ServerFile, deadline: float) -> bool:
        try:
            await self._heartbeat(server.http, max(0.0, deadline - self._reactor.seconds()))
        except ControlFailed as error:
            self._log.debug("{name} does not answer yet: {error}", name=server.name, error=error)
            return False
        return True

    # ---- ending -----------------------------------------------------------------------------------------------

    async def _stop(self, home: str) -> None:
        await self._in_patience(lambda seconds: self._containers.stop(home, seconds))
        self._last.pop(home, None)

    async def _destroy(self, home: str) -> None:
        await self._in_patience(lambda seconds: self._containers.destroy(home, seconds))
        self._last.pop(home, None)
        self._log.info("removed {container} and its volume", container=self._name(home))

    async def _in_patience(self, end: Callable[[int], None]) -> None:
        seconds = max(1, round(self._times.stop_seconds))
        await self._in_thread(lambda: end(seconds), more_seconds=seconds)

    def _name(self, home: str) -> str:
        return home_name(self._cluster_id, home)


def _too_late(result: object, seconds: float) -> NoReturn:
    raise EngineUnreachable(f"the Docker engine did not answer within {seconds:g} seconds")
