"""From /add and /rm requests to a change of the table: which servers come and go, which get a replica of what.

What a request names is done as it is named; where it leaves the choice, replicas are spread evenly, never two of a
shard on one server. Servers that exist keep what they have unless a new one that was left open takes over its share,
or they go.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping

from dbnode.errors import ApiError
from lbnode.catalog import BeginResize
from lbnode.resize import PlannedShard, Resize
from lbnode.spread import MayMove, Placement, fill, level, loads
from lbnode.table import Table
from lbnode.wire import (
    REPLICAS_DEFAULT,
    AddRequest,
    InitLimits,
    InitShard,
    RemoveRequest,
    check_together,
    template_prefix,
)

#: A number put into a template has this many digits at most: enough to be unused, few enough to be read.
_RANDOM_NUMBER_MAX = 99_999


def plan_add(
    request: AddRequest, table: Table, rng: random.Random, limits: InitLimits, down: Collection[str] = ()
) -> BeginResize:
    """Return the command that begins what /add asks for; raises ApiError (400) if it does not fit the table.

    Servers that are `down` get no replicas: they could not be filled. Without them there may be too few (503).
    """
    _check_limits(request, table, limits)
    _check_shards(request, table)
    named = _with_names(request.servers, table, rng)
    servers = [*table.servers, *named]
    placement = {shard.shard: list(shard.replicas.values()) for shard in table.shards}
    placement.update({shard.shard: [] for shard in request.shards})
    for server, shards in named.items():
        for shard in shards:
            placement[shard].append(server)
    fixed = {(shard, server) for server, shards in named.items() for shard in shards}
    barred = _barred(table, placement, down)
    _place_new(placement, request, table, servers, [server for server in named if not named[server]], fixed, barred)
    return BeginResize("add", _change(table, placement, coming=tuple(named), shards=request.shards))


def plan_remove(request: RemoveRequest, table: Table, rng: random.Random, down: Collection[str] = ()) -> BeginResize:
    """Return the command that begins what /rm asks for; raises ApiError (400) if it does not fit the table.

    For `down` see plan_add; a shard that would lose its last copy so is a 409.
    """
    going = _going(request, table, rng)
    staying = [server for server in table.servers if server not in going]
    if not staying:
        return BeginResize("rm", Resize(going=going))
    placement: Placement = {}
    copies = {}
    for shard in table.shards:
        placement[shard.shard] = kept = [server for server in shard.replicas.values() if server in staying]
        copies[shard.shard] = len(shard.replicas) if request.rebalance else max(1, len(kept))
    before = {shard: set(on_it) for shard, on_it in placement.items()}
    barred = _barred(table, placement, down)
    fill(placement, copies, staying, barred)
    level(placement, staying, _movable(barred, lambda shard, source, _: source not in before[shard]))
    orphan = next((shard for shard, on_it in placement.items() if not on_it), None)
    if orphan is not None:
        text = (
            f"the last copy of {orphan!r} is on {_listed(going)} and no other server can take it now; try again later"
        )
        raise ApiError("last_copy", text, status=409)
    return BeginResize("rm", _change(table, placement, going=going))


# ---- /add -----------------------------------------------------------------------------------------------------


def _check_limits(request: AddRequest, table: Table, limits: InitLimits) -> None:
    servers, shards = len(table.servers) + len(request.servers), len(table.shards) + len(request.shards)
    if servers > limits.servers_max:
        raise ApiError("too_many_servers", f"there would be {servers} servers; at most {limits.servers_max} can be")
    if shards > limits.shards_max:
        raise ApiError("too_many_shards", f"there would be {shards} shards; at most {limits.shards_max} can be")
    if request.replicas is not None and request.replicas > servers:
        raise ApiError("too_many_replicas", f"{request.replicas} copies need as many servers; there would be {servers}")


def _check_shards(request: AddRequest, table: Table) -> None:
    there = [InitShard(shard.low, shard.shard, shard.size) for shard in table.shards]
    known = {shard.shard for shard in there}
    for new in request.shards:
        if new.shard in known:
            raise ApiError("shard_exists", f"there is a shard {new.shard!r} already; a new one needs another name")
    check_together(sorted([*there, *request.shards], key=lambda shard: shard.low))
    known.update(shard.shard for shard in request.shards)
    for server, shards in request.servers.items():
        unknown = [shard for shard in shards if shard not in known]
        if unknown:
            text = f"{server!r} names the shard {unknown[0]!r}, which neither exists nor is in 'new_shards'"
            raise ApiError("unknown_shard", text)
    unplaced = {shard.shard for shard in request.shards}.difference(*request.servers.values())
    if unplaced and all(request.servers.values()) and request.replicas is None:
        raise ApiError(
            "unplaced_shard",
            f"no server names the shard {min(unplaced)!r}; name it for one, give a server [] for the balancer to fill, "
            "or say 'replicas'",
        )


def _with_names(servers: Mapping[str, tuple[str, ...]], table: Table, rng: random.Random) -> dict[str, tuple[str, ...]]:
    """Return the servers with a name in the place of each template."""
    taken = {*table.servers, *servers}
    named = {}
    for name, shards in servers.items():
        if name in table.servers:
            raise ApiError("server_exists", f"there is a server {name!r} already; a new one needs another name")
        prefix = template_prefix(name)
        chosen = name if prefix is None else _unused(prefix, taken, rng)
        taken.add(chosen)
        named[chosen] = shards
    return named


def _unused(prefix: str, taken: Collection[str], rng: random.Random) -> str:
    while (name := f"{prefix}{rng.randint(1, _RANDOM_NUMBER_MAX)}") in taken:
        pass
    return name


def _place_new(
    placement: Placement,
    request: AddRequest,
    table: Table,
    servers: list[str],
    open_servers: list[str],
    fixed: Collection[tuple[str, str]],
    barred: Mapping[str, Collection[str]],
) -> None:
    """Place what the request leaves to the balancer."""
    before = {shard.shard: set(shard.replicas.values()) for shard in table.shards}
    copies = {
        shard: max(len(on_it) or min(REPLICAS_DEFAULT, len(servers)), request.replicas or 0)
        for shard, on_it in placement.items()
    }
    fill(placement, copies, servers, barred)
    short = next((shard for shard, on_it in placement.items() if len(on_it) < copies[shard]), None)
    if short is not None:
        away = _listed(sorted(barred[short]))
        text = f"too few servers can take a copy of {short!r} now: not {away}; try again later"
        raise ApiError("servers_down", text, status=503, retry_after_seconds=1)

    def may_move(shard: str, source: str, target: str) -> bool:
        if (shard, source) in fixed:
            return False
        return target in open_servers or source not in before.get(shard, ())

    level(placement, servers, _movable(barred, may_move))
    load = loads(placement, open_servers)
    for server in open_servers:
        if not load[server]:
            _give_one(placement, server)


def _give_one(placement: Placement, server: str) -> None:
    """Give a server that nothing was left for a further copy of what has fewest: it was named to carry something."""
    if placement:
        min(placement.values(), key=len).append(server)


# ---- /rm ------------------------------------------------------------------------------------------------------


def _going(request: RemoveRequest, table: Table, rng: random.Random) -> tuple[str, ...]:
    """Return the servers that go: those named, then the balancer's choice."""
    unknown = [server for server in request.servers if server not in table.servers]
    if unknown:
        raise ApiError("unknown_server", f"there is no server {unknown[0]!r}; the servers are {_listed(table.servers)}")
    if request.count > len(table.servers):
        raise ApiError("bad_count", f"n is {request.count}; there are only {len(table.servers)} servers")
    if request.count == len(table.servers) and len(request.servers) < request.count:
        raise ApiError(
            "last_servers", "that would remove every server and with them the table; name them all to take it down"
        )
    others = [server for server in table.servers if server not in request.servers]
    return (*request.servers, *rng.sample(others, request.count - len(request.servers)))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


