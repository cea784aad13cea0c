"""The cluster as clients are told of it: /status, /primary_elect, /rep and /readyz, from the controller's view."""

from __future__ import annotations

from typing import Any

import msgspec

from dbnode.errors import ApiError
from lbnode.state import ClusterState, ShardState

#: For so long a balancer may be cut off from the others and still pass for ready: an election takes far less.
_STALE_SECONDS_MAX = 10.0


def status(state: ClusterState) -> dict[str, Any]:
    """Return the answer of /status; without a table N is 0 and the lists are empty."""
    key = state.columns[0] if state.columns else "Stud_id"
    return {
        "N": len(state.servers),
        "schema": {"columns": state.columns, "dtypes": state.dtypes},
        "shards": [_shard(shard, key) for shard in state.shards],
        "servers": _shards_by_server(state),
        "server_states": {server.name: _without(server, "name") for server in state.servers},
        "operation": state.operation,
        "controller": state.controller,
        "balancers": [msgspec.to_builtins(balancer) for balancer in state.balancers],
        "cluster_id": state.cluster_id,
        "version": state.version,
        "status": "success",
    }


def primaries(state: ClusterState) -> dict[str, Any]:
    """Return the answer of /primary_elect: who leads each shard, null where nobody does."""
    return {**{shard.shard: shard.primary for shard in state.shards}, "status": "success"}


def servers(state: ClusterState) -> dict[str, Any]:
    """Return the answer of /rep."""
    names = [server.name for server in state.servers]
    return {"message": {"N": len(names), "replicas": names}, "status": "successful"}


def readiness(state: ClusterState) -> dict[str, Any]:
    """Return the answer of /readyz; raises ApiError `not_ready` (503) that names a shard without a leader."""
    if state.stale_seconds > _STALE_SECONDS_MAX:
        text = f"this balancer has heard of no controller for {state.stale_seconds:.0f} seconds"
        raise ApiError("not_ready", text, status=503, retry_after_seconds=1)
    if state.ready:
        return {"status": "success"}
    leaderless = [shard.shard for shard in state.shards if shard.primary is None]
    text = f"nobody leads {', '.join(leaderless)}" if leaderless else "there is no table yet; POST /init makes one"
    raise ApiError("not_ready", text, status=503, retry_after_seconds=1, extra={"shards": leaderless})


def _shard(shard: ShardState, key: str) -> dict[str, Any]:
    return {
        f"{key}_low": shard.low,
        "Shard_id": shard.shard,
        "Shard_size": shard.size,
        "primary": shard.primary,
        "group_id": shard.group_id,
        "doing": shard.doing,
        "replicas": [msgspec.to_builtins(replica) for replica in shard.replicas],
    }


def _shards_by_server(state: ClusterState) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {server.name: [] for server in state.servers}
    for shard in state.shards:
        for replica in shard.replicas:
            held.setdefault(replica.server, []).append(shard.shard)
    return held


def _without(value: msgspec.Struct, field: str) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    del fields[field]
    return fields
