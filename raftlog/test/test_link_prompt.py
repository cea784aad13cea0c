"""Prompt writes: what is written arrives whole and in order, whether the socket takes it at once or not."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from raftlog.link.prompt import prompt_write


class Reading(Protocol):
    """Collects what arrives until the end."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell all that came."""
        self.ended.callback(b"".join(self.received))


class SocketTests(TestCase):
    async def connection(self) -> tuple[Any, Any]:
        """Return the transport of one end of a connection, and the Reading at the other."""
        from twisted.internet import reactor

        accepted: Deferred[Any] = Deferred()
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(_Accepting(accepted))
        self.addCleanup(port.stopListening)
        reading = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Reading())
        return (await accepted).transport, reading

    async def test_all_arrives_in_order(self) -> None:
        """Small and huge pieces, and those that the transport was given itself, keep their order."""
        transport, reading = await self.connection()
        write = prompt_write(transport)
        pieces = [b"a" * 10, b"b" * 5_000_000, b"c" * 10, b"d" * 300_000, b"e"]

        for piece in pieces:
            write(piece)
            transport.write(b"|")
        transport.loseConnection()

        self.assertEqual(await reading.ended, b"".join(piece + b"|" for piece in pieces))

    async def test_small_pieces_wait_for_no_turn(self) -> None:
        """What the socket takes is sent when the call returns: nothing is left for the reactor to write."""
        transport, reading = await self.connection()
        from twisted.internet import reactor

        prompt_write(transport)(b"now")

        self.assertNotIn(transport, reactor.getWriters())
        transport.loseConnection()
        self.assertEqual(await reading.ended, b"now")

    async def test_connection_that_broke(self) -> None:
        """An error of the socket ends the connection as it does with an ordinary write."""
        transport, reading = await self.connection()
        reading.transport.abortConnection()
        await reading.ended
        lost = transport.protocol.lost

        write = prompt_write(transport)
        while not lost.called:
            write(b"x")
            await _turn()

        self.assertFalse(transport.connected)


class OtherTransportTests(SynchronousTestCase):
    def test_transports_that_are_no_sockets_write_as_usual(self) -> None:
        """Whatever is no plain TCP is written to by its own method."""
        transport = StringTransport()

        prompt_write(transport)(b"usual")

        self.assertEqual(transport.value(), b"usual")


class _Accepting(Factory):
    def __init__(self, accepted: Deferred[Any]) -> None:
        self._accepted = accepted

    def buildProtocol(self, addr: object) -> Protocol:
        return _Accepted(self._accepted)


class _Accepted(Protocol):
    def __init__(self, accepted: Deferred[Any]) -> None:
        self._accepted = accepted
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._accepted.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


def _turn() -> Deferred[None]:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    return deferLater(reactor, 0)