# ---- both -----------------------------------------------------------------------------------------------------


def _barred(table: Table, shards: Iterable[str], down: Collection[str]) -> dict[str, set[str]]:
    """Return where no replica of a shard can be placed: on servers that are down, and where one is still leaving."""
    leaving = {shard.shard: {server for server in shard.leaving.values() if server} for shard in table.shards}
    return {shard: leaving.get(shard, set()).union(down) for shard in shards}


def _movable(barred: Mapping[str, Collection[str]], may_move: MayMove) -> MayMove:
    return lambda shard, source, target: target not in barred.get(shard, ()) and may_move(shard, source, target)


def _change(
    table: Table,
    placement: Placement,
    *,
    coming: tuple[str, ...] = (),
    going: tuple[str, ...] = (),
    shards: Iterable[InitShard] = (),
) -> Resize:
    """Return what makes the placement out of the table."""
    added, removed = {}, {}
    for shard in table.shards:
        on_it = set(placement[shard.shard])
        if new := tuple(server for server in placement[shard.shard] if server not in shard.replicas.values()):
            added[shard.group_id] = new
        if gone := tuple(id_ for id_, server in shard.replicas.items() if server not in on_it):
            removed[shard.group_id] = gone
    planned = tuple(PlannedShard(one.shard, one.low, one.size, tuple(placement[one.shard])) for one in shards)
    return Resize(coming, going, planned, added, removed)
