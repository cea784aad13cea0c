"""The body of POST /init, and every check of it that needs no state: a refused request has touched nothing.

Names are bounded because servers' directories, volumes and paths of GET /read/<server> are made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, decode_strict, fields, need
from dbnode.schema import INT64_MAX, Schema, key_from_json, schema_from_json

#: Copies of a shard where the request does not say; one server may then fail (Raft §5.1).
REPLICAS_DEFAULT = 3
#: The longest name of a server or shard in UTF-8 bytes; file systems end at 255 and our suffixes need some of them.
NAME_BYTES_MAX = 128


@dataclass(frozen=True, slots=True)
class InitShard:
    """A shard that is asked for: ids `low` up to but not including `low + size`."""

    low: int
    shard: str
    size: int

    @property
    def high(self) -> int:
        """Return the last id of the shard."""
        return self.low + self.size - 1


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


@dataclass(frozen=True, slots=True)
class InitLimits:
    """How large a table one request may ask for: a server is a process, a shard a file on each of its servers."""

    servers_max: int = 128
    shards_max: int = 4096


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
        replace=_flag(present, "replace"),
    )


def check_name(name: object, what: str) -> str:
    """Return the name of a server or shard if it can be one; raises ApiError `bad_name`."""
    if not isinstance(name, str) or not name.strip():
        raise ApiError("bad_name", f"{name!r} is no name of a {what}; it must be a string that is not blank")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise ApiError("bad_name", f"the name {name[:40]!r}… of a {what} is longer than {NAME_BYTES_MAX} bytes")
    if "/" in name or name in (".", "..") or not name.isprintable():
        raise ApiError(
            "bad_name", f"{name!r} is no name of a {what}; it must be printable, without '/', not '.' or '..'"
        )
    return name


def _shards(value: Any, key: str, limits: InitLimits) -> tuple[InitShard, ...]:
    if not isinstance(value, list) or not value:
        raise ApiError("bad_shard", f"'shards' is {_brief(value)}; it must be a list of at least one shard")
    if len(value) > limits.shards_max:
        raise ApiError("too_many_shards", f"{len(value)} shards are too many; at most {limits.shards_max} are possible")
    shards = sorted((_shard(one, key) for one in value), key=lambda shard: shard.low)
    twice = [name for name, count in Counter(shard.shard for shard in shards).items() if count > 1]
    if twice:
        raise ApiError("duplicate_shard", f"shard {twice[0]!r} is there more than once; names of shards must differ")
    for one, following in pairwise(shards):
        if following.low <= one.high:
            raise ApiError(
                "overlap",
                f"shards {one.shard!r} ({one.low} to {one.high}) and {following.shard!r} "
                f"({following.low} to {following.high}) overlap; an id must belong to one shard only",
            )
    return tuple(shards)


def _shard(value: Any, key: str) -> InitShard:
    if not isinstance(value, dict):
        raise ApiError("bad_shard", f"a shard is {_brief(value)}; it must be an object")
    low_name = f"{key}_low"
    present = fields(value, low_name, "Stud_id_low", "Shard_id", "Shard_size")
    name = check_name(need(present, "Shard_id"), "shard")
    if name.casefold() == "status":
        raise ApiError("bad_name", f"a shard cannot be called {name!r}: answers have a field of that name")
    low = present["Stud_id_low"] if low_name not in present and "Stud_id_low" in present else need(present, low_name)
    low = key_from_json(low, low_name, f"shard {name!r}")
    size = _count(need(present, "Shard_size"), f"Shard_size of {name!r}")
    if low + size - 1 > INT64_MAX:
        raise ApiError(
            "bad_shard", f"shard {name!r} would end at {low + size - 1}; the last possible id is {INT64_MAX}"
        )
    return InitShard(low, name, size)


def _servers(present: dict[str, Any], limits: InitLimits) -> dict[str, tuple[str, ...]]:
    """Return the shards named for each server; the servers are N unless they are named."""
    named = present.get("servers", present.get("hostnames"))
    if named is not None and not isinstance(named, dict):
        raise ApiError("bad_servers", f"'servers' is {_brief(named)}; it must be an object of server names")
    count = _count(present["N"], "N") if present.get("N") is not None else None
    if not named and count is None:
        raise ApiError("missing_field", "neither 'N' nor 'servers' is there; the request must have one of them")
    total = len(named) if named else count or 0
    if total > limits.servers_max:
        raise ApiError("too_many_servers", f"{total} servers are too many; at most {limits.servers_max} are possible")
    if not named:
        return {f"Server{number}": () for number in range(total)}
    return {check_name(name, "server"): _shard_names(name, shards) for name, shards in named.items()}


def _shard_names(server: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ApiError("bad_servers", f"{server!r} has {_brief(value)}; it must have a list of names of shards")
    if len(set(value)) != len(value):
        raise ApiError("duplicate_shard", f"{server!r} names a shard twice; a server holds one copy of a shard at most")
    return tuple(value)


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
    replicas = _count(present["replicas"], "replicas")
    if replicas > servers:
        raise ApiError("too_many_replicas", f"{replicas} copies need as many servers; there would be {servers}")
    return replicas


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ApiError("bad_count", f"{name} is {_brief(value)}; it must be an integer of at least 1")
    return value


def _flag(present: dict[str, Any], name: str) -> bool:
    value = present.get(name, False)
    if not isinstance(value, bool):
        raise ApiError("bad_flag", f"{name!r} is {_brief(value)}; it must be true or false")
    return value


def _brief(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"
