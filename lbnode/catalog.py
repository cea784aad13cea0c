"""What the balancers must never forget: the table, its shards, who holds which replica, and what is being changed.

The catalog is a frozen value, and every change of it is a command in a Raft log; what a command makes of it is in
lbnode.catalog_changes. Numbers of groups and replicas come from counters in the state and are never handed out twice
(RAFT_RULES 32).

An operation (/init, /add or /rm) is a record here. Until `CommitOperation` is applied the table is what it
was, and an operation found after a crash is rolled back; from then on the table is the new one, and what is left to
do (taking down what the old table used) is repeated until it is done (DESIGN §5).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from dbnode.wire import Endpoint
from lbnode.resize import PlannedShard, Resize, in_transit, united
from lbnode.table import ServerRecord, Table
from lbnode.voters import BalancerRecord, Office


class Preparing(msgspec.Struct, frozen=True, tag="preparing"):
    """An operation before its commit point: `target` is the table that it will make; a crash rolls it back."""

    operation_id: int
    kind: str
    target: Table


class Finishing(msgspec.Struct, frozen=True, tag="finishing"):
    """An operation after its commit point: the servers `leaving` are still to be taken down, with their data.

    Before that the replicas `in_transit` must have joined or left their groups.
    """

    operation_id: int
    kind: str
    leaving: tuple[ServerRecord, ...]
    in_transit: tuple[int, ...] = ()


class Catalog(msgspec.Struct, frozen=True):
    """The whole state. `version` grows by one with every change; servers refuse what is older than they know."""

    cluster_id: str = ""
    version: int = 0
    next_group_id: int = 1
    next_replica_id: int = 1
    next_operation_id: int = 1
    table: Table | None = None
    operation: Preparing | Finishing | None = None
    #: By name; a balancer alone is not listed.
    balancers: dict[str, BalancerRecord] = {}
    next_balancer_id: int = 1
    office: Office | None = None

    def servers(self) -> dict[str, ServerRecord]:
        """Return every server that there may be, by home: the table's, and those of the operation in progress."""
        found = list(self.table.servers.values()) if self.table else []
        if isinstance(self.operation, Preparing):
            found.extend(self.operation.target.servers.values())
        elif isinstance(self.operation, Finishing):
            found.extend(self.operation.leaving)
        return {server.home: server for server in found}

    @property
    def hosted(self) -> Table | None:
        """What servers hold or shall hold of the table now: while it grows or shrinks, all that is on the way too."""
        table, operation = self.table, self.operation
        if table is None or operation is None or operation.kind == "init":
            return table
        if isinstance(operation, Preparing):
            return united(table, operation.target)
        needed = {server for shard in table.shards for server in shard.leaving.values()}
        leaving = {server.name: server for server in operation.leaving if server.name in needed}
        return msgspec.structs.replace(table, servers={**leaving, **table.servers})

    @property
    def staying(self) -> set[str]:
        """The table's servers without those that an operation takes away."""
        names = set(self.table.servers) if self.table is not None else set()
        return names & self.operation.target.servers.keys() if isinstance(self.operation, Preparing) else names

    @property
    def in_transit(self) -> tuple[int, ...]:
        """The replicas that an operation brings or takes away, and that have not arrived or gone yet."""
        table, operation = self.table, self.operation
        if table is None or operation is None or operation.kind == "init":
            return ()
        if isinstance(operation, Preparing):
            return in_transit(table, operation.target)
        open_ = {id_ for shard in table.shards for id_ in (*shard.joining, *shard.leaving)}
        return tuple(id_ for id_ in operation.in_transit if id_ in open_)


# ---- commands -------------------------------------------------------------------------------------------------


class FoundCluster(msgspec.Struct, frozen=True, tag="found_cluster"):
    """The first command of a catalog: gives the cluster its id, and says who its balancers are unless it is one."""

    cluster_id: str
    balancers: dict[str, BalancerRecord] = {}


class RestoreCatalog(msgspec.Struct, frozen=True, tag="restore_catalog"):
    """The first command of a catalog that was put together again from what the servers knew."""

    catalog: Catalog
    balancers: dict[str, BalancerRecord] = {}


class BeginInit(msgspec.Struct, frozen=True, tag="begin_init"):
    """Begin to make a table out of nothing, or (`replace`) in the place of the one there is."""

    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    shards: tuple[PlannedShard, ...]
    servers: tuple[str, ...]
    replace: bool = False


class BeginResize(msgspec.Struct, frozen=True, tag="begin_resize"):
    """Begin to add servers and shards (`kind` add), or to remove servers (rm)."""

    kind: str
    change: Resize


class RecordServer(msgspec.Struct, frozen=True, tag="record_server"):
    """The server that lives in `home` was seen running, with this identity and at these addresses."""

    home: str
    incarnation: str
    http: Endpoint
    link: Endpoint


class CommitOperation(msgspec.Struct, frozen=True, tag="commit_operation"):
    """The commit point: the operation's target becomes the table."""

    operation_id: int


class AbandonOperation(msgspec.Struct, frozen=True, tag="abandon_operation"):
    """The operation was rolled back: nothing that it started is left."""

    operation_id: int


class FinishOperation(msgspec.Struct, frozen=True, tag="finish_operation"):
    """Nothing is left to do after the commit point."""

    operation_id: int


class ReplaceHome(msgspec.Struct, frozen=True, tag="replace_home"):
    """The data of the server in `home` is gone: it begins anew in a fresh home, and each of its replicas gets a new id.

    The old ids must never vote again; they leave their groups when the new ones can take their places.
    """

    home: str


class MoveReplica(msgspec.Struct, frozen=True, tag="move_replica"):
    """A replica is to be replaced, under a new id, by one on `server`.

    That may be the same server if the replica is `lost`: what its log or its store held is gone there.
    """

    group_id: int
    replica_id: int
    server: str
    lost: bool = False


class ReplicasJoined(msgspec.Struct, frozen=True, tag="replicas_joined"):
    """These replicas have caught up and are voters of their group: they count."""

    group_id: int
    replica_ids: tuple[int, ...]


class ForgetReplicas(msgspec.Struct, frozen=True, tag="forget_replicas"):
    """These replicas are out of their group's configuration: what is left of them goes."""

    group_id: int
    replica_ids: tuple[int, ...]


class TakeOffice(msgspec.Struct, frozen=True, tag="take_office"):
    """The balancer `holder`, which leads the catalog's group, is the controller from now on."""

    holder: str
    url: str


class HoldOffice(msgspec.Struct, frozen=True, tag="hold_office"):
    """Whoever took over as the `number`-th controller is about to act: refused if somebody took over since."""

    number: int


class AdmitBalancer(msgspec.Struct, frozen=True, tag="admit_balancer"):
    """A balancer lost its data directory and begins anew in one of this incarnation, under a new replica id."""

    name: str
    incarnation: str


Command: TypeAlias = (
    FoundCluster
    | RestoreCatalog
    | BeginInit
    | BeginResize
    | RecordServer
    | CommitOperation
    | AbandonOperation
    | FinishOperation
    | ReplaceHome
    | MoveReplica
    | ReplicasJoined
    | ForgetReplicas
    | TakeOffice
    | HoldOffice
    | AdmitBalancer
)
