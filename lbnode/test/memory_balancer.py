"""A balancer in memory: the real endpoints and the real router, over shards in memory and a controller in memory."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.internet.task import Clock

from dbnode.errors import ApiError
from dbnode.jsonhttp import JsonSite, Limits
from dbnode.wire import Endpoint, ReplicaStatus
from lbnode.app import BalancerApp
from lbnode.catalog import (
    BeginInit,
    BeginResize,
    Catalog,
    CommitOperation,
    FinishOperation,
    ForgetReplicas,
    FoundCluster,
    Preparing,
    RecordServer,
    ReplicasJoined,
)
from lbnode.catalog_changes import apply
from lbnode.cluster import ClusterRequests
from lbnode.growth import plan_add, plan_remove
from lbnode.hot import DataRequests
from lbnode.metrics import Metrics
from lbnode.planner import is_same, plan_init
from lbnode.projection import layout_of
from lbnode.router import Router, RouterOptions
from lbnode.state import ClusterState, describe
from lbnode.table import Table
from lbnode.test.shards import MemoryShards, router_over
from lbnode.wire import AddRequest, InitLimits, InitRequest, RemoveRequest


class MemoryController:
    """A Controller whose servers are there once they are named; each shard is led by the first of its servers."""

    def __init__(self, shards: MemoryShards, router: Router) -> None:
        self._shards = shards
        self._router = router
        self._catalog = apply(Catalog(), FoundCluster("cluster"))
        self._rng = random.Random(1)

    async def init(self, request: InitRequest) -> None:
        """Make the table, as far as there is one in memory."""
        table = self._catalog.table
        if table is not None and not request.replace:
            if is_same(request, table):
                return
            raise ApiError("already_initialised", 'there is another table; "replace": true drops it', status=409)
        self._router.configure(None)
        self._shards.set_schema(request.schema)
        self._carry_out(plan_init(request))

    async def add(self, request: AddRequest) -> tuple[int, Sequence[str]]:
        """Add servers and shards."""
        begin = plan_add(request, self._table(), self._rng, InitLimits())
        self._carry_out(begin)
        return len(self._table().servers), begin.change.coming

    async def remove(self, request: RemoveRequest) -> tuple[int, Sequence[str]]:
        """Remove servers."""
        begin = plan_remove(request, self._table(), self._rng)
        self._carry_out(begin)
        table = self._catalog.table
        return len(table.servers) if table is not None else 0, begin.change.going

    async def state(self) -> ClusterState:
        """Return what was made, with every replica serving."""
        statuses: dict[str, list[ReplicaStatus]] = {}
        for shard in self._catalog.table.shards if self._catalog.table else ():
            leader_id = min(shard.replicas)
            for id_, server in shard.replicas.items():
                role = "leader" if id_ == leader_id else "follower"
                status = ReplicaStatus(shard.group_id, id_, role, 1, leader_id, "", 1, 1, 1, 0)
                statuses.setdefault(server, []).append(status)
        return describe(self._catalog, {}, statuses, {})

    def _table(self) -> Table:
        assert self._catalog.table is not None
        return self._catalog.table

    def _carry_out(self, begin: BeginInit | BeginResize) -> None:
        """Do at once what takes real servers a while."""
        catalog = apply(self._catalog, begin)
        for home, server in catalog.servers().items():
            catalog = apply(catalog, RecordServer(home, home, Endpoint(server.name, 1), Endpoint(server.name, 2)))
        assert catalog.operation is not None
        operation_id = catalog.operation.operation_id
        if isinstance(catalog.operation, Preparing):
            catalog = apply(catalog, CommitOperation(operation_id))
        for shard in catalog.table.shards if catalog.table else ():
            catalog = apply(catalog, ReplicasJoined(shard.group_id, shard.joining))
            catalog = apply(catalog, ForgetReplicas(shard.group_id, tuple(shard.leaving)))
        self._catalog = apply(catalog, FinishOperation(operation_id))
        self._router.configure(layout_of(self._catalog))


class MemoryBalancer:
    """Everything that stands behind the door, wired as the real process wires it."""

    def __init__(self, options: RouterOptions | None = None, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.shards = MemoryShards(self.clock)
        self.router = router_over(self.shards, options)
        self.controller = MemoryController(self.shards, self.router)
        self.app = BalancerApp(
            self.router,
            DataRequests(self.router, rows_max=100_000),
            ClusterRequests(self.controller, self.router, InitLimits()),
            Metrics(self.clock.seconds, {("shardlb_reads_waiting", "Reads without an answer."): self._reads_waiting}),
        )
        self._limits = limits or Limits()

    def _reads_waiting(self) -> float:
        return self.router.reads_waiting

    def site(self, *, lean: bool) -> JsonSite:
        """Return the site, with the hot endpoints in the lean lane or behind Klein."""
        app = self.app
        return JsonSite(self.clock, app.app.resource(), self._limits, app.direct if lean else None, app.uploads)
