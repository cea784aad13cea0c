"""When each shard could not serve because of the faults alone: only then may a client see an error.

A shard is out while at most half of its replicas' servers run, or the balancer is gone. At all other times the
balancer holds and retries requests, and an error that a client sees is a failure of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Window:
    began: float
    #: None while it lasts.
    ended: float | None = None


class Outages:
    """Told of the faults as they happen; `clock` is that of the operations."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._replicas: dict[str, set[str]] = {}
        self._down: set[str] = set()
        self._balancer_down = False
        self._windows: dict[str, list[_Window]] = {}

    def place(self, servers: Mapping[str, Iterable[str]]) -> None:
        """Take which shards each server holds."""
        self._replicas = {}
        for server, shards in servers.items():
            for shard in shards:
                self._replicas.setdefault(shard, set()).add(server)
        self._note()

    def down(self, servers: Collection[str]) -> None:
        """Say that these servers are about to be taken down."""
        self._down.update(servers)
        self._note()

    def up(self, servers: Collection[str]) -> None:
        """Say that these servers run again."""
        self._down.difference_update(servers)
        self._note()

    def balancer_down(self) -> None:
        """Say that the balancer is about to be taken down."""
        self._balancer_down = True
        self._note()

    def balancer_up(self) -> None:
        """Say that the balancer answers again."""
        self._balancer_down = False
        self._note()

    def excuse(self, shards: Collection[str], invoked: float, returned: float) -> bool:
        """Return whether one of the shards was out at any time between these two."""
        return any(
            window.began <= returned and (window.ended is None or window.ended >= invoked)
            for shard in shards
            for window in self._windows.get(shard, ())
        )

    def _note(self) -> None:
        now = self._clock()
        for shard, replicas in self._replicas.items():
            windows = self._windows.setdefault(shard, [])
            lasting = bool(windows) and windows[-1].ended is None
            out = self._balancer_down or 2 * len(replicas - self._down) <= len(replicas)
            if out and not lasting:
                windows.append(_Window(now))
            elif lasting and not out:
                windows[-1].ended = now
