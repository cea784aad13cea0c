"""One port for several processes: each has a listening socket of its own, and the kernel deals connections out.

With SO_REUSEPORT (socket(7)) a connection goes to one of the sockets by a hash of its addresses, so 100 connections to
two processes are dealt out like coins: 43 to 57 is usual, 34 to 66 the worst seen in 24 tries. With one socket for
all, whoever wakes up first empties the queue: 0 to 100 was seen as often as not, and kept connections stay where they
are. The connections that wait in the queue of a process that dies are reset; the others never hear of it.

The kernel lets any process of the same user join, a second balancer started by mistake too. `free_port` therefore looks
first whether the port is free for oneself alone.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because the port of twisted.internet.tcp that this file extends is untyped.

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Port

#: Workers of a balancer that was killed let go of their port within this time.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


class _SharedPort(Port):
    def createInternetSocket(self) -> socket.socket:  # noqa: N802 - Twisted's name
        created: socket.socket = super().createInternetSocket()
        created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return created


class SharingReactor:
    """The part of a reactor that TCP endpoints listen with; other processes of the user may listen there too."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(  # noqa: N802 - Twisted's name
        self, port: int, factory: ServerFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """See IReactorTCP.listenTCP."""
        shared = _SharedPort(port, factory, backlog, interface, self._reactor)
        shared.startListening()
        return shared


class FreePort(NamedTuple):
    """Where somebody may listen: the description of the endpoint, and the URL of what listens there."""

    endpoint: str
    url: str


async def free_port(reactor: Any, description: str) -> FreePort:
    """Return a TCP endpoint at which nobody listens; port 0 becomes one that is free.

    Raises CannotListenError if somebody does, ValueError if the description is of no TCP endpoint.
    """
    until_seconds = reactor.seconds() + _PATIENCE_SECONDS
    while True:
        try:
            port: IListeningPort = await serverFromString(reactor, description).listen(_Nobody())
            break
        except CannotListenError:
            if reactor.seconds() >= until_seconds:
                raise
            await deferLater(reactor, _LOOK_SECONDS)
    address: Any = port.getHost()
    await maybeDeferred(port.stopListening)
    if address.type != "TCP":
        raise ValueError("only a TCP port can be shared by workers")
    endpoint = f"tcp:{address.port}:interface={quoteStringArgument(address.host)}"
    return FreePort(endpoint, f"http://{address.host}:{address.port}")


class _Nobody(Factory):
    noisy = False
