"""Where a server listens: as it was told, else where it did before, else on a free port of the loopback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from dbnode.wire import Endpoint

_log = Logger()

#: A port of the system's choice, for this machine only.
EPHEMERAL = "tcp:0:interface=127.0.0.1"


def descriptions(told: str | None, before: Endpoint | None) -> list[str]:
    """Return the endpoint strings to try, in order."""
    if told is not None:
        return [told]
    if before is None:
        return [EPHEMERAL]
    return [f"tcp:{before.port}:interface={quoteStringArgument(before.host)}", EPHEMERAL]


async def listen(
    reactor: Any, candidates: list[str], start: Callable[[IStreamServerEndpoint], Deferred[IListeningPort]]
) -> IListeningPort:
    """`start` listening on the first of the endpoint strings that is free; CannotListenError if none is."""
    for description in candidates[:-1]:
        try:
            return await start(serverFromString(reactor, description))
        except CannotListenError as error:
            _log.warn("{endpoint} is taken, trying another: {error}", endpoint=description, error=error)
    return await start(serverFromString(reactor, candidates[-1]))


def address(port: IListeningPort) -> Endpoint:
    """Return where others reach a port; one that listens everywhere is named by the loopback."""
    host: Any = port.getHost()
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    return Endpoint(anywhere.get(host.host, host.host), host.port)
