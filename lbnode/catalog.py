"""What the balancers must never forget: the table, its shards, who holds which replica, and what is being changed.

The catalog is a frozen value, and every change of it is a command in a Raft log. `apply` is pure and deterministic,
so that every balancer arrives at the same catalog; a command that does not fit the state is refused by all of them
alike. Numbers of groups and replicas come from counters in the state and are never handed out twice
(RAFT_RULES 32).

An operation (/init, later /add and /rm) is a record here. Until `CommitOperation` is applied the table is what it
was, and an operation found after a crash is rolled back; from then on the table is the new one, and what is left to
do (taking down what the old table used) is repeated until it is done (DESIGN §5).
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec

from dbnode.wire import Endpoint


class ServerRecord(msgspec.Struct, frozen=True):
    """A server that belongs to the table, or is being made for one.

    `home` names its data directory (or volume) and is unique: two servers of the same name never share one.
    `incarnation` was born with that data; it and the addresses are unknown until the server first ran.
    """

    name: str
    home: str
    incarnation: str = ""
    http: Endpoint | None = None
    link: Endpoint | None = None


class ShardRecord(msgspec.Struct, frozen=True):
    """A shard: ids `low` up to but not including `low + size`; `replicas` maps replica ids to servers' names."""

    group_id: int
    shard: str
    low: int
    size: int
    replicas: dict[int, str]


class Table(msgspec.Struct, frozen=True):
    """The one table: shards in order of `low`, servers by name in the order in which they were named.

    The first of the `columns` is the key; `dtypes` has a word of the client's for each.
    """

    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    shards: tuple[ShardRecord, ...]
    servers: dict[str, ServerRecord]

    def shards_on(self, server: str) -> list[ShardRecord]:
        """Return the shards of which a server holds a replica."""
        return [shard for shard in self.shards if server in shard.replicas.values()]


class Preparing(msgspec.Struct, frozen=True, tag="preparing"):
    """An operation before its commit point: `target` is the table that it will make; a crash rolls it back."""

    operation_id: int
    kind: str
    target: Table


class Finishing(msgspec.Struct, frozen=True, tag="finishing"):
    """An operation after its commit point: the servers `leaving` are still to be taken down, with their data."""

    operation_id: int
    kind: str
    leaving: tuple[ServerRecord, ...]


class Catalog(msgspec.Struct, frozen=True):
    """The whole state. `version` grows by one with every change; servers refuse what is older than they know."""

    cluster_id: str = ""
    version: int = 0
    next_group_id: int = 1
    next_replica_id: int = 1
    next_operation_id: int = 1
    table: Table | None = None
    operation: Preparing | Finishing | None = None

    def servers(self) -> dict[str, ServerRecord]:
        """Return every server that there may be, by home: the table's, and those of the operation in progress."""
        found = list(self.table.servers.values()) if self.table else []
        if isinstance(self.operation, Preparing):
            found.extend(self.operation.target.servers.values())
        elif isinstance(self.operation, Finishing):
            found.extend(self.operation.leaving)
        return {server.home: server for server in found}


# ---- commands -------------------------------------------------------------------------------------------------


class FoundCluster(msgspec.Struct, frozen=True, tag="found_cluster"):
    """The first command of a catalog: gives the cluster its id."""

    cluster_id: str


class PlannedShard(msgspec.Struct, frozen=True):
    """A shard to be made, with a replica on each of `servers`."""

    shard: str
    low: int
    size: int
    servers: tuple[str, ...]


class BeginInit(msgspec.Struct, frozen=True, tag="begin_init"):
    """Begin to make a table out of nothing, or (`replace`) in the place of the one there is."""

    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    shards: tuple[PlannedShard, ...]
    servers: tuple[str, ...]
    replace: bool = False


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


Command: TypeAlias = FoundCluster | BeginInit | RecordServer | CommitOperation | AbandonOperation | FinishOperation


