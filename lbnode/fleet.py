"""The servers as they are: made to run, told their part of the catalog, looked at again and again.

Everything here may be repeated. Where a server's process is, and what it was told, is found out anew after a restart
of the balancer; only its home, incarnation and addresses are in the catalog. A server whose home holds other data
than the catalog says is never told anything: it would vote as a replica that it is not (RAFT_RULES 32).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from enum import Enum
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dbnode.client.control import ControlFailed
from dbnode.wire import ManagedConfig, ServerFile
from lbnode.catalog import RecordServer
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import together
from lbnode.control import ServerControl
from lbnode.launchers import Launcher, LaunchFailed, ServerSpec
from lbnode.projection import config_of, essence_of, schema_of
from lbnode.state import ServerState
from lbnode.table import ServerRecord, Table


class FleetTimes(msgspec.Struct, frozen=True):
    """How long a server may take to answer, and how many heartbeats it may miss until it counts as down."""

    heartbeat_seconds: float = 2.0
    configure_seconds: float = 30.0
    heartbeats_missed_max: int = 3
    #: Servers started at once; each takes a processor for about a second.
    starts_at_once_max: int = 4


class Sight(Enum):
    """What looking at a server found: its process, none, or one with other data than the catalog says."""

    THERE = "there"
    GONE = "gone"
    FOREIGN = "foreign"


class _Seen(msgspec.Struct):
    """What is known of one server by looking."""

    name: str
    since_seconds: float
    state: str = "starting"
    reason: str = ""
    file: ServerFile | None = None
    heartbeats_missed: int = 0
    #: When the first of the heartbeats missed was sent.
    silent_since_seconds: float = 0.0
    #: What this process was told, without its version and with the essence of the catalog; None if it has to be told.
    told: ManagedConfig | None = None


class Fleet:
    """The servers of the catalog, through a launcher and their control plane."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        launcher: Launcher,
        control: ServerControl,
        catalog: CatalogGroup,
        times: FleetTimes,
    ) -> None:
        self._clock = clock
        self._launcher = launcher
        self._control = control
        self._catalog = catalog
        self._times = times
        self._starting = DeferredSemaphore(times.starts_at_once_max)
        self._seen: dict[str, _Seen] = {}

    def forget(self) -> None:
        """Know nothing of any server: somebody else looks after them, and may do what is not seen here."""
        self._seen.clear()

    def states(self) -> dict[str, ServerState]:
        """Return how each server was last seen, by home."""
        now_seconds = self._clock.seconds()
        return {home: _state(home, seen, now_seconds) for home, seen in self._seen.items()}

    # ---- running ----------------------------------------------------------------------------------------------

    async def start(self, servers: Iterable[ServerRecord]) -> dict[str, str]:
        """Make servers run and record where they are; return why, by name, for those that do not."""
        return await _collect(servers, self._start)

    async def _start(self, server: ServerRecord) -> str:
        try:
            await self.start_one(server)
        except LaunchFailed as failed:
            return str(failed)
        return ""

    async def start_one(self, server: ServerRecord) -> None:
        """Make a server run and record where it is. Raises LaunchFailed, LostHome among them."""
        self.note(server, "starting")
        spec = ServerSpec(server.name, server.home, self._catalog.catalog.cluster_id, server.incarnation)
        try:
            file = await self._starting.run(self._launcher.start, spec)
            await self._found(server, file)
        except LaunchFailed as failed:
            self.note(server, "down", str(failed))
            raise
        except Exception as error:
            self.note(server, "down", f"starting it was given up: {error!r}")
            raise
        self.note(server, "up")

    async def stop(self, servers: Iterable[ServerRecord]) -> dict[str, str]:
        """Stop servers; return why, by name, for those that do not."""
        return await _collect(servers, lambda server: self._end(server, self._launcher.stop))

    async def destroy(self, servers: Iterable[ServerRecord]) -> dict[str, str]:
        """Stop servers and remove their data; return why, by name, where that failed."""
        return await _collect(servers, lambda server: self._end(server, self._launcher.destroy))

    async def _end(self, server: ServerRecord, end: Callable[[str], Deferred[None]]) -> str:
        try:
            await end(server.home)
        except LaunchFailed as failed:
            return str(failed)
        self._seen.pop(server.home, None)
        return ""

    # ---- looking ----------------------------------------------------------------------------------------------

    async def look(self, server: ServerRecord) -> Sight:
        """Find out whether a server runs, was restarted or moved, and whether it answers."""
        file = await self._launcher.look(server.home)
        if file is None:
            if self._seen_of(server).state == "up":
                self.note(server, "down", "its process ended")
            return Sight.GONE
        if server.incarnation and file.incarnation != server.incarnation:
            self.note(server, "failed", f"it holds other data (incarnation {file.incarnation}) than it should")
            return Sight.FOREIGN
        await self._found(server, file)
        await self._heartbeat(server, file)
        return Sight.THERE

    def silent_seconds(self, home: str) -> float:
        """Return for how long a server has missed its heartbeats."""
        seen = self._seen[home]
        return self._clock.seconds() - seen.silent_since_seconds if seen.heartbeats_missed else 0.0

    async def _heartbeat(self, server: ServerRecord, file: ServerFile) -> None:
        seen, sent_seconds = self._seen[server.home], self._clock.seconds()
        try:
            await self._control.heartbeat(file.http, self._times.heartbeat_seconds)
        except ControlFailed as failed:
            if not seen.heartbeats_missed:
                seen.silent_since_seconds = sent_seconds
            seen.heartbeats_missed += 1
            if seen.heartbeats_missed >= self._times.heartbeats_missed_max:
                self.note(server, "down", f"heartbeats missed: {failed.text}")
            return
        seen.heartbeats_missed = 0
        self.note(server, "up")

    async def _found(self, server: ServerRecord, file: ServerFile) -> None:
        """Take note of a running process, and in the catalog of what is new about it."""
        seen = self._seen_of(server)
        if seen.file is None or (seen.file.pid, seen.file.started_at) != (file.pid, file.started_at):
            seen.told, seen.heartbeats_missed = None, 0
        seen.file = file
        if file.link is None:
            raise AssertionError(f"{file.name} was started for a cluster and takes no links")
        record = RecordServer(server.home, file.incarnation, file.http, file.link)
        if (server.incarnation, server.http, server.link) != (record.incarnation, record.http, record.link):
            await self._catalog.propose(record)

    def _seen_of(self, server: ServerRecord) -> _Seen:
        if server.home not in self._seen:
            self._seen[server.home] = _Seen(server.name, self._clock.seconds())
        return self._seen[server.home]

    def note(self, server: ServerRecord, state: str, reason: str = "") -> None:
        """Take note of a server's state, and of the reason unless it is well."""
        seen = self._seen_of(server)
        if state in ("starting", "down") and seen.state == "failed":
            state = "failed"  # until it is well again, whatever is tried
        if state in ("down", "failed") and reason not in ("", seen.reason):
            self._log.warn("{name} is {state}: {reason}", name=server.name, state=state, reason=reason)
        if reason:
            seen.reason = reason
        if seen.state == state:
            return
        seen.state, seen.since_seconds = state, self._clock.seconds()
        if state == "up":
            seen.reason = ""

    # ---- telling ----------------------------------------------------------------------------------------------

    async def tell(self, table: Table) -> dict[str, str]:
        """Tell each running server of a table its part unless it knows; return why, by name, where that failed."""
        return await _collect(table.servers.values(), lambda server: self._tell(table, server))

    async def tell_one(self, server: ServerRecord) -> None:
        """Tell a running server its part of what the catalog says is hosted, unless it knows."""
        table = self._catalog.catalog.hosted
        if table is not None and table.servers.get(server.name) == server:
            await self._tell(table, server)

    async def _tell(self, table: Table, server: ServerRecord) -> str:
        seen = self._seen.get(server.home)
        if seen is None or seen.file is None or seen.state not in ("starting", "up"):
            return f"{server.name} does not run"
        config = config_of(self._catalog.catalog, table, server)
        content = msgspec.structs.replace(config, version=0, catalog=essence_of(self._catalog.catalog))
        if seen.told == content:
            return ""
        try:
            await self._control.configure(
                seen.file.http, schema_of(table).to_json(), config, self._times.configure_seconds
            )
        except ControlFailed as failed:
            reason = f"it was not configured: {failed.text}"
            if seen.reason != reason:
                self._log.warn("{name}: {reason}", name=server.name, reason=reason)
            seen.reason = reason
            return failed.text
        seen.told, seen.reason = content, ""
        return ""


async def _collect(
    servers: Iterable[ServerRecord], act: Callable[[ServerRecord], Coroutine[Deferred[Any], Any, str]]
) -> dict[str, str]:
    """Act on all servers at once; return what went wrong, by name."""
    wanted = list(servers)
    outcomes = await together(act(server) for server in wanted)
    return {server.name: outcome for server, outcome in zip(wanted, outcomes, strict=True) if outcome}


def _state(home: str, seen: _Seen, now_seconds: float) -> ServerState:
    file = seen.file
    return ServerState(
        name=seen.name,
        state=seen.state,
        for_seconds=now_seconds - seen.since_seconds,
        reason=seen.reason,
        home=home,
        incarnation=file.incarnation if file else "",
        pid=file.pid if file else None,
        http=file.http if file else None,
        link=file.link if file else None,
    )
