"""From an /init request to a placement: which servers hold a replica of which shard.

What a request may ask for was checked when it was parsed (lbnode.wire.init). Placements that it names are taken as
they are; where it leaves the choice, replicas are spread evenly, never two of a shard on one server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lbnode.catalog import BeginInit
from lbnode.resize import PlannedShard
from lbnode.table import Table
from lbnode.wire import InitRequest


def plan_init(request: InitRequest) -> BeginInit:
    """Return the command that begins to make what the request asks for."""
    placement = place([shard.shard for shard in request.shards], request.servers, request.replicas)
    shards = tuple(PlannedShard(s.shard, s.low, s.size, placement[s.shard]) for s in request.shards)
    schema = request.schema
    return BeginInit(schema.columns, schema.dtypes, shards, tuple(request.servers), request.replace)


def place(shards: Iterable[str], servers: Mapping[str, tuple[str, ...]], copies: int) -> dict[str, tuple[str, ...]]:
    """Return the servers of each shard: those that name it, and open ones (that name none) up to `copies`.

    An open server for which the shards need nothing takes further replicas, of the shards that have fewest, until it
    holds as many as the least loaded of the others: it was named in order to carry something.
    """
    placement: dict[str, list[str]] = {shard: [] for shard in shards}
    for server, named in servers.items():
        for shard in named:
            placement[shard].append(server)
    load = {server: 0 for server, named in servers.items() if not named}
    for on_it in placement.values():
        for _ in range(copies - len(on_it)):
            _add_replica(on_it, load)
    least = min((len(named) for named in servers.values() if named), default=0)
    for server in load:
        while load[server] < least:
            fewest = min((on_it for on_it in placement.values() if server not in on_it), key=len)
            fewest.append(server)
            load[server] += 1
    return {shard: tuple(on_it) for shard, on_it in placement.items()}


def _add_replica(on_it: list[str], load: dict[str, int]) -> None:
    free = [server for server in load if server not in on_it]
    if free:
        chosen = min(free, key=load.__getitem__)
        on_it.append(chosen)
        load[chosen] += 1


def is_same(request: InitRequest, table: Table) -> bool:
    """Tell whether a table is what the request asks for, so that asking again is no conflict."""
    schema, asked = request.schema, {(shard.shard, shard.low, shard.size) for shard in request.shards}
    if (schema.columns, schema.dtypes) != (table.columns, table.dtypes):
        return False
    if asked != {(shard.shard, shard.low, shard.size) for shard in table.shards}:
        return False
    return set(request.servers) == set(table.servers) and _is_same_placement(request, table)


def _is_same_placement(request: InitRequest, table: Table) -> bool:
    if not any(request.servers.values()):
        return all(len(shard.replicas) == request.replicas for shard in table.shards)
    return all(
        set(named) == {shard.shard for shard in table.shards_on(server)}
        for server, named in request.servers.items()
        if named
    )
