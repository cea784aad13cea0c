"""Servers in this process: real DatabaseServers over links, logs and stores in memory, under the caller's clock.

For tests of what stands on servers. What a server's death leaves is a home in memory, on which it can be started
again; `kill` loses what a real one would lose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.client.control import ControlFailed
from dbnode.datadir import ServerIdentity, StoredConfig
from dbnode.errors import ApiError
from dbnode.memory import MemoryStore
from dbnode.schema import Schema, schema_from_json
from dbnode.server import DatabaseServer
from dbnode.wire import Endpoint, ManagedConfig, ReplicaStatus, ServerFile
from lbnode.launchers import LaunchFailed, LostHome, ServerSpec
from lbnode.leaders import Handover
from lbnode.membership import Change
from raftlog.confchange import ConfChangeError
from raftlog.link import Endpoint as LinkEndpoint
from raftlog.link import Identity, Lane
from raftlog.link.interface import LaneChange, PeerEnd
from raftlog.link.memory import MemoryLinks, MemoryNetwork
from raftlog.wal import MemoryWal, RecoveredGroup, Stats


class _Home:
    """What is left of a server that does not run."""

    def __init__(self, identity: ServerIdentity) -> None:
        self.identity = identity
        self.wal = MemoryWal(auto=True)
        self.recovered: dict[int, RecoveredGroup] = {}
        self.stores: dict[int, MemoryStore] = {}
        self.config: StoredConfig | None = None

    def store(self, group_id: int, replica_id: int, schema: Schema) -> MemoryStore:
        """Return the store of a group's replica, the same one each time."""
        return self.stores.setdefault(group_id, MemoryStore(schema))

    def read_config(self) -> StoredConfig | None:
        """Return what was kept last."""
        return self.config

    def write_config(self, config: StoredConfig) -> None:
        """Keep a configuration."""
        self.config = config

    def crash(self) -> None:
        """Lose what was not durable."""
        self.wal, self.recovered = self.wal.crash()
        for store in self.stores.values():
            store.crash()


