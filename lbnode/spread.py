"""Placing replicas on servers: even by their number, never two of a shard on one server.

Greedy, then levelled: a replica goes to the server that holds fewest, and as long as one server holds two more than
another, one of its shards that the other lacks moves there. If every replica may move, the servers differ by one at
most in the end: of two servers that differ by two, the fuller one always has a shard that the other lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

#: The servers of each shard, by the shard's name.
Placement: TypeAlias = dict[str, list[str]]
#: Tells whether a replica of a shard may move from one server to another.
MayMove: TypeAlias = Callable[[str, str, str], bool]


def loads(placement: Mapping[str, Iterable[str]], servers: Iterable[str]) -> dict[str, int]:
    """Return how many replicas each of the servers holds."""
    load = dict.fromkeys(servers, 0)
    for on_it in placement.values():
        for server in on_it:
            if server in load:
                load[server] += 1
    return load


def fill(
    placement: Placement, copies: Mapping[str, int], servers: Collection[str], barred: Mapping[str, Collection[str]]
) -> None:
    """Give each shard as many copies as it shall have, as far as there are servers that are not `barred` to it."""
    load = loads(placement, servers)
    for shard, on_it in placement.items():
        while len(on_it) < copies.get(shard, 0):
            free = [server for server in servers if server not in on_it and server not in barred.get(shard, ())]
            if not free:
                break
            chosen = min(free, key=load.__getitem__)
            on_it.append(chosen)
            load[chosen] += 1


def level(placement: Placement, servers: Collection[str], may_move: MayMove) -> None:
    """Move replicas until the servers hold equally many, as far as `may_move(shard, source, target)` allows."""
    load = loads(placement, servers)
    while move := _next_move(placement, load, may_move):
        shard, source, target = move
        placement[shard][placement[shard].index(source)] = target
        load[source] -= 1
        load[target] += 1


def _next_move(placement: Placement, load: Mapping[str, int], may_move: MayMove) -> tuple[str, str, str] | None:
    """Return a move from a server to one that holds fewer by two or more, from the fullest to the emptiest first."""
    by_load = sorted(load, key=load.__getitem__)
    for source in reversed(by_load):
        held = [shard for shard, on_it in placement.items() if source in on_it]
        for target in by_load:
            if load[source] - load[target] < 2:
                break
            for shard in held:
                if target not in placement[shard] and may_move(shard, source, target):
                    return shard, source, target
    return None
