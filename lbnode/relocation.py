"""Which replicas have to be made anew, and where: those that are lost, and those on servers that stay away.

Pure. A replica is replaced only while its group has a leader: without a majority nothing could come of it, and what
its servers still hold is all that there is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dbnode.wire import ReplicaStatus
from lbnode.catalog import MoveReplica
from lbnode.leaders import leader_of
from lbnode.table import ShardRecord, Table


def led_groups(table: Table, known: Mapping[int, ReplicaStatus]) -> set[int]:
    """Return the groups that have a leader, as far as is known."""
    return {shard.group_id for shard in table.shards if leader_of(shard, known) is not None}


def moves(
    table: Table, known: Mapping[int, ReplicaStatus], up: Collection[str], failed: Collection[str]
) -> list[MoveReplica]:
    """Return which replicas to replace by new ones, at most one of each shard.

    `known` are the statuses of replicas by id, `up` and `failed` name servers that run well and that stay away.
    """
    load = dict.fromkeys(up, 0)
    for shard in table.shards:
        for server in shard.replicas.values():
            if server in load:
                load[server] += 1
    found = []
    for shard in table.shards:
        if leader_of(shard, known) is None:
            continue
        move = next(_of_shard(shard, known, load, failed), None)
        if move is not None:
            load[move.server] += not move.lost
            found.append(move)
    return found


def _of_shard(
    shard: ShardRecord, known: Mapping[int, ReplicaStatus], load: Mapping[str, int], failed: Collection[str]
) -> Iterator[MoveReplica]:
    for replica_id, server in shard.replicas.items():
        if replica_id in known and known[replica_id].role == "lost":
            yield MoveReplica(shard.group_id, replica_id, server, lost=True)
    room = [server for server in load if server not in shard.directory.values()]
    for replica_id, server in shard.replicas.items():
        if server in failed and room:
            yield MoveReplica(shard.group_id, replica_id, min(room, key=load.__getitem__))