class MemoryLauncher:
    """Launcher of servers in this process. `fatal` hears of what would have ended a server's process."""

    def __init__(self, clock: IReactorTime, rng: random.Random, fatal: Callable[[Failure], None]) -> None:
        self._clock = clock
        self._rng = rng
        self._fatal = fatal
        #: Where the servers hear each other, each under its home's name.
        self.network = MemoryNetwork(clock)
        #: Who was ever started at a link address.
        self._at_link: dict[Endpoint, str] = {}
        self._homes: dict[str, _Home] = {}
        self._running: dict[str, tuple[ServerFile, DatabaseServer]] = {}
        self._numbers = count(1)
        self._listeners: list[Callable[[str], None]] = []
        #: Names of servers that shall not start.
        self.refused: set[str] = set()

    # ---- Launcher ---------------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        """See Launcher.open."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See Launcher.close."""
        return succeed(None)

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """See Launcher.start."""
        return Deferred.fromCoroutine(self._start(spec))

    async def _start(self, spec: ServerSpec) -> ServerFile:
        home = self._homes.get(spec.home)
        if spec.incarnation and (home is None or home.identity.incarnation != spec.incarnation):
            raise LostHome(f"{spec.home} does not hold the data of {spec.name} (incarnation {spec.incarnation})")
        if spec.home in self._running:
            return self._running[spec.home][0]
        if spec.name in self.refused:
            raise LaunchFailed(f"{spec.name} is refused")
        if home is None:
            incarnation = f"incarnation-{next(self._numbers)}"
            home = self._homes[spec.home] = _Home(ServerIdentity(spec.name, incarnation, spec.cluster_id))
        server = self._server(spec.home, home)
        file = self._file(home.identity)
        self._running[spec.home] = (file, server)
        self._at_link[_link(file)] = spec.home
        await server.start()
        return file

    def look(self, home: str) -> Deferred[ServerFile | None]:
        """See Launcher.look."""
        running = self._running.get(home)
        return succeed(running[0] if running else None)

    def stop(self, home: str) -> Deferred[None]:
        """See Launcher.stop."""
        return Deferred.fromCoroutine(self._stop(home))

    async def _stop(self, home: str) -> None:
        running = self._running.pop(home, None)
        if running is not None:
            await running[1].stop()
            await running[1].close()
            self._homes[home].crash()
            self._clock.callLater(0, self._tell_ended, home)

    def on_exit(self, ended: Callable[[str], None]) -> None:
        """See Launcher.on_exit."""
        self._listeners.append(ended)

    def _tell_ended(self, home: str) -> None:
        for ended in self._listeners:
            ended(home)

    def destroy(self, home: str) -> Deferred[None]:
        """See Launcher.destroy."""
        return Deferred.fromCoroutine(self._destroy(home))

    async def _destroy(self, home: str) -> None:
        await self._stop(home)
        self._homes.pop(home, None)

    # ---- for tests --------------------------------------------------------------------------------------------

    @property
    def homes(self) -> set[str]:
        """The homes that hold data."""
        return set(self._homes)

    @property
    def running(self) -> dict[str, DatabaseServer]:
        """The servers that run, by home."""
        return {home: server for home, (_, server) in self._running.items()}

    def kill(self, home: str) -> None:
        """End a server as kill -9 does."""
        _, server = self._running.pop(home)
        server.direct.stop()
        server.requests.stop()
        server.node.stopService()
        if server.links is not None:
            server.links.stopService()
        self._homes[home].crash()
        self._clock.callLater(0, self._tell_ended, home)

    def wipe(self, home: str) -> None:
        """Lose the data of a server that does not run."""
        del self._homes[home]

    def lose_log(self, home: str) -> None:
        """Lose the log of a server that does not run, and nothing else."""
        self._homes[home].wal = MemoryWal(auto=True)
        self._homes[home].recovered = {}

    # ---- as servers are reached -------------------------------------------------------------------------------

    def at(self, http: Endpoint) -> DatabaseServer | None:
        """Return the server that listens at an address."""
        return next((server for file, server in self._running.values() if file.http == http), None)

    def at_link(self, link: Endpoint) -> DatabaseServer | None:
        """Return the server that takes links at an address."""
        return next((server for file, server in self._running.values() if file.link == link), None)

    def home_at(self, link: LinkEndpoint) -> str:
        """Return the home of the server that took links at an address last."""
        return self._at_link[Endpoint(link.host, link.port)]

    # ---- building ---------------------------------------------------------------------------------------------

    def _server(self, name: str, home: _Home) -> DatabaseServer:
        identity = home.identity
        linked_as = Identity(identity.cluster_id, "server", name, identity.incarnation)
        return DatabaseServer(
            self._clock,
            random.Random(self._rng.getrandbits(64)),
            identity,
            wal=home.wal,
            recovered=home.recovered,
            tombstones=home.wal.tombstones,
            wal_stats=Stats(),
            links_of=lambda receive: HomeLinks(MemoryLinks(self.network, linked_as, receive), self.home_at),
            stores=home.store,
            config_file=home,
            fatal=self._fatal,
            client_name=f"{identity.name}-{next(self._numbers)}",
            server_id=identity.name,
        )

    def _file(self, identity: ServerIdentity) -> ServerFile:
        number = next(self._numbers)
        return ServerFile(
            name=identity.name,
            incarnation=identity.incarnation,
            cluster_id=identity.cluster_id,
            pid=number,
            started_at=number,
            http=Endpoint("http.memory", number),
            link=Endpoint("link.memory", number),
        )


