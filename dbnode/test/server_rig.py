"""Database servers over memory: links, logs and stores without sockets or disks, under one clock."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterable
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dbnode.client.signature import sign
from dbnode.datadir import ServerIdentity, StoredConfig
from dbnode.memory import MemoryStore
from dbnode.schema import Schema
from dbnode.server import DatabaseServer
from dbnode.test.web_rig import Client, Reply, Web
from dbnode.wire import Endpoint, GroupConfig, ManagedConfig, decode_items, encode_items
from raftlog.link import Identity, Receive
from raftlog.link.memory import MemoryLinks, MemoryNetwork
from raftlog.wal import MemoryWal, RecoveredGroup, Stats

CLUSTER = "c"
SECRET = b"the cluster's secret"
SCHEMA = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))
NAMES = ("Server0", "Server1", "Server2")


class Disk:
    """What a server keeps when its process dies: log, stores, configuration, identity."""

    def __init__(self, name: str, cluster_id: str) -> None:
        self.identity = ServerIdentity(name, f"incarnation-of-{name}", cluster_id)
        self.wal = MemoryWal(auto=True)
        self.recovered: dict[int, RecoveredGroup] = {}
        self.stores: dict[int, MemoryStore] = {}
        self.config: StoredConfig | None = None

    def read_config(self) -> StoredConfig | None:
        """Return what was kept last."""
        return self.config

    def write_config(self, config: StoredConfig) -> None:
        """Keep a configuration."""
        self.config = config

    def store(self, group_id: int, replica_id: int, schema: Schema) -> MemoryStore:
        """Return the store of a group's replica, the same one again after a restart."""
        return self.stores.setdefault(group_id, MemoryStore(schema))

    def crash(self) -> None:
        """Lose what was not synced; the store has lost nothing, as after a kill -9."""
        self.wal, self.recovered = self.wal.crash()

    def lose_log(self) -> None:
        """Forget the log, as if its directory had been removed."""
        self.wal, self.recovered = MemoryWal(auto=True), {}


class Server:
    """A running server on a Disk, with an HTTP client."""

    def __init__(self, rig: ServerRig, disk: Disk) -> None:
        self.rig = rig
        self.disk = disk
        self.failures: list[Failure] = []
        managed = bool(disk.identity.cluster_id)
        rig.started += 1
        self.database = DatabaseServer(
            rig.clock,
            Random(rig.started),
            disk.identity,
            wal=disk.wal,
            wal_stats=Stats(),
            recovered=disk.recovered,
            tombstones=disk.wal.tombstones,
            links_of=self._links if managed else None,
            stores=disk.store,
            config_file=disk,
            fatal=self.failures.append,
            client_name=f"{disk.identity.name}-{rig.started}",
            server_id=disk.identity.name,
            secret=SECRET if managed else None,
        )
        self.web = Web(self.database.app.app.resource(), clock=rig.clock)
        rig.wait(self.database.start())

    def _links(self, receive: Receive) -> MemoryLinks:
        own = self.disk.identity
        identity = Identity(own.cluster_id, "server", own.name, own.incarnation)
        return MemoryLinks(self.rig.network, identity, receive, encode=encode_items, decode=decode_items)

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Reply:
        """Make one HTTP request and wait for its answer."""
        client: Client = self.web.client()
        client.request(method, path, body, headers)
        self.rig.until(lambda: bool(client.wire.value()) or client.aborted)
        return Reply(client.received())

    def configure(self, cluster: ManagedConfig, schema: Schema = SCHEMA, secret: bytes = SECRET) -> Reply:
        """Tell the server what to hold, as its balancer would."""
        shards = [group.shard for group in cluster.groups]
        told = {"schema": schema.to_json(), "shards": shards, "cluster": _plain(cluster)}
        body = json.dumps(told).encode()
        return self.ask("POST", "/config", body, {"Authorization": sign(secret, "POST", "/config", body).decode()})

    def kill(self) -> None:
        """End the process without a word to anyone."""
        self.web.site.stopFactory()
        self.database.node.stopService()
        if self.database.links is not None:
            self.database.links.stopService()
        self.database.direct.stop()
        self.database.requests.stop()
        self.disk.crash()

    def role(self, group_id: int = 1) -> str:
        """Return the role of the replica here."""
        return self.database.node.status(group_id).role

    def rows(self, group_id: int = 1) -> list[Any]:
        """Return what the store here holds."""
        return self.disk.stores[group_id].scan(-(1 << 63), (1 << 63) - 1, 0, 0).rows


class ServerRig:
    """The clock and the network of some servers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.network = MemoryNetwork(self.clock)
        self.servers: dict[str, Server] = {}
        self.started = 0

    def start(self, name: str, cluster_id: str = CLUSTER, disk: Disk | None = None) -> Server:
        """Start a server, on the disk given or on an empty one."""
        self.servers[name] = Server(self, disk or Disk(name, cluster_id))
        return self.servers[name]

    def restart(self, name: str) -> Server:
        """Start a killed server again on what it left."""
        return self.start(name, disk=self.servers[name].disk)

    def run(self, seconds: float) -> None:
        """Let time pass, in steps of 5 ms."""
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)
            for _ in range(6):
                self.clock.advance(0)

    def until(self, done: Any, seconds: float = 20.0) -> None:
        """Let time pass until something is so."""
        for _ in range(round(seconds / 0.005)):
            if done():
                return
            self.run(0.005)
        raise AssertionError(f"not so after {seconds} seconds")

    def wait(self, work: Coroutine[Deferred[Any], Any, Any]) -> Any:
        """Let time pass until a coroutine is done; return its result."""
        results: list[Any] = []
        waiting = Deferred.fromCoroutine(work).addBoth(results.append)
        self.until(lambda: bool(results))
        if isinstance(results[0], Failure):
            results[0].raiseException()
        assert waiting.called
        return results[0]

    def leader(self, group_id: int = 1) -> Server:
        """Wait for a leader among the running servers and return it."""
        self.until(lambda: any(server.role(group_id) == "leader" for server in self.servers.values()))
        return next(server for server in self.servers.values() if server.role(group_id) == "leader")


def group_of_all(names: Iterable[str] = NAMES, group_id: int = 1, shard: str = "sh1") -> GroupConfig:
    """Return a group with one voter on each server; replica ids follow from group and place."""
    replicas = {group_id * 10 + place: name for place, name in enumerate(names)}
    return GroupConfig(group_id, shard, {str(id_): name for id_, name in replicas.items()}, list(replicas))


def managed(server: str, groups: list[GroupConfig], version: int = 1, incarnation: str = "") -> ManagedConfig:
    """Return what a balancer would tell a server."""
    return ManagedConfig(CLUSTER, version, server, groups, {name: Endpoint("memory", 1) for name in NAMES}, incarnation)


def three_servers(groups: list[GroupConfig] | None = None) -> ServerRig:
    """Return three configured servers that hold the groups, by default sh1 as group 1."""
    rig = ServerRig()
    for name in NAMES:
        rig.start(name)
    for name, server in rig.servers.items():
        reply = server.configure(managed(name, groups or [group_of_all()]))
        assert reply.status == 200, reply.body
    return rig


def row(id_: int, name: str = "x", marks: Any = 1) -> dict[str, Any]:
    """Return a row of the usual table."""
    return {"Stud_id": id_, "Stud_name": name, "Stud_marks": marks}


def _plain(cluster: ManagedConfig) -> Any:
    return msgspec.to_builtins(cluster)
