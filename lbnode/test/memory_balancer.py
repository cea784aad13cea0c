"""A balancer in memory: the real endpoints and the real router, over shards in memory and a controller in memory."""

from __future__ import annotations

from twisted.internet.task import Clock

from dbnode.errors import ApiError
from dbnode.jsonhttp import JsonSite, Limits
from dbnode.wire import Endpoint
from lbnode.app import BalancerApp
from lbnode.hot import DataRequests
from lbnode.layout import Layout, ServerAddress, ShardLayout
from lbnode.metrics import Metrics
from lbnode.planner import place
from lbnode.router import Router, RouterOptions
from lbnode.state import ClusterState, ReplicaState, ServerState, ShardState
from lbnode.test.shards import MemoryShards, router_over
from lbnode.wire import InitLimits, InitRequest


class MemoryController:
    """A Controller whose servers are there once they are named; each shard is led by the first of its servers."""

    def __init__(self, shards: MemoryShards, router: Router) -> None:
        self._shards = shards
        self._router = router
        self._request: InitRequest | None = None
        self._layout: Layout | None = None

    async def init(self, request: InitRequest) -> None:
        """Make the table, as far as there is one in memory."""
        if self._request is not None and not request.replace:
            if request == self._request:
                return
            raise ApiError("already_initialised", 'there is another table; "replace": true drops it', status=409)
        self._request = request
        placement = place([shard.shard for shard in request.shards], request.servers, request.replicas)
        self._shards.set_schema(request.schema)
        self._layout = Layout(
            "cluster",
            request.schema,
            tuple(
                ShardLayout(number, one.shard, one.low, one.size, dict(enumerate(placement[one.shard], 10 * number)))
                for number, one in enumerate(request.shards, start=1)
            ),
            {name: ServerAddress(Endpoint(name, 1), Endpoint(name, 2)) for name in request.servers},
        )
        self._router.configure(None)
        self._router.configure(self._layout)

    async def state(self) -> ClusterState:
        """Return what was made, with every replica serving."""
        if self._layout is None:
            return ClusterState("cluster", 0)
        return ClusterState(
            "cluster",
            1,
            self._layout.schema.columns,
            self._layout.schema.dtypes,
            tuple(_shard_state(shard) for shard in self._layout.shards),
            tuple(ServerState(name, "up") for name in self._layout.servers),
        )


class MemoryBalancer:
    """Everything that stands behind the door, wired as the real process wires it."""

    def __init__(self, options: RouterOptions | None = None, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.shards = MemoryShards(self.clock)
        self.router = router_over(self.shards, options)
        self.controller = MemoryController(self.shards, self.router)
        self.app = BalancerApp(
            self.controller,
            self.router,
            DataRequests(self.router, rows_max=100_000),
            Metrics(self.clock.seconds, {("shardlb_reads_waiting", "Reads without an answer."): self._reads_waiting}),
            InitLimits(),
        )
        self._limits = limits or Limits()

    def _reads_waiting(self) -> float:
        return self.router.reads_waiting

    def site(self, *, direct: bool) -> JsonSite:
        """Return the site, with the hot endpoints in front of Klein or behind it."""
        return JsonSite(self.clock, self.app.app.resource(), self._limits, self.app.direct if direct else None)


def _shard_state(shard: ShardLayout) -> ShardState:
    replicas = tuple(ReplicaState(number, server, "serving") for number, server in shard.replicas.items())
    return ShardState(shard.shard, shard.group_id, shard.low, shard.size, replicas[0].server, replicas)
