"""A table that grows or shrinks, as values: what a change makes of it, and what there must be on the way.

New replicas join before anything counts on them, and those that go stay until others have taken their places; numbers
come from outside, since only the catalog may hand them out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lbnode.table import ServerRecord, ShardRecord, Table


class PlannedShard(msgspec.Struct, frozen=True):
    """A shard to be made, with a replica on each of `servers`."""

    shard: str
    low: int
    size: int
    servers: tuple[str, ...]


class Resize(msgspec.Struct, frozen=True):
    """Servers that come and go, new shards, and by group the servers that get a replica and the replicas that go."""

    coming: tuple[str, ...] = ()
    going: tuple[str, ...] = ()
    shards: tuple[PlannedShard, ...] = ()
    added: dict[int, tuple[str, ...]] = {}
    removed: dict[int, tuple[int, ...]] = {}


def misfit(table: Table, change: Resize) -> str:
    """Return why a change does not fit the table (any more), "" if it does."""
    servers = table.servers.keys()
    wrong = sorted((servers & set(change.coming)) | (set(change.going) - servers))
    after = {*servers, *change.coming}.difference(change.going)
    for shard in table.shards:
        added, removed = change.added.get(shard.group_id, ()), change.removed.get(shard.group_id, ())
        wrong += [server for server in added if server in shard.directory.values() or server not in after]
        wrong += [str(replica_id) for replica_id in removed if replica_id not in shard.replicas]
    wrong += [server for shard in change.shards for server in shard.servers if server not in after]
    names = {shard.shard for shard in table.shards}
    wrong += [shard.shard for shard in change.shards if shard.shard in names]
    return f"{', '.join(wrong)}: the table has changed meanwhile" if wrong else ""


def new_shards(planned: tuple[PlannedShard, ...], group_ids: Iterator[int], ids: Iterator[int]) -> list[ShardRecord]:
    """Return records of planned shards, in order of their ranges, with numbers for groups and replicas."""
    return [
        ShardRecord(
            next(group_ids), shard.shard, shard.low, shard.size, {next(ids): server for server in shard.servers}
        )
        for shard in sorted(planned, key=lambda shard: shard.low)
    ]


def resized(
    table: Table, change: Resize, coming: list[ServerRecord], group_ids: Iterator[int], ids: Iterator[int]
) -> Table:
    """Return what the change makes of the table; `coming` are the records of the servers that come."""
    shards = [*table.shards]
    for place, shard in enumerate(shards):
        out = shard.without_replicas(change.removed.get(shard.group_id, ()), lost=False)
        shards[place] = out.with_replicas({next(ids): server for server in change.added.get(shard.group_id, ())})
    shards += new_shards(change.shards, group_ids, ids)
    servers = {name: server for name, server in table.servers.items() if name not in change.going}
    return msgspec.structs.replace(
        table,
        shards=tuple(sorted(shards, key=lambda shard: shard.low)),
        servers={**servers, **{server.name: server for server in coming}},
    )


def united(table: Table, target: Table) -> Table:
    """Return what there must be while the table becomes the target: all that is in either of them."""
    shards = []
    for shard in target.shards:
        before = table.shard_of(shard.group_id)
        if before is None:
            shards.append(shard)
            continue
        shards.append(
            before.with_replicas({id_: shard.replicas[id_] for id_ in shard.replicas.keys() - before.replicas})
        )
    return msgspec.structs.replace(table, shards=tuple(shards), servers={**target.servers, **table.servers})


def in_transit(table: Table, target: Table) -> tuple[int, ...]:
    """Return the replicas that come or go when the table becomes the target."""
    moving: set[int] = set()
    for shard in target.shards:
        before = table.shard_of(shard.group_id)
        if before is not None:
            moving |= shard.replicas.keys() ^ before.replicas.keys()
    return tuple(sorted(moving))
