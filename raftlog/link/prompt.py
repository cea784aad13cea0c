"""Writing to a socket at once instead of in the reactor's next turn.

`transport.write` keeps the bytes, asks the poller to say when there is room, is told so in the next turn, writes, and
tells the poller to stop: two system calls and half a turn of the reactor more than the one call that sends a small
message, for which there nearly always is room. What is sent at once also arrives that much earlier.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because Twisted's transports are untyped.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def prompt_write(transport: Any) -> Callable[[bytes], None]:
    """Return a function that does what `transport.write` does, at once if nothing is waiting to be written already.

    Whatever the socket does not take goes to `transport.write`, and with it back-pressure, errors and everything on
    transports that are no plain TCP. The transport must not become a TLS one later.
    """
    if not isinstance(transport, Connection) or transport.TLS:
        return transport.write  # type: ignore[no-any-return]
    return _Prompt(transport).write


class _Prompt:
    __slots__ = ("_transport",)

    def __init__(self, transport: Connection) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        transport = self._transport
        # There is no public way to learn whether something waits: what was taken last is in the private one.
        if transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting or not transport.connected:
            transport.write(data)
            return
        sent = transport.writeSomeData(data)
        # An error instead of a count comes again when the transport tries, which then ends the connection in order.
        if not isinstance(sent, int):
            transport.write(data)
        elif sent < len(data):
            transport.write(data[sent:])
