"""Which shards' reads are confirmed together, by one tour through their servers (dbnode.client.tours).

A tour visits servers one after the other, however many groups it asks for. So it pays where many replicas are on few
servers; where they are not, each group finds out by itself in fewer messages, and those at the same time. It also takes
its time, and more with each server, so that there may not be many.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbnode.client.tours import tour_pays
from lbnode.layout import ShardLayout

#: Servers that a tour may have to visit.
SERVERS_MAX = 10


def circles(shards: Iterable[ShardLayout]) -> list[list[ShardLayout]]:
    """Return the shards that share their tours; those that are in none of the lists have nothing to gain."""
    found = []
    circle: list[ShardLayout] = []
    servers: set[str] = set()
    # Those next to each other in this order tend to have servers in common.
    for shard in sorted(shards, key=lambda shard: sorted(shard.replicas.values())):
        more = servers.union(shard.replicas.values())
        if circle and len(more) > SERVERS_MAX:
            found.append((circle, servers))
            circle, more = [], set(shard.replicas.values())
        circle.append(shard)
        servers = more
    found.append((circle, servers))
    return [circle for circle, servers in found if len(servers) <= SERVERS_MAX and circle and _pays(circle, servers)]


def _pays(circle: list[ShardLayout], servers: set[str]) -> bool:
    return tour_pays(len(servers), (len(shard.replicas) for shard in circle))
