"""The body of POST /init, and every check of it that needs no state: a refused request has touched nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, decode_strict, fields, need
from dbnode.schema import Schema, schema_from_json
from lbnode.wire.parts import (
    InitLimits,
    InitShard,
    brief,
    check_name,
    parse_count,
    parse_flag,
    parse_shard_names,
    parse_shards,
)

#: Copies of a shard where the request does not say; one server may then fail (Raft §5.1).
REPLICAS_DEFAULT = 3


@dataclass(frozen=True, slots=True)
class InitRequest:
    """A table that is asked for; shards in order of `low`, without overlap.

    `servers` maps each server to the shards named for it, an empty tuple where the balancer is to choose; then each
    shard shall have `replicas` copies in the end. `replace` drops a table that exists.
    """

    schema: Schema
    shards: tuple[InitShard, ...]
    servers: Mapping[str, tuple[str, ...]]
    replicas: int
    replace: bool


def parse_init(headers: Headers, body: bytes, limits: InitLimits) -> InitRequest:
    """Return the checked request; raises ApiError (400) that names what is wrong."""
    received = decode_strict(headers, body)
    present = fields(received, "N", "schema", "shards", "servers", "hostnames", "replicas", "replace")
    schema = schema_from_json(need(present, "schema"))
    shards = _shards(need(present, "shards"), schema.key, limits)
    servers = _servers(present, limits)
    _check_placement(servers, {shard.shard for shard in shards})
    return InitRequest(
        schema=schema,
        shards=shards,
        servers=servers,
        replicas=_replicas(present, len(servers)),
        replace=parse_flag(present, "replace"),
    )


def _shards(value: Any, key: str, limits: InitLimits) -> tuple[InitShard, ...]:
    if not isinstance(value, list) or not value:
        raise ApiError("bad_shard", f"'shards' is {brief(value)}; it must be a list of at least one shard")
    if len(value) > limits.shards_max:
        raise ApiError("too_many_shards", f"{len(value)} shards are too many; at most {limits.shards_max} are possible")
    return parse_shards(value, key)


def _servers(present: dict[str, Any], limits: InitLimits) -> dict[str, tuple[str, ...]]:
    """Return the shards named for each server; the servers are N unless they are named."""
    named = present.get("servers", present.get("hostnames"))
    if named is not None and not isinstance(named, dict):
        raise ApiError("bad_servers", f"'servers' is {brief(named)}; it must be an object of server names")
    count = parse_count(present["N"], "N") if present.get("N") is not None else None
    if not named and count is None:
        raise ApiError("missing_field", "neither 'N' nor 'servers' is there; the request must have one of them")
    total = len(named) if named else count or 0
    if total > limits.servers_max:
        raise ApiError("too_many_servers", f"{total} servers are too many; at most {limits.servers_max} are possible")
    if not named:
        return {f"Server{number}": () for number in range(total)}
    return {check_name(name, "server"): parse_shard_names(name, shards) for name, shards in named.items()}


def _check_placement(servers: dict[str, tuple[str, ...]], shards: set[str]) -> None:
    for server, names in servers.items():
        unknown = [name for name in names if name not in shards]
        if unknown:
            raise ApiError(
                "unknown_shard", f"{server!r} names the shard {unknown[0]!r}, which 'shards' does not define"
            )
    unplaced = sorted(shards.difference(*servers.values()))
    if unplaced and all(servers.values()):
        raise ApiError(
            "unplaced_shard",
            f"no server names the shard {unplaced[0]!r}; name it for one, or give a server [] for the balancer to fill",
        )


def _replicas(present: dict[str, Any], servers: int) -> int:
    if present.get("replicas") is None:
        return min(REPLICAS_DEFAULT, servers)
    replicas = parse_count(present["replicas"], "replicas")
    if replicas > servers:
        raise ApiError("too_many_replicas", f"{replicas} copies need as many servers; there would be {servers}")
    return replicas
