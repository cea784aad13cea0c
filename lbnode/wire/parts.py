"""What the bodies of /init, /add and /rm have in common: names, shards, counts and flags, checked without any state.

Names are bounded because servers' directories, volumes and paths of GET /read/<server> are made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp import fields, need
from dbnode.schema import INT64_MAX, key_from_json

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
class InitLimits:
    """How large a table there may be: a server is a process, a shard a file on each of its servers."""

    servers_max: int = 128
    shards_max: int = 4096


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


def parse_shards(value: list[Any], key: str) -> tuple[InitShard, ...]:
    """Return the shards of a list in order of `low`; raises ApiError if one is none, or two cannot be together."""
    shards = tuple(sorted((_shard(one, key) for one in value), key=lambda shard: shard.low))
    check_together(shards)
    return shards


def check_together(shards: Sequence[InitShard]) -> None:
    """Check shards in order of `low`: names differ and ranges do not overlap; raises ApiError."""
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


def _shard(value: Any, key: str) -> InitShard:
    if not isinstance(value, dict):
        raise ApiError("bad_shard", f"a shard is {brief(value)}; it must be an object")
    low_name = f"{key}_low"
    present = fields(value, low_name, "Stud_id_low", "Shard_id", "Shard_size")
    name = check_name(need(present, "Shard_id"), "shard")
    if name.casefold() == "status":
        raise ApiError("bad_name", f"a shard cannot be called {name!r}: answers have a field of that name")
    low = present["Stud_id_low"] if low_name not in present and "Stud_id_low" in present else need(present, low_name)
    low = key_from_json(low, low_name, f"shard {name!r}")
    size = parse_count(need(present, "Shard_size"), f"Shard_size of {name!r}")
    if low + size - 1 > INT64_MAX:
        raise ApiError(
            "bad_shard", f"shard {name!r} would end at {low + size - 1}; the last possible id is {INT64_MAX}"
        )
    return InitShard(low, name, size)


def parse_shard_names(server: str, value: Any) -> tuple[str, ...]:
    """Return the names of the shards of a server, which may be none."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ApiError("bad_servers", f"{server!r} has {brief(value)}; it must have a list of names of shards")
    if len(set(value)) != len(value):
        raise ApiError("duplicate_shard", f"{server!r} names a shard twice; a server holds one copy of a shard at most")
    return tuple(value)


def parse_count(value: Any, name: str) -> int:
    """Return a number of at least 1; raises ApiError `bad_count`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ApiError("bad_count", f"{name} is {brief(value)}; it must be an integer of at least 1")
    return value


def parse_flag(present: dict[str, Any], name: str, *, default: bool = False) -> bool:
    """Return a field that is true or false; raises ApiError `bad_flag`."""
    value = present.get(name, default)
    if not isinstance(value, bool):
        raise ApiError("bad_flag", f"{name!r} is {brief(value)}; it must be true or false")
    return value


def brief(value: Any) -> str:
    """Return what a client sent, for an error's text."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"