class HomeLinks:
    """Links that dial by address, as real ones do: the server behind a name is told by where it listens."""

    def __init__(self, links: MemoryLinks, home_at: Callable[[LinkEndpoint], str]) -> None:
        self._links = links
        self._home_at = home_at
        self._homes: dict[str, str] = {}

    def set_peer(self, name: str, endpoint: LinkEndpoint) -> None:
        """See PeerLinks.set_peer."""
        home = self._home_at(endpoint)
        if self._homes.get(name) != home:
            self.remove_peer(name)
        self._homes[name] = home
        self._links.set_peer(home, endpoint)

    def remove_peer(self, name: str) -> None:
        """See PeerLinks.remove_peer."""
        self._links.remove_peer(self._homes.pop(name, ""))

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """See PeerLinks.send."""
        return self._links.send(self._homes.get(name, ""), lane, item)

    def connected(self, name: str, lane: Lane) -> bool:
        """See PeerLinks.connected."""
        return self._links.connected(self._homes.get(name, ""), lane)

    def watch(self, on_up: LaneChange, on_down: LaneChange, on_end: PeerEnd | None = None) -> None:
        """See PeerLinks.watch."""

        def names(home: str) -> list[str]:
            return [name for name, known in self._homes.items() if known == home]

        def named(change: LaneChange, home: str, lane: Lane) -> None:
            for name in names(home):
                change(name, lane)

        def ended(home: str) -> None:
            for name in names(home):
                if on_end is not None:
                    on_end(name)

        self._links.watch(partial(named, on_up), partial(named, on_down), ended)

    def startService(self) -> None:
        """Join the network."""
        self._links.startService()

    def stopService(self) -> Deferred[None]:
        """Leave the network."""
        return self._links.stopService()


def _link(file: ServerFile) -> Endpoint:
    assert file.link is not None
    return file.link


class MemoryControl:
    """ServerControl of a MemoryLauncher's servers, without HTTP."""

    def __init__(self, launcher: MemoryLauncher) -> None:
        self._launcher = launcher

    async def heartbeat(self, server: Endpoint, timeout_seconds: float) -> None:
        """See ServerControl.heartbeat."""
        self._find(server)

    async def configure(
        self, server: Endpoint, schema: dict[str, list[str]], cluster: ManagedConfig, timeout_seconds: float
    ) -> None:
        """See ServerControl.configure."""
        try:
            await self._find(server).host.configure(schema_from_json(msgspec.to_builtins(schema)), cluster)
        except ApiError as error:
            raise ControlFailed(error.code, error.text, error.status) from error

    def _find(self, server: Endpoint) -> DatabaseServer:
        found = self._launcher.at(server)
        if found is None:
            raise ControlFailed("unreachable", f"nobody listens at {server.host}:{server.port}")
        return found


class MemoryWatch:
    """ReplicaWatch of a MemoryLauncher's servers, without links."""

    def __init__(self, launcher: MemoryLauncher) -> None:
        self._launcher = launcher
        self._servers: dict[str, Endpoint] = {}

    def set_servers(self, servers: Mapping[str, Endpoint]) -> None:
        """See ReplicaWatch.set_servers."""
        self._servers = dict(servers)

    def ask(self, timeout_seconds: float) -> Deferred[dict[str, tuple[ReplicaStatus, ...]]]:
        """See ReplicaWatch.ask."""
        found = {name: self._launcher.at_link(link) for name, link in self._servers.items()}
        return succeed({name: _replicas(server) for name, server in found.items() if server})

    def hand_over(self, handover: Handover) -> Deferred[None]:
        """See ReplicaWatch.hand_over."""
        server = self._launcher.at_link(self._servers[handover.leader])
        if server is not None and server.serving.leads(handover.group_id):
            server.node.transfer_leader(handover.group_id, handover.replica_id)
        return succeed(None)

    def reconfigure(self, change: Change) -> Deferred[str]:
        """See ReplicaWatch.reconfigure."""
        server = self._launcher.at_link(self._servers[change.leader])
        if server is None:
            return succeed(f"{change.leader} does not answer")
        try:
            changed = server.node.propose_conf_change(change.group_id, change.change)
        except ConfChangeError as error:
            return succeed(str(error))
        return changed.addCallbacks(lambda _: "", lambda failure: str(failure.value))

    def close(self) -> Deferred[None]:
        """See ReplicaWatch.close."""
        return succeed(None)


def _replicas(server: DatabaseServer) -> tuple[ReplicaStatus, ...]:
    return (*server.serving.statuses(), *server.serving.lost_statuses())