class Refused(Exception):
    """A command does not fit the catalog; nothing changed. `code` is the stable word of the HTTP API."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def apply(catalog: Catalog, command: Command) -> Catalog:
    """Return the catalog after a command; raises Refused if it does not fit."""
    match command:
        case FoundCluster():
            after = _found(catalog, command)
        case BeginInit():
            after = _begin_init(catalog, command)
        case RecordServer():
            after = _record_server(catalog, command)
        case CommitOperation():
            after = _commit(catalog, command.operation_id)
        case AbandonOperation():
            _operation(catalog, command.operation_id, Preparing)
            after = msgspec.structs.replace(catalog, operation=None)
        case FinishOperation():
            _operation(catalog, command.operation_id, Finishing)
            after = msgspec.structs.replace(catalog, operation=None)
    return catalog if after == catalog else msgspec.structs.replace(after, version=catalog.version + 1)


def _found(catalog: Catalog, command: FoundCluster) -> Catalog:
    if catalog.cluster_id:
        raise Refused("conflict", f"this is cluster {catalog.cluster_id} already")
    return msgspec.structs.replace(catalog, cluster_id=command.cluster_id)


def _begin_init(catalog: Catalog, command: BeginInit) -> Catalog:
    if catalog.operation is not None:
        raise Refused("busy", f"/{catalog.operation.kind} is in progress: try again when it has ended")
    if catalog.table is not None and not command.replace:
        raise Refused(
            "already_initialised",
            'the database is configured already, in another way; "replace": true would drop the table',
        )
    operation_id, group_id, replica_id = catalog.next_operation_id, catalog.next_group_id, catalog.next_replica_id
    shards = []
    for planned in sorted(command.shards, key=lambda shard: shard.low):
        replicas = {replica_id + place: server for place, server in enumerate(planned.servers)}
        shards.append(ShardRecord(group_id, planned.shard, planned.low, planned.size, replicas))
        group_id, replica_id = group_id + 1, replica_id + len(replicas)
    taken = set(catalog.servers())
    servers = {name: ServerRecord(name, _home(name, operation_id, taken)) for name in command.servers}
    target = Table(command.columns, command.dtypes, tuple(shards), servers)
    return msgspec.structs.replace(
        catalog,
        next_operation_id=operation_id + 1,
        next_group_id=group_id,
        next_replica_id=replica_id,
        operation=Preparing(operation_id, "init", target),
    )


def _home(name: str, operation_id: int, taken: set[str]) -> str:
    """Return a home for a new server, its own name if that is free, and take it."""
    home, number = name, 0
    while home in taken:
        home = f"{name}@{operation_id}.{number}" if number else f"{name}@{operation_id}"
        number += 1
    taken.add(home)
    return home


def _record_server(catalog: Catalog, command: RecordServer) -> Catalog:
    table, operation = catalog.table, catalog.operation
    if table is not None:
        table = _with_server(table, command)
    if isinstance(operation, Preparing):
        operation = msgspec.structs.replace(operation, target=_with_server(operation.target, command))
    return msgspec.structs.replace(catalog, table=table, operation=operation)


def _with_server(table: Table, seen: RecordServer) -> Table:
    servers = {
        name: msgspec.structs.replace(server, incarnation=seen.incarnation, http=seen.http, link=seen.link)
        if server.home == seen.home
        else server
        for name, server in table.servers.items()
    }
    return msgspec.structs.replace(table, servers=servers)


def _commit(catalog: Catalog, operation_id: int) -> Catalog:
    operation = _operation(catalog, operation_id, Preparing)
    kept = {server.home for server in operation.target.servers.values()}
    before = catalog.table.servers.values() if catalog.table else ()
    leaving = tuple(server for server in before if server.home not in kept)
    return msgspec.structs.replace(
        catalog, table=operation.target, operation=Finishing(operation_id, operation.kind, leaving)
    )


_Phase = TypeVar("_Phase", Preparing, Finishing)


def _operation(catalog: Catalog, operation_id: int, phase: type[_Phase]) -> _Phase:
    operation = catalog.operation
    if not isinstance(operation, phase) or operation.operation_id != operation_id:
        raise Refused("conflict", f"operation {operation_id} is not {phase.__name__.lower()}")
    return operation
