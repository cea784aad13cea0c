"""Where the servers and clients of a test live, and what is lost between them.

Each implementation breaks any direction between any two places by itself: `NamespaceNetwork` drops packets between
network namespaces and works as a broken cable does. A server is told the address at which it reaches each of the
others, as a balancer would tell it, so no server knows that it is being tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from dbnode.wire import Endpoint
from raftlog.testing.namespaces import Namespaces

#: Makes the endpoint that a client dials from.
Dial = Callable[[Endpoint], IStreamClientEndpoint]


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

    def lose(self, shares: Mapping[tuple[str, str], float]) -> None:
        """Lose a share of what goes from one place to another, until told otherwise; {} heals everything."""

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

    def lose(self, shares: Mapping[tuple[str, str], float]) -> None:
        """See Network.lose."""
        assert not shares, "nothing is lost within a machine"

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

    def lose(self, shares: Mapping[tuple[str, str], float]) -> None:
        """See Network.lose."""
        self._namespaces.lose(shares)

    async def close(self) -> None:
        """See Network.close."""
        self._namespaces.close()
