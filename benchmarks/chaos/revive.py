"""Starts dead servers by hand, for a balancer that does not do it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.task import deferLater

from benchmarks.spawn import Cluster

#: What a balancer that respawns servers gets for it.
_PATIENCE_SECONDS = 3.0


async def revive(reactor: Any, cluster: Cluster | None, servers: Collection[str], after_seconds: float) -> None:
    """Start those of the servers that nobody has started after a while, with the command that the README names.

    At a cluster that is not ours nothing is started: it would outlive us, or end with us.
    """
    if cluster is None:
        return
    await deferLater(reactor, _PATIENCE_SECONDS + after_seconds)
    for name in servers:
        cluster.restart(name)
