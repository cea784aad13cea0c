"""The body of DELETE /rm (and POST), every check of it that needs no state, and the text of its success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, decode_strict, fields
from lbnode.wire.parts import brief, parse_count, parse_flag


@dataclass(frozen=True, slots=True)
class RemoveRequest:
    """So many servers are to go, `servers` among them; the others are the balancer's choice.

    `rebalance` keeps each shard's number of copies as far as the servers that remain can hold them.
    """

    count: int
    servers: tuple[str, ...]
    rebalance: bool


def parse_remove(headers: Headers, body: bytes) -> RemoveRequest:
    """Return the checked request; raises ApiError (400)."""
    present = fields(decode_strict(headers, body), "n", "servers", "hostnames", "rebalance")
    servers = _servers(present)
    if present.get("n") is None and not servers:
        raise ApiError("missing_field", "neither 'n' nor 'servers' is there; the request must have one of them")
    count = parse_count(present["n"], "n") if present.get("n") is not None else len(servers)
    if len(servers) > count:
        raise ApiError("bad_count", "Length of server list is more than removable instances")
    return RemoveRequest(count, servers, parse_flag(present, "rebalance", default=True))


def _servers(present: dict[str, Any]) -> tuple[str, ...]:
    named = present.get("servers", present.get("hostnames"))
    if named is None:
        return ()
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise ApiError("bad_servers", f"'servers' is {brief(named)}; it must be a list of names of servers")
    if len(set(named)) != len(named):
        raise ApiError("duplicate_server", "a server is named twice; name each once")
    return tuple(named)


def servers_removed(total: int, names: Sequence[str]) -> bytes:
    """Return the answer of /rm; `total` counts the servers that are left."""
    return msgspec.json.encode({"message": {"N": total, "servers": names}, "status": "successful"})
