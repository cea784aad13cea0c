"""Where the servers and clients of a test live, and what is the trouble between them.

Each implementation breaks any direction between any two places by itself: `NamespaceNetwork` drops packets between
network namespaces and works as a broken cable does; `ProxyNetwork` has a TCP proxy on each way, which can also be slow,
narrow, or silent for one lane of links. A server is told the address at which it reaches each of the others, as a
balancer would tell it, so no server knows that it is being tested.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from dbnode.wire import Endpoint
from raftlog.link import Lane
from raftlog.testing.namespaces import Namespaces
from raftlog.testing.proxy import FINE, Conditions, Proxy

#: Makes the endpoint that a client dials from.
Dial = Callable[[Endpoint], IStreamClientEndpoint]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to what goes from one place to another: a share of it is lost, or it is late or squeezed.

    Packets that get lost TCP sends again, so to servers a share below 1 is only slow. `lane`: of links, only this one.
    """

    share: float = 0.0
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    lane: Lane | None = None


#: By (source, destination).
Troubles = Mapping[tuple[str, str], Trouble]


class Network(Protocol):
    """Places by name. What is lost is lost silently: nobody hears of it but by waiting."""

    def open(self, servers: Sequence[str], clients: Sequence[str]) -> None:
        """Make the places."""

    def command(self, server: str) -> Sequence[str]:
        """Return what stands in front of a server's command."""

    def interface(self, server: str) -> str:
        """Return the address at which a server listens."""

    async def way(self, source: str, server: str, endpoint: Endpoint) -> Endpoint:
        """Return at which address `source` reaches what a server listens at."""

    def dial(self, client: str) -> Dial | None:
        """Return how a client dials; None: as everybody does."""

    def impose(self, troubles: Troubles) -> None:
        """Let these be the troubles until told otherwise; {} heals everything."""

    async def close(self) -> None:
        """Remove what was made."""


class Loopback:
    """The one place that is always there; nothing is ever lost."""

    def open(self, servers: Sequence[str], clients: Sequence[str]) -> None:
        """See Network.open."""

    def command(self, server: str) -> Sequence[str]:
        """See Network.command."""
        return ()

    def interface(self, server: str) -> str:
        """See Network.interface."""
        return "127.0.0.1"

    async def way(self, source: str, server: str, endpoint: Endpoint) -> Endpoint:
        """See Network.way."""
        return endpoint

    def dial(self, client: str) -> Dial | None:
        """See Network.dial."""
        return None

    def impose(self, troubles: Troubles) -> None:
        """See Network.impose."""
        assert not troubles, "nothing is lost within a machine"

    async def close(self) -> None:
        """See Network.close."""


class NamespaceNetwork(Loopback):
    """Every server in a network namespace of its own, every client at an address of its own. Needs root."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._namespaces = Namespaces()

    def open(self, servers: Sequence[str], clients: Sequence[str]) -> None:
        """See Network.open. Raises NamespacesUnavailable."""
        self._namespaces.open()
        for server in servers:
            self._namespaces.add_host(server)
        for client in clients:
            self._namespaces.add_client(client)

    def command(self, server: str) -> Sequence[str]:
        """See Network.command."""
        return self._namespaces.command(server)

    def interface(self, server: str) -> str:
        """See Network.interface."""
        return self._namespaces.address(server)

    def dial(self, client: str) -> Dial | None:
        """See Network.dial."""
        source = (self._namespaces.address(client), 0)
        return lambda to: TCP4ClientEndpoint(self._reactor, to.host, to.port, timeout=5, bindAddress=source)

    def impose(self, troubles: Troubles) -> None:
        """See Network.impose. Packets are lost here but never late: for that a kernel needs netem, and few have it."""
        for trouble in troubles.values():
            assert trouble == Trouble(trouble.share), trouble
        self._namespaces.lose({way: trouble.share for way, trouble in troubles.items()})

    async def close(self) -> None:
        """See Network.close."""
        self._namespaces.close()


class ProxyNetwork(Loopback):
    """Everybody on the loopback, with a proxy on each way from one to another. Needs nothing."""

    def __init__(self, reactor: Any, rng: random.Random) -> None:
        self._reactor = reactor
        self._rng = rng
        self._proxies: dict[tuple[str, str], Proxy] = {}

    async def way(self, source: str, server: str, endpoint: Endpoint) -> Endpoint:
        """See Network.way."""
        if source == server:
            return endpoint
        self._proxies[source, server] = proxy = Proxy(self._reactor, self._rng, endpoint)
        return await proxy.open()

    def impose(self, troubles: Troubles) -> None:
        """See Network.impose."""
        for (source, server), proxy in self._proxies.items():
            there, back = ((source, server), (server, source))
            proxy.impose(_conditions(troubles.get(there)), _conditions(troubles.get(back)))

    async def close(self) -> None:
        """See Network.close."""
        for proxy in self._proxies.values():
            await proxy.close()


def _conditions(trouble: Trouble | None) -> Conditions:
    if trouble is None:
        return FINE
    assert trouble.share in (0, 1), "a proxy holds everything or nothing"
    return Conditions(
        trouble.share == 1, trouble.delay_seconds, trouble.jitter_seconds, trouble.bytes_per_second, trouble.lane
    )
