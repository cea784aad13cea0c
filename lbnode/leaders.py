"""Which server should lead which shard: as evenly as the replicas allow, moving as few leaders as that takes.

Leading costs most of a shard's work, so the server that leads most shards is the first to be full. The assignment
is a matching of shards to servers in which no server takes more than `room` shards, for the smallest room that works
(augmenting paths; Kuhn, "The Hungarian method for the assignment problem", 1955, in its bipartite form).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import msgspec

from dbnode.wire import ReplicaStatus
from lbnode.table import ShardRecord

_Shard = TypeVar("_Shard", bound=Hashable)

#: A replica further behind its leader than this, in log entries, is not asked to lead.
LAG_LEADING_MAX = 100


class Handover(msgspec.Struct, frozen=True):
    """The server `leader` should hand the group over to the replica `replica_id`."""

    group_id: int
    leader: str
    replica_id: int


def leader_of(shard: ShardRecord, known: Mapping[int, ReplicaStatus]) -> ReplicaStatus | None:
    """Return the replica that says it leads, in the highest term if several do (Raft §5.2: only that one does)."""
    claims = [known[replica_id] for replica_id in shard.directory if replica_id in known]
    return max((one for one in claims if one.role == "leader"), key=lambda one: one.term, default=None)


def handovers(
    shards: Sequence[ShardRecord], known: Mapping[int, ReplicaStatus], without: Collection[str] = ()
) -> list[Handover]:
    """Return what would make the leaders even among the replicas that are `known` (by id) to be able to lead.

    The servers `without` shall lead nothing that another can lead.
    """
    leaders = {shard.group_id: leader_of(shard, known) for shard in shards}
    able, current, replica_on = {}, {}, {}
    for shard in shards:
        leader = leaders[shard.group_id]
        if leader is not None:
            fit = {
                server: id_
                for id_, server in shard.replicas.items()
                if server not in without and can_lead(shard, known.get(id_), leader)
            }
            able[shard.group_id], replica_on[shard.group_id] = tuple(fit), fit
            current[shard.group_id] = shard.directory[leader.replica_id]
    wanted = spread_leaders(able, current)
    return [
        Handover(group_id, current[group_id], replica_on[group_id][server])
        for group_id, server in wanted.items()
        if server != current[group_id]
    ]


def can_lead(shard: ShardRecord, replica: ReplicaStatus | None, leader: ReplicaStatus) -> bool:
    """Tell whether a replica, as far as its status is known, could take over from the leader at once."""
    if replica is None or replica.role in ("learner", "lost") or replica.replica_id in shard.joining:
        return False
    return leader.last_index - replica.last_index <= LAG_LEADING_MAX


def spread_leaders(
    candidates: Mapping[_Shard, Sequence[str]], current: Mapping[_Shard, str] | None = None
) -> dict[_Shard, str]:
    """Return a server for each shard out of its `candidates`, so that the busiest server leads as few as possible.

    A `current` leader is kept as far as evenness allows. Shards without a candidate are left out.
    """
    led = {shard: servers for shard, servers in candidates.items() if servers}
    for room in range(1, len(led) + 1):
        spread = _within(room, led, current or {})
        if spread is not None:
            return spread
    return {}


def _within(
    room: int, candidates: Mapping[_Shard, Sequence[str]], current: Mapping[_Shard, str]
) -> dict[_Shard, str] | None:
    leads: dict[str, list[_Shard]] = {server: [] for servers in candidates.values() for server in servers}
    for shard, server in current.items():
        if server in candidates.get(shard, ()) and len(leads[server]) < room:
            leads[server].append(shard)
    settled = {shard for shards in leads.values() for shard in shards}
    for shard in candidates:
        if shard not in settled and not _settle(shard, room, candidates, leads, set()):
            return None
    return {shard: server for server, shards in leads.items() for shard in shards}


def _settle(
    shard: _Shard,
    room: int,
    candidates: Mapping[_Shard, Sequence[str]],
    leads: dict[str, list[_Shard]],
    tried: set[str],
) -> bool:
    """Find a server for `shard`, if need be by moving other shards on; False if there is none."""
    for server in sorted(candidates[shard], key=lambda server: len(leads[server])):
        if len(leads[server]) < room:
            leads[server].append(shard)
            return True
    for server in candidates[shard]:
        if server in tried:
            continue
        tried.add(server)
        for other in leads[server]:
            if _settle(other, room, candidates, leads, tried):
                leads[server][leads[server].index(other)] = shard
                return True
    return False
