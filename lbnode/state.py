"""The cluster as it was seen just now: what /status, /primary_elect and /readyz answer from.

Values only; `describe` puts together what the catalog says should be and what the servers say is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from dbnode.wire import Endpoint, ReplicaStatus
from lbnode.catalog import Catalog
from lbnode.leaders import leader_of
from lbnode.table import ServerRecord, ShardRecord

#: How far a follower may be behind its leader, in log entries, and still count as serving.
_LAG_SERVING_MAX = 1000


class ServerState(msgspec.Struct, frozen=True):
    """A server as the controller sees it: `state` is starting, up, down or failed, for `for_seconds`; `reason` why."""

    name: str
    state: str = "starting"
    for_seconds: float = 0.0
    reason: str = ""
    home: str = ""
    incarnation: str = ""
    pid: int | None = None
    http: Endpoint | None = None
    link: Endpoint | None = None


class ReplicaState(msgspec.Struct, frozen=True):
    """A replica as its server reports it; `state` is serving, catching up, learner, down or failed, `reason` why.

    A replica that is lost, or whose server counts as failed, is failed. One that is `joining` does not count yet, one
    that is `leaving` goes as soon as its group can do without it.

    `lag` counts the entries that its leader has and it has not applied, None where either is unknown. `for_seconds`
    is how long it has had this role in this term, as far as this balancer has watched.
    """

    replica_id: int
    server: str
    state: str
    role: str | None = None
    term: int | None = None
    last_index: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    lag: int | None = None
    row_count: int | None = None
    for_seconds: float = 0.0
    reason: str = ""
    joining: bool = False
    leaving: bool = False


class ShardState(msgspec.Struct, frozen=True):
    """A shard, its replicas, and the server that leads it (None: nobody does, or nobody says so).

    `doing` says what the controller does about the replicas, or waits for; "" if they are as they should be.
    """

    shard: str
    group_id: int
    low: int
    size: int
    primary: str | None
    replicas: tuple[ReplicaState, ...]
    doing: str = ""


class BalancerState(msgspec.Struct, frozen=True):
    """A balancer as this one hears of it: `state` is controller, here or away, `role` and `term` those of its replica.

    `lag` counts the entries of the catalog's log that it has not applied, None where that is unknown.
    """

    name: str
    state: str
    role: str | None = None
    term: int | None = None
    lag: int | None = None
    url: str | None = None


class ClusterState(msgspec.Struct, frozen=True):
    """The whole cluster. Without a table there are no columns, shards and servers.

    `operation` says what is being changed, None if nothing is; `controller` which of several balancers may change it.
    """

    cluster_id: str
    version: int
    columns: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    shards: tuple[ShardState, ...] = ()
    servers: tuple[ServerState, ...] = ()
    operation: str | None = None
    controller: str | None = None
    #: How long this balancer has not known who leads the catalog's group: so old may what it says be.
    stale_seconds: float = 0.0
    #: All of them if there are several.
    balancers: tuple[BalancerState, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether there is a table and every shard of it has a leader."""
        return bool(self.shards) and all(shard.primary is not None for shard in self.shards)


def describe(
    catalog: Catalog,
    servers: Mapping[str, ServerState],
    statuses: Mapping[str, Sequence[ReplicaStatus]],
    for_seconds: Mapping[int, float],
    doing: Callable[[int], str] = lambda group_id: "",
) -> ClusterState:
    """Return the cluster's state from what is known of its `servers`, and the `statuses` of those that answered.

    `servers` is by home, `statuses` by name, `for_seconds` by replica id; `doing` says what is done about a group.
    """
    table = catalog.table
    known = {status.replica_id: status for replicas in statuses.values() for status in replicas}
    shards, present = (table.shards, table.servers.values()) if table else ((), ())
    seen = {server.name: servers.get(server.home) or _not_seen(server) for server in present}
    return ClusterState(
        cluster_id=catalog.cluster_id,
        version=catalog.version,
        columns=table.columns if table else (),
        dtypes=table.dtypes if table else (),
        shards=tuple(_shard_state(shard, known, for_seconds, seen, doing(shard.group_id)) for shard in shards),
        servers=tuple(seen.values()),
        operation=catalog.operation.kind if catalog.operation else None,
    )


def answering(catalog: Catalog, statuses: Mapping[str, object]) -> dict[str, ServerState]:
    """Return how the servers are, by home, for somebody who only knows which of them gave him `statuses`."""
    return {
        home: ServerState(
            server.name,
            "up" if server.name in statuses else "down",
            reason="" if server.name in statuses else "it did not answer this process in time",
            home=home,
            incarnation=server.incarnation,
            http=server.http,
            link=server.link,
        )
        for home, server in catalog.servers().items()
    }


def _not_seen(server: ServerRecord) -> ServerState:
    return ServerState(name=server.name, home=server.home, incarnation=server.incarnation)


def _shard_state(
    shard: ShardRecord,
    known: Mapping[int, ReplicaStatus],
    for_seconds: Mapping[int, float],
    servers: Mapping[str, ServerState],
    doing: str,
) -> ShardState:
    leader = leader_of(shard, known)
    return ShardState(
        shard=shard.shard,
        group_id=shard.group_id,
        low=shard.low,
        size=shard.size,
        primary=shard.directory[leader.replica_id] if leader else None,
        replicas=tuple(
            msgspec.structs.replace(
                _silent(replica_id, servers.get(server) or ServerState(server))
                if replica_id not in known
                else _replica_state(server, known[replica_id], leader, for_seconds.get(replica_id, 0.0)),
                joining=replica_id in shard.joining,
                leaving=replica_id in shard.leaving,
            )
            for replica_id, server in shard.directory.items()
        ),
        doing=doing,
    )


def _silent(replica_id: int, server: ServerState) -> ReplicaState:
    """Describe a replica of which nothing is heard by its server."""
    state = "failed" if server.state == "failed" else "down"
    reason = server.reason or ("" if server.state == "up" else f"{server.name} is {server.state}")
    return ReplicaState(replica_id, server.name, state, for_seconds=server.for_seconds, reason=reason)


def _replica_state(
    server: str, status: ReplicaStatus, leader: ReplicaStatus | None, for_seconds: float
) -> ReplicaState:
    lag = max(0, leader.last_index - status.applied_index) if leader else None
    return ReplicaState(
        replica_id=status.replica_id,
        server=server,
        state=_state(status, lag),
        role=status.role,
        term=status.term,
        last_index=status.last_index,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        lag=lag,
        row_count=status.row_count,
        for_seconds=for_seconds,
        reason=status.reason,
    )


def _state(status: ReplicaStatus, lag: int | None) -> str:
    if status.role == "lost":
        return "failed"
    if status.role == "learner":
        return "learner"
    return "serving" if status.leader_id and lag is not None and lag <= _LAG_SERVING_MAX else "catching up"
