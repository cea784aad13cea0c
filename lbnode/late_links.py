"""Links of a process that does not know its cluster's id yet: nothing is sent before it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from lbnode.control import WatchedLinks
from raftlog.link import Endpoint, Lane


class _Send(Protocol):
    def __call__(self, name: str, lane: Lane, item: Any) -> bool: ...


class LateLinks:
    """WatchedLinks that `make` returns, unstarted, for a cluster's id; `on_down` hears of lanes that went down."""

    def __init__(self, make: Callable[[str], WatchedLinks], on_down: Callable[[str, Lane], None]) -> None:
        self._make = make
        self._on_down = on_down
        self._links: WatchedLinks | None = None
        #: Queue an item for a peer; False if it was dropped. The links' own once there are any: it is called for each
        #: request.
        self.send: _Send = _dropped

    def open(self, cluster_id: str) -> None:
        """Begin to dial, as a member of this cluster. Further calls do nothing: a process stays with its cluster."""
        if self._links is not None:
            return
        self._links = links = self._make(cluster_id)
        links.watch(lambda name, lane: None, self._on_down)
        links.startService()
        self.send = links.send

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial a peer; only after `open`."""
        assert self._links is not None
        self._links.set_peer(name, endpoint)

    def remove_peer(self, name: str) -> None:
        """Forget a peer; only after `open`."""
        assert self._links is not None
        self._links.remove_peer(name)

    def close(self) -> Deferred[None]:
        """Close everything that was opened."""
        return self._links.stopService() if self._links is not None else succeed(None)


def _dropped(name: str, lane: Lane, item: Any) -> bool:
    return False
