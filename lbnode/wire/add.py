"""The body of POST /add, every check of it that needs no state, and the text of its success.

A server's name may be a template, "Server[5]" or "Server$": the balancer puts an unused random number in the place of
what is in the brackets (which means nothing), or of the dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, decode_strict, fields
from lbnode.wire.parts import (
    InitLimits,
    InitShard,
    brief,
    check_name,
    parse_count,
    parse_shard_names,
    parse_shards,
)

_TEMPLATE = re.compile(r"(?P<prefix>.*)(\[\d*\]|\$)", re.DOTALL)
#: Names that answers show as the course does.
_NUMBERED = re.compile(r"Server(?P<number>\d+)")


@dataclass(frozen=True, slots=True)
class AddRequest:
    """Servers that are asked for by name or template, each with the shards named for it; () leaves that open.

    `shards` are new, in order of `low`. `replicas` is how many copies each shard of the table shall have at least,
    None to leave that as it is.
    """

    servers: Mapping[str, tuple[str, ...]]
    shards: tuple[InitShard, ...]
    replicas: int | None


def parse_add(headers: Headers, body: bytes, key: str, limits: InitLimits) -> AddRequest:
    """Return the checked request for a table with the key column `key`; raises ApiError (400)."""
    received = decode_strict(headers, body)
    present = fields(received, "n", "servers", "hostnames", "new_shards", "replicas")
    servers = _servers(present)
    shards = present.get("new_shards") or []
    if not isinstance(shards, list):
        raise ApiError("bad_shard", f"'new_shards' is {brief(shards)}; it must be a list of shards")
    if len(servers) > limits.servers_max or len(shards) > limits.shards_max:
        at_most = f"at most {limits.servers_max} servers and {limits.shards_max} shards are possible"
        raise ApiError("too_many_servers", f"{len(servers)} servers and {len(shards)} shards are asked for; {at_most}")
    replicas = present.get("replicas")
    return AddRequest(
        servers=servers,
        shards=parse_shards(shards, key),
        replicas=parse_count(replicas, "replicas") if replicas is not None else None,
    )


def _servers(present: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    named = present.get("servers", present.get("hostnames"))
    if named is None:
        named = {}
    if not isinstance(named, dict):
        raise ApiError("bad_servers", f"'servers' is {brief(named)}; it must be an object of server names")
    count = parse_count(present["n"], "n") if present.get("n") is not None else len(named)
    if count > len(named):
        raise ApiError("bad_count", "Number of new servers (n) is greater than newly added instances")
    if not named:
        raise ApiError("missing_field", "field 'servers' is missing; it must name the new servers")
    for name in named:
        prefix = template_prefix(name)
        check_name(name if prefix is None else f"{prefix}0", "server")
    return {name: parse_shard_names(name, shards) for name, shards in named.items()}


def template_prefix(name: str) -> str | None:
    """Return what stands before the number of servers that are made from a template, None for a name that is none."""
    template = _TEMPLATE.fullmatch(name)
    return template["prefix"] if template else None


def servers_added(total: int, names: Sequence[str]) -> bytes:
    """Return the answer of /add; `total` counts the servers that there are now."""
    shown = [_NUMBERED.sub(r"Server:\g<number>", name) if _NUMBERED.fullmatch(name) else name for name in names]
    listed = " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part)
    return msgspec.json.encode({"N": total, "message": f"Add {listed}", "status": "successful"})
