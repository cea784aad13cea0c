"""Servers as real processes on real disks, told what to hold as a balancer does, with a client of their links.

For tests that kill processes and for measurements; every server listens on ports of the loopback that the system
chose, and keeps them when it is started again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool

from dbnode.client import SessionOptions, ShardSession, Unanswered
from dbnode.client.control import Control
from dbnode.schema import Schema
from dbnode.testing.content import Content, contents_of
from dbnode.testing.link_client import LinkClient
from dbnode.testing.networks import Dial, Loopback, Network
from dbnode.testing.server_process import PATIENCE_SECONDS, TWISTD, ServerProcess
from dbnode.wire import (
    Endpoint,
    GroupConfig,
    ManagedConfig,
    ReplicaStatus,
    ServerFile,
    Status,
    Statuses,
)

SCHEMA = Schema(("id", "value"), ("Number", "String"))
_CLUSTER = "processes"
_SECRET = b"the secret of a test"
_LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.05
_STATUS_SECONDS = 2.0


class ProcessCluster:
    """Servers named in `names`, below `directory`; each of `group_ids` has a voter on every one of them.

    `program` is what each interpreter runs, see dbnode.testing.server_process; `network` is where they live, opened;
    `storages` are those of servers that shall not have the default.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        rng: random.Random,
        names: Sequence[str] = ("Server0", "Server1", "Server2"),
        group_ids: Sequence[int] = (1,),
        program: Sequence[str] = TWISTD,
        network: Network | None = None,
        storages: Mapping[str, str] | None = None,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self._rng = rng
        self.names = list(names)
        self.group_ids = list(group_ids)
        secret_file = directory / "secret"
        self._secret_file = secret_file
        self._network = network or Loopback()
        self._storages = storages or {}
        self.servers = {name: self._server(name, program) for name in names}
        self._endpoints: dict[str, ServerFile] = {}
        self._clients: list[LinkClient] = []
        own = self._new_client("client", None)
        self.requests, self.reads, self._own = own.requests, own.reads, own

    def _server(self, name: str, program: Sequence[str]) -> ServerProcess:
        network = self._network
        options = ["--name", name, "--cluster-id", _CLUSTER, "--secret-file", str(self._secret_file)]
        if name in self._storages:
            options += ["--storage", self._storages[name]]
        if network.interface(name) != _LOOPBACK:
            options += [f"--{what}=tcp:0:interface={network.interface(name)}" for what in ("http", "link")]
        return ServerProcess(self._reactor, self._directory / name, options, program, network.command(name))

    def _new_client(self, name: str, dial: Dial | None) -> LinkClient:
        client = LinkClient(self._reactor, self._rng, _CLUSTER, name, _SECRET, dial)
        self._clients.append(client)
        return client

    async def start(self) -> None:
        """Start every server, tell each what to hold, and wait until every group has a leader."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._secret_file.write_bytes(_SECRET)
        self._secret_file.chmod(0o600)
        for server in self.servers.values():
            server.start()
        for name, server in self.servers.items():
            self._endpoints[name] = await server.serving()
        await self._configure()
        self._own.start(self._links_of_servers())
        for group_id in self.group_ids:
            await self.leader(group_id)

    async def stop(self) -> None:
        """Stop the client, and every server in order."""
        await self._stop_clients()
        await gatherResults([Deferred.fromCoroutine(server.stop()) for server in self.servers.values()])

    async def kill_all(self) -> None:
        """Leave nothing behind, at whatever moment."""
        for server in self.servers.values():
            await server.kill()
        await self._stop_clients()

    async def _stop_clients(self) -> None:
        for client in self._clients:
            await client.stop()

    async def start_again(self, name: str) -> None:
        """Start a server that was killed; returns once it serves, on the ports it had."""
        self.servers[name].start()
        found = await self.servers[name].serving()
        assert (found.http, found.link) == (self._endpoints[name].http, self._endpoints[name].link), found

    async def _configure(self) -> None:
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        control = Control(self._reactor, HTTPClient(Agent(self._reactor, pool=pool)), _SECRET)
        groups = [self._group(group_id) for group_id in self.group_ids]
        for name, found in self._endpoints.items():
            links = await self._ways(name)
            told = ManagedConfig(_CLUSTER, 1, name, groups, links, found.incarnation)
            await control.configure(found.http, SCHEMA.to_json(), told, PATIENCE_SECONDS)

    def _links_of_servers(self) -> dict[str, Endpoint]:
        return {name: found.link for name, found in self._endpoints.items() if found.link is not None}

    async def _ways(self, source: str) -> dict[str, Endpoint]:
        """Return at which addresses a server or client reaches the servers."""
        listening = self._links_of_servers()
        return {name: await self._network.way(source, name, endpoint) for name, endpoint in listening.items()}

    def _group(self, group_id: int) -> GroupConfig:
        replicas = {_replica_id(group_id, place): name for place, name in enumerate(self.names)}
        return GroupConfig(
            group_id, f"sh{group_id}", {str(id_): name for id_, name in replicas.items()}, list(replicas)
        )

    # ---- what it is used for ----------------------------------------------------------------------------------

    def session(self, group_id: int, options: SessionOptions | None = None) -> ShardSession:
        """Return a new session of the cluster's own client."""
        return self._own.session(group_id, self.names, options)

    async def client(self, name: str) -> LinkClient:
        """Return a client that lives at that place of the network and dials the servers from there."""
        client = self._new_client(name, self._network.dial(name))
        client.start(await self._ways(name))
        return client

    async def status(self, name: str, group_id: int) -> ReplicaStatus | None:
        """Return what a server says of its replica, None if it does not answer."""
        try:
            reply = await self.requests.ask(name, Status, _STATUS_SECONDS)
        except Unanswered:
            return None
        assert isinstance(reply, Statuses), reply
        for status in (*reply.replicas, *reply.lost):
            if status.group_id == group_id:
                assert status.role != "lost", f"{name} lost its replica: {status.reason}"
                return status
        raise AssertionError(f"{name} has no replica of group {group_id}")

    async def leader(self, group_id: int) -> str:
        """Return the server that leads a group; waits for one."""
        deadline = self._reactor.seconds() + PATIENCE_SECONDS
        while self._reactor.seconds() < deadline:
            for name in self.names:
                status = await self.status(name, group_id)
                if status is not None and status.role == "leader":
                    return name
            await deferLater(self._reactor, _POLL_SECONDS)
        raise AssertionError(f"group {group_id} has no leader")

    async def agreed(self, group_id: int) -> ReplicaStatus:
        """Wait until all replicas of a group, which nobody writes to, have applied the same; return one's status."""
        deadline = self._reactor.seconds() + PATIENCE_SECONDS
        while True:
            statuses = [await self.status(name, group_id) for name in self.names]
            places = {(one.last_index, one.commit_index, one.applied_index) for one in statuses if one is not None}
            if statuses[0] is not None and None not in statuses and len(places) == 1 and len(set(*places)) == 1:
                return statuses[0]
            assert self._reactor.seconds() < deadline, f"replicas do not come to agree: {statuses}"
            await deferLater(self._reactor, _POLL_SECONDS)

    def endpoint(self, name: str) -> Endpoint:
        """Return where a server serves HTTP."""
        return self._endpoints[name].http

    async def contents(self, group_id: int) -> list[Content]:
        """Return what each replica of a group holds; the servers have stopped."""
        found = []
        for place, name in enumerate(self.names):
            replicas = {group_id: _replica_id(group_id, place)}
            found.append((await contents_of(self._reactor, self.servers[name].directory, replicas, SCHEMA))[group_id])
        return found


def _replica_id(group_id: int, place: int) -> int:
    return group_id * 10 + place
