"""Ports that several processes share, over real sockets: who gets connections, and who may join."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from lbnode.shared_port import SharingReactor, until_free


class Door(Factory):
    """Counts who knocks."""

    noisy = False

    def __init__(self) -> None:
        self.knocks = 0

    def buildProtocol(self, addr: object) -> Protocol:
        """Count one."""
        self.knocks += 1
        return Protocol()


class SharedPortTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        """Find a free port."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.description = f"tcp:{free.getsockname()[1]}:interface=127.0.0.1"

    async def listen(self, *, shared: bool = True) -> tuple[Door, IListeningPort]:
        """Listen at the port until the test ends."""
        door = Door()
        reactor = SharingReactor(self.reactor) if shared else self.reactor
        port: IListeningPort = await serverFromString(reactor, self.description).listen(door)
        self.addCleanup(port.stopListening)
        return door, port

    def knock(self, times: int) -> None:
        """Open so many connections, until the test ends."""
        for _ in range(times):
            address = ("127.0.0.1", int(self.description.split(":")[1]))
            self.addCleanup(socket.create_connection(address).close)

    async def until(self, condition: Any) -> None:
        """Wait until something is so."""
        while not condition():
            await deferLater(self.reactor, 0.01)

    async def test_connections_are_dealt_out(self) -> None:
        """Everyone who listens gets some; when one stops, the others get all."""
        (one, port), (two, _) = await self.listen(), await self.listen()

        self.knock(40)
        await self.until(lambda: one.knocks + two.knocks == 40)
        self.assertTrue(one.knocks and two.knocks)
        await maybeDeferred(port.stopListening)
        knocks = one.knocks
        self.knock(10)
        await self.until(lambda: one.knocks + two.knocks == 50)
        self.assertEqual(one.knocks, knocks)

    async def test_only_among_those_who_share(self) -> None:
        """Whoever listens for itself alone is not joined, and joins nobody."""
        await self.listen()

        with self.assertRaises(CannotListenError):
            await self.listen(shared=False)

    async def test_waits_until_those_before_have_gone(self) -> None:
        """A port that is let go of in time counts as free; its URL is told, and nobody listens there yet."""
        _, port = await self.listen()
        self.reactor.callLater(0.2, port.stopListening)

        url = await until_free(self.reactor, self.description)

        self.assertEqual(url, f"http://127.0.0.1:{self.description.split(':')[1]}")
        await self.listen(shared=False)

    async def test_what_cannot_be_shared(self) -> None:
        """Endpoints of other kinds are refused, and so is port 0, of which everyone would get another one."""
        for description, words in (
            (f"unix:{self.mktemp()}", "only TCP ports"),
            ("tcp:0:interface=127.0.0.1", "port 0 cannot be shared"),
            ("nonsense:1", "Unknown endpoint type"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                await until_free(self.reactor, description)
