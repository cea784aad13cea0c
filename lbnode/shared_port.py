"""One port for several processes: each has a listening socket of its own, and the kernel deals connections out.

With SO_REUSEPORT (socket(7)) a connection goes to one of the sockets by a hash of its addresses, so 100 connections to
two processes are dealt out like coins: 43 to 57 is usual, 34 to 66 the worst seen in 24 tries. With one socket for
all, whoever wakes up first empties the queue: 0 to 100 was seen as often as not, and kept connections stay where they
are. The connections that wait in the queue of a process that dies are reset; the others never hear of it.

The kernel lets any process of the same user join, a second balancer started by mistake too. `until_free` therefore
looks first whether the port is free for oneself alone.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because the port of twisted.internet.tcp that this file extends is untyped.

from __future__ import annotations

import socket
from typing import Any, NoReturn

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Port
from twisted.protocols.tls import TLSMemoryBIOFactory

from lbnode.address import url_of

#: Workers of a balancer that was killed let go of their port within this time.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


class _SharedPort(Port):
    def createInternetSocket(self) -> socket.socket:  # noqa: N802 - Twisted's name
        created: socket.socket = super().createInternetSocket()
        created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return created


class SharingReactor:
    """The part of a reactor that TCP and SSL endpoints listen with, at ports that other processes may share.

    Raises ValueError for other endpoints, and for port 0, of which everybody would get another one.
    """

    def __init__(self, reactor: Any, port: type[Port] = _SharedPort) -> None:
        self._reactor = reactor
        self._port = port

    def listenTCP(  # noqa: N802 - Twisted's name
        self, port: int, factory: ServerFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """See IReactorTCP.listenTCP."""
        if port == 0:
            raise ValueError("port 0 cannot be shared; name one")
        shared = self._port(port, factory, backlog, interface, self._reactor)
        shared.startListening()
        return shared

    def listenSSL(  # noqa: N802 - Twisted's name
        self,
        port: int,
        factory: ServerFactory,
        contextFactory: Any,  # noqa: N803 - Twisted's name
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """See IReactorSSL.listenSSL."""
        inside: Any = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, inside, backlog, interface)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse every other way to listen."""
        raise ValueError(f"only TCP ports can be shared ({name})")


async def until_free(reactor: Any, description: str) -> str:
    """Wait until nobody listens at an endpoint, and return the URL of whoever does next.

    Raises CannotListenError if somebody goes on listening, ValueError if it is none that can be shared.
    """
    alone = SharingReactor(reactor, Port)
    until_seconds = reactor.seconds() + _PATIENCE_SECONDS
    while True:
        try:
            port: IListeningPort = await serverFromString(alone, description).listen(_Nobody())
        except CannotListenError:
            if reactor.seconds() >= until_seconds:
                raise
            await deferLater(reactor, _LOOK_SECONDS)
        else:
            url = url_of(port, description)
            await maybeDeferred(port.stopListening)
            return url


class _Nobody(Factory):
    noisy = False
