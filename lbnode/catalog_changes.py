"""What each command makes of the catalog: pure and deterministic, so that every balancer arrives at the same one.

A command that does not fit the state is refused by all of them alike, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

import msgspec

from lbnode.catalog import (
    AbandonOperation,
    AdmitBalancer,
    BeginInit,
    BeginResize,
    Catalog,
    Command,
    CommitOperation,
    Finishing,
    FinishOperation,
    ForgetReplicas,
    FoundCluster,
    HoldOffice,
    MoveReplica,
    Preparing,
    RecordServer,
    ReplaceHome,
    ReplicasJoined,
    RestoreCatalog,
    TakeOffice,
)
from lbnode.resize import misfit, new_shards, resized
from lbnode.table import ServerRecord, ShardRecord, Table
from lbnode.voters import BalancerRecord, Office


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
            after = _found(catalog, command, catalog)
        case RestoreCatalog():
            return _found(catalog, FoundCluster(command.catalog.cluster_id, command.balancers), command.catalog)
        case BeginInit():
            after = _begin_init(catalog, command)
        case BeginResize():
            after = _begin_resize(catalog, command)
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
        case ReplaceHome():
            after = _replace_home(catalog, command.home)
        case MoveReplica():
            after = _move_replica(catalog, command)
        case ReplicasJoined():
            after = _joined(catalog, command)
        case ForgetReplicas():
            after = _forget(catalog, command)
        case TakeOffice():
            number = catalog.office.number + 1 if catalog.office is not None else 1
            after = msgspec.structs.replace(catalog, office=Office(number, command.holder, command.url))
        case HoldOffice():
            after = _held(catalog, command.number)
        case AdmitBalancer():
            after = _admitted(catalog, command)
    return catalog if after == catalog else msgspec.structs.replace(after, version=catalog.version + 1)


def _found(catalog: Catalog, command: FoundCluster, beginning: Catalog) -> Catalog:
    if catalog.cluster_id:
        raise Refused("conflict", f"this is cluster {catalog.cluster_id} already")
    return msgspec.structs.replace(
        beginning,
        cluster_id=command.cluster_id,
        balancers=command.balancers,
        next_balancer_id=len(command.balancers) + 1,
    )


def _held(catalog: Catalog, number: int) -> Catalog:
    if catalog.office is None or catalog.office.number != number:
        raise Refused("deposed", "another balancer is the controller now")
    return catalog


def _admitted(catalog: Catalog, command: AdmitBalancer) -> Catalog:
    known = catalog.balancers.get(command.name)
    if known is None:
        raise Refused("conflict", f"{command.name} is no balancer of this cluster")
    if known.incarnation == command.incarnation:
        return catalog
    record = BalancerRecord(catalog.next_balancer_id, command.incarnation)
    return msgspec.structs.replace(
        catalog,
        balancers={**catalog.balancers, command.name: record},
        next_balancer_id=catalog.next_balancer_id + 1,
    )


def _begin_init(catalog: Catalog, command: BeginInit) -> Catalog:
    _check_idle(catalog)
    if catalog.table is not None and not command.replace:
        raise Refused(
            "already_initialised",
            'the database is configured already, in another way; "replace": true would drop the table',
        )
    group_ids, ids = count(catalog.next_group_id), count(catalog.next_replica_id)
    servers = {server.name: server for server in _new_servers(catalog, command.servers)}
    target = Table(command.columns, command.dtypes, tuple(new_shards(command.shards, group_ids, ids)), servers)
    return _preparing(catalog, "init", target, group_ids, ids)


def _begin_resize(catalog: Catalog, command: BeginResize) -> Catalog:
    _check_idle(catalog)
    table, change = catalog.table, command.change
    if table is None:
        raise Refused("not_initialised", "there is no table yet; POST /init makes one")
    if wrong := misfit(table, change):
        raise Refused("conflict", wrong)
    group_ids, ids = count(catalog.next_group_id), count(catalog.next_replica_id)
    target = resized(table, change, _new_servers(catalog, change.coming), group_ids, ids)
    if target.servers:
        return _preparing(catalog, command.kind, target, group_ids, ids)
    # Nothing is to be prepared where nothing will be: the table goes at once.
    taking_down = Finishing(catalog.next_operation_id, command.kind, tuple(table.servers.values()))
    return msgspec.structs.replace(
        catalog, table=None, operation=taking_down, next_operation_id=catalog.next_operation_id + 1
    )


def _check_idle(catalog: Catalog) -> None:
    if catalog.operation is not None:
        raise Refused("busy", f"/{catalog.operation.kind} is in progress: try again when it has ended")


def _new_servers(catalog: Catalog, names: tuple[str, ...]) -> list[ServerRecord]:
    taken = set(catalog.servers())
    return [ServerRecord(name, _home(name, catalog.next_operation_id, taken)) for name in names]


def _preparing(catalog: Catalog, kind: str, target: Table, group_ids: count[int], ids: count[int]) -> Catalog:
    """Return the catalog in which the target is prepared, with the numbers that it took used up."""
    return msgspec.structs.replace(
        catalog,
        next_operation_id=catalog.next_operation_id + 1,
        next_group_id=next(group_ids),
        next_replica_id=next(ids),
        operation=Preparing(catalog.next_operation_id, kind, target),
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
    fields = {"incarnation": command.incarnation, "http": command.http, "link": command.link}
    after = _on_tables(catalog, lambda table: table.with_server(command.home, **fields))
    operation = after.operation
    if isinstance(operation, Finishing):
        leaving = tuple(
            msgspec.structs.replace(server, **fields) if server.home == command.home else server
            for server in operation.leaving
        )
        after = msgspec.structs.replace(after, operation=msgspec.structs.replace(operation, leaving=leaving))
    return after


def _on_tables(catalog: Catalog, change: Callable[[Table], Table]) -> Catalog:
    """Change the table and what an operation is making of it alike."""
    table, operation = catalog.table, catalog.operation
    if isinstance(operation, Preparing):
        operation = msgspec.structs.replace(operation, target=change(operation.target))
    return msgspec.structs.replace(catalog, table=change(table) if table is not None else None, operation=operation)


# ---- replicas that come and go --------------------------------------------------------------------------------


def _replace_home(catalog: Catalog, home: str) -> Catalog:
    """Give the server that lived in `home` a new home, and all its replicas new ids."""
    server = catalog.servers().get(home)
    if server is None or catalog.table is None or catalog.table.servers.get(server.name) != server:
        raise Refused("conflict", f"no server of the table lives in {home}")
    name, operation_id, next_replica_id = server.name, catalog.next_operation_id, catalog.next_replica_id
    tables = [catalog.table, *([catalog.operation.target] if isinstance(catalog.operation, Preparing) else [])]
    lost = {
        replica_id
        for table in tables
        for shard in table.shards
        for replica_id, on_server in shard.replicas.items()
        if on_server == name and table.servers.get(name) == server
    }
    successors = {replica_id: next_replica_id + place for place, replica_id in enumerate(sorted(lost))}
    fresh = ServerRecord(name, _home(name, operation_id, set(catalog.servers())))

    def change(table: Table) -> Table:
        if table.servers.get(name) != server:
            return table
        shards = tuple(_on_new_home(shard, name, successors) for shard in table.shards)
        return msgspec.structs.replace(table, shards=shards, servers={**table.servers, name: fresh})

    after = _on_tables(catalog, change)
    return msgspec.structs.replace(
        after, next_operation_id=operation_id + 1, next_replica_id=next_replica_id + len(successors)
    )


def _on_new_home(shard: ShardRecord, server: str, successors: dict[int, int]) -> ShardRecord:
    lost = [replica_id for replica_id in shard.replicas if replica_id in successors]
    after = shard.without_replicas(lost, lost=True).with_replicas({successors[id_]: server for id_ in lost})
    leaving = {id_: "" if on_server == server else on_server for id_, on_server in after.leaving.items()}
    return msgspec.structs.replace(after, leaving=leaving)


def _move_replica(catalog: Catalog, command: MoveReplica) -> Catalog:
    """Want a replica on another server, or under a new id on the same one if it was lost there."""
    shard = catalog.hosted.shard_of(command.group_id) if catalog.hosted is not None else None
    if shard is None or command.replica_id not in shard.replicas:
        raise Refused("conflict", f"group {command.group_id} has no replica {command.replica_id}")
    source, target = shard.replicas[command.replica_id], command.server
    if target not in catalog.staying:
        raise Refused("conflict", f"there is no server {target}, or it is about to go")
    if (target != source and target in shard.directory.values()) or (target == source and not command.lost):
        raise Refused("conflict", f"{target} holds a replica of {shard.shard} already")

    def change(shard: ShardRecord) -> ShardRecord:
        if command.replica_id not in shard.replicas:
            return shard
        out = shard.without_replicas([command.replica_id], lost=command.lost)
        return out.with_replicas({catalog.next_replica_id: target})

    after = _on_tables(catalog, lambda table: table.with_shard(command.group_id, change))
    return msgspec.structs.replace(after, next_replica_id=catalog.next_replica_id + 1)


def _joined(catalog: Catalog, command: ReplicasJoined) -> Catalog:
    ids = command.replica_ids
    return _on_tables(catalog, lambda table: table.with_shard(command.group_id, lambda shard: shard.with_joined(ids)))


def _forget(catalog: Catalog, command: ForgetReplicas) -> Catalog:
    ids = command.replica_ids
    return _on_tables(
        catalog, lambda table: table.with_shard(command.group_id, lambda shard: shard.with_forgotten(ids))
    )


# ---- operations -----------------------------------------------------------------------------------------------


def _commit(catalog: Catalog, operation_id: int) -> Catalog:
    operation = _operation(catalog, operation_id, Preparing)
    kept = {server.home for server in operation.target.servers.values()}
    before = catalog.table.servers.values() if catalog.table else ()
    leaving = tuple(server for server in before if server.home not in kept)
    finishing = Finishing(operation_id, operation.kind, leaving, catalog.in_transit)
    return msgspec.structs.replace(catalog, table=operation.target, operation=finishing)


_Phase = TypeVar("_Phase", Preparing, Finishing)


def _operation(catalog: Catalog, operation_id: int, phase: type[_Phase]) -> _Phase:
    operation = catalog.operation
    if not isinstance(operation, phase) or operation.operation_id != operation_id:
        raise Refused("conflict", f"operation {operation_id} is not {phase.__name__.lower()}")
    return operation
