"""What the controller asks of servers: over HTTP what they shall hold, over links what their replicas are doing.

During a replacement two servers of one name run side by side; whoever asks about the new ones needs links of its own
(LinkWatch), since the router's go to the old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.client import RequestFailed, Requests
from dbnode.wire import Endpoint, ManagedConfig, Reconfigure, Refused, ReplicaStatus, Status, Statuses, Transfer
from lbnode.concurrent import together
from lbnode.leaders import Handover
from lbnode.membership import Change
from raftlog.link import Connection, Lane

#: How long a leader may take to say that it begins to hand over.
_HAND_OVER_SECONDS = 1.0
#: How long it may take until a change of membership is in effect at the leader.
_RECONFIGURE_SECONDS = 5.0


class ServerControl(Protocol):
    """The control plane of servers; dbnode.client.Control is the real one. Failures are ControlFailed."""

    async def heartbeat(self, server: Endpoint, timeout_seconds: float) -> None:
        """Return if the server is alive."""

    async def configure(
        self, server: Endpoint, schema: dict[str, list[str]], cluster: ManagedConfig, timeout_seconds: float
    ) -> None:
        """Tell a server what it holds; returns once its replicas exist durably."""


class ReplicaWatch(Protocol):
    """Asks a set of servers what their replicas are doing."""

    def set_servers(self, servers: Mapping[str, Endpoint]) -> None:
        """Ask these from now on, by name, at their link addresses."""

    def ask(self, timeout_seconds: float) -> Deferred[dict[str, tuple[ReplicaStatus, ...]]]:
        """Ask all servers at once; fires with the answers of those that gave one in time. Never fails."""

    def hand_over(self, handover: Handover) -> Deferred[None]:
        """Ask a leader to hand over; fires when it has answered or not, and never fails: who leads is seen later."""

    def reconfigure(self, change: Change) -> Deferred[str]:
        """Ask a leader to change its group's membership; never fails.

        Fires with "" once the change is in effect there, else with why it is not, or not for all that is known.
        """

    def close(self) -> Deferred[None]:
        """Close the connections."""


class WatchedLinks(Protocol):
    """What a watch needs of links (raftlog.link.Links)."""

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial a peer."""

    def remove_peer(self, name: str) -> None:
        """Forget a peer."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item."""

    def watch(self, on_up: Callable[[str, Lane], None], on_down: Callable[[str, Lane], None]) -> None:
        """Call these when a lane comes up or goes down."""

    def startService(self) -> None:
        """Begin to dial."""

    def stopService(self) -> Deferred[None]:
        """Close everything."""


class SharedWatch:
    """ReplicaWatch over requests that others make too; whoever looks after their links has the same servers."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._servers: list[str] = []

    def set_servers(self, servers: Mapping[str, Endpoint]) -> None:
        """See ReplicaWatch.set_servers."""
        self._servers = list(servers)

    def ask(self, timeout_seconds: float) -> Deferred[dict[str, tuple[ReplicaStatus, ...]]]:
        """See ReplicaWatch.ask."""
        return Deferred.fromCoroutine(self._ask(timeout_seconds))

    async def _ask(self, timeout_seconds: float) -> dict[str, tuple[ReplicaStatus, ...]]:
        asked = list(self._servers)
        answers = await together(self._ask_one(server, timeout_seconds) for server in asked)
        return {server: replicas for server, replicas in zip(asked, answers, strict=True) if replicas is not None}

    async def _ask_one(self, server: str, timeout_seconds: float) -> tuple[ReplicaStatus, ...] | None:
        try:
            reply = await self._requests.ask(server, Status, timeout_seconds)
        except RequestFailed:
            return None
        return (*reply.replicas, *reply.lost) if isinstance(reply, Statuses) else None

    def hand_over(self, handover: Handover) -> Deferred[None]:
        """See ReplicaWatch.hand_over."""

        def transfer(request_id: int) -> Transfer:
            return Transfer(request_id, handover.group_id, handover.replica_id)

        asked = self._requests.ask(handover.leader, transfer, _HAND_OVER_SECONDS)
        return asked.addCallbacks(lambda _: None, lambda failure: failure.trap(RequestFailed) and None)

    def reconfigure(self, change: Change) -> Deferred[str]:
        """See ReplicaWatch.reconfigure."""

        def request(request_id: int) -> Reconfigure:
            return Reconfigure(request_id, change.group_id, change.change)

        def refused(failure: Failure) -> str:
            failure.trap(RequestFailed)
            return str(failure.value)

        asked = self._requests.ask(change.leader, request, _RECONFIGURE_SECONDS)
        return asked.addCallbacks(lambda reply: reply.message if isinstance(reply, Refused) else "", refused)

    def close(self) -> Deferred[None]:
        """See ReplicaWatch.close."""
        self._servers = []
        return succeed(None)


class LinkWatch(SharedWatch):
    """ReplicaWatch over links of its own, which `make_links` returns unstarted for a receiver of frames."""

    def __init__(
        self, clock: IReactorTime, make_links: Callable[[Callable[[Connection, list[Any]], None]], WatchedLinks]
    ) -> None:
        self._links = make_links(lambda _, items: self._requests.received(items))
        self._dialled: set[str] = set()
        self._open = False
        super().__init__(Requests(clock, self._links))

    def set_servers(self, servers: Mapping[str, Endpoint]) -> None:
        """See ReplicaWatch.set_servers. The first call begins to dial."""
        if not self._open:
            self._open = True
            self._links.watch(lambda name, lane: None, self._requests.dropped)
            self._links.startService()
        for name in self._dialled - servers.keys():
            self._links.remove_peer(name)
        for name, endpoint in servers.items():
            self._links.set_peer(name, endpoint)
        self._dialled = set(servers)
        super().set_servers(servers)

    def close(self) -> Deferred[None]:
        """See ReplicaWatch.close."""
        self._requests.stop()
        return self._links.stopService() if self._open else succeed(None)
