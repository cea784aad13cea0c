"""The cluster that is broken: one of chaos's own, or a running one of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from benchmarks.chaos.faults import BALANCER_KINDS, CUT_KINDS, RESIZE_KINDS, Kind
from benchmarks.chaos.places import Places
from benchmarks.door import Door, UnreachableError
from benchmarks.process import answers
from benchmarks.spawn import Cluster
from dbnode.wire import Endpoint

_HEARTBEAT_SECONDS = 1.0


class Server(Protocol):
    """A database server that can be broken."""

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        ...

    @property
    def http(self) -> Endpoint:
        """Where it serves HTTP."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it runs, paused or not."""
        ...

    def signal(self, number: int) -> None:
        """Send it a signal if it runs."""

    def wipe(self) -> None:
        """Remove its data, once it was killed."""


class Site:
    """A balancer at `door`, its servers as `look` finds them; `own` is all of it if we started it.

    `places` is where the servers are, if they can be cut off there; `doors` are those of several balancers.
    """

    def __init__(
        self,
        reactor: Any,
        door: Door,
        look: Callable[[], Iterable[Server]],
        own: Cluster | None,
        places: Places | None = None,
        doors: Sequence[Door] = (),
    ) -> None:
        self._reactor = reactor
        self.door = door
        #: Where clients knock, one after the other.
        self.doors = doors or (door,)
        self.own = own
        self.places = places
        self._look = look

    def servers(self) -> dict[str, Server]:
        """Return the servers by name, running or not; one whose data was wiped is not among them."""
        return {server.name: server for server in self._look()}

    async def serves(self, name: str) -> bool:
        """Return whether a server runs and answers."""
        server = self.servers().get(name)
        if server is None or not server.alive:
            return False
        endpoint: Endpoint = server.http
        door = Door(self._reactor, endpoint.host, endpoint.port)
        with suppress(UnreachableError):
            return (await door.ask("GET", "/heartbeat", deadline_seconds=_HEARTBEAT_SECONDS)).status == 200
        return False

    async def balancer_serves(self) -> bool:
        """Return whether the balancer answers."""
        return await answers(self.door, "GET", "/healthz")

    async def ready(self) -> bool:
        """Return whether every shard has a leader."""
        return await answers(self.door, "GET", "/readyz")

    async def placement(self) -> dict[str, list[str]]:
        """Return which shards each server holds, as the balancer says."""
        placed: dict[str, list[str]] = (await self.door.json("GET", "/status"))["servers"]
        return placed

    async def all_serving(self) -> bool:
        """Return whether the balancer sees every replica serving, and has nothing to do about any."""
        with suppress(UnreachableError):
            status = await self.door.json("GET", "/status")
            shards = status["shards"]
            states = {replica["state"] for shard in shards for replica in shard["replicas"]}
            busy = status["operation"] is not None or any(shard["doing"] for shard in shards)
            return states == {"serving"} and not busy
        return False

    async def kinds(self) -> list[Kind]:
        """Return the faults that can be done to this cluster."""
        impossible = frozenset() if self.own is not None else BALANCER_KINDS
        if self.places is None:
            impossible |= CUT_KINDS
        if not await self._resizes():
            impossible |= RESIZE_KINDS
        return [kind for kind in Kind if kind not in impossible]

    async def _resizes(self) -> bool:
        """Return whether the balancer can add and remove servers: then it knows /add, which refuses this."""
        return (await self.door.ask("POST", "/add", {})).status == 400
