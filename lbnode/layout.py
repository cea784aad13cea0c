"""Where everything is, as the router sees it: shards, their replicas, and the servers' addresses.

A layout is a value that the controller derives from the catalog and hands to the router whenever the catalog has
changed. It says nothing about health or leadership: those are learned on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbnode.wire import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbnode.schema import Schema


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """One shard: ids `low` up to but not including `low + size`; `replicas` maps replica ids to server names.

    Replicas on `leaving` servers may still lead, but are about to go: nobody should be sent there to read.
    """

    group_id: int
    shard: str
    low: int
    size: int
    replicas: Mapping[int, str]
    leaving: frozenset[str] = frozenset()

    @property
    def readers(self) -> tuple[str, ...]:
        """The servers to read from: those that stay, or all if none does."""
        servers = tuple(self.replicas.values())
        return tuple(server for server in servers if server not in self.leaving) or servers

    @property
    def high(self) -> int:
        """Return the last id that belongs to the shard."""
        return self.low + self.size - 1


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server takes link connections (data) and HTTP (control)."""

    link: Endpoint
    http: Endpoint


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole table: `shards` in order of `low` and without overlap, `servers` by name."""

    cluster_id: str
    schema: Schema
    shards: tuple[ShardLayout, ...]
    servers: Mapping[str, ServerAddress]
