"""The proxy of the partition tests, over real sockets of the loopback."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from raftlog.link import Endpoint, Identity, Lane
from raftlog.link.frames import frame
from raftlog.link.greeting import NONCE_BYTES, Hello, encode_greeting
from raftlog.testing.proxy import FINE, Conditions, Proxy

HELD = Conditions(held=True)


class End(Protocol):
    """One end of a connection, which remembers what came and how it ended."""

    transport: Any

    def __init__(self) -> None:
        self.came = bytearray()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Remember bytes."""
        self.came += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember the end."""
        self.lost.callback(None)


class ProxyTests(TestCase):
    timeout = 20

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        """Listen, and put a proxy in front."""
        return Deferred.fromCoroutine(self.set_up())

    async def set_up(self) -> None:
        """See setUp."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.accepted: list[End] = []
        factory = Factory.forProtocol(self._accept)
        factory.noisy = False
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        self.proxy = Proxy(reactor, random.Random(1), Endpoint("127.0.0.1", port.getHost().port))
        self.way = await self.proxy.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.proxy.close()))

    def _accept(self) -> End:
        self.accepted.append(End())
        return self.accepted[-1]

    async def connect(self) -> tuple[End, End]:
        """Return both ends of a new connection through the proxy."""
        before = len(self.accepted)
        end: End = await connectProtocol(TCP4ClientEndpoint(self.reactor, self.way.host, self.way.port), End())
        await self.until(lambda: len(self.accepted) > before and self.accepted[-1].connected)
        return end, self.accepted[-1]

    async def until(self, true: Any) -> None:
        """Wait for something to become true."""
        while not true():
            await self.wait(0.005)

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await deferLater(self.reactor, seconds)

    async def test_both_directions(self) -> None:
        """What one end sends the other gets, and an end that closes is seen by the other, after the last byte."""
        dialler, listener = await self.connect()
        dialler.transport.write(b"there")
        listener.transport.write(b"back")
        await self.until(lambda: listener.came == b"there" and dialler.came == b"back")

        dialler.transport.write(b"!")
        dialler.transport.loseConnection()
        await listener.lost

        self.assertEqual(listener.came, b"there!")

    async def test_held_one_way(self) -> None:
        """What is held arrives once it is not held any more, in order; the other direction is not touched."""
        dialler, listener = await self.connect()
        self.proxy.impose(HELD, FINE)
        dialler.transport.write(b"a")
        listener.transport.write(b"b")
        await self.until(lambda: dialler.came == b"b")
        dialler.transport.write(b"c")
        dialler.transport.loseConnection()
        await self.wait(0.1)
        self.assertEqual((bytes(listener.came), listener.lost.called), (b"", False))

        self.proxy.impose(FINE, FINE)
        await listener.lost

        self.assertEqual(listener.came, b"ac")

    async def test_held_bytes_are_bounded(self) -> None:
        """A sender into a silent way has to wait before it has sent everything."""
        dialler, listener = await self.connect()
        self.proxy.impose(HELD, HELD)
        data = bytes(30 << 20)
        dialler.transport.write(data)
        await self.wait(0.3)
        waiting = sum(map(len, dialler.transport._tempDataBuffer)) + len(dialler.transport.dataBuffer)

        self.proxy.impose(FINE, FINE)
        await self.until(lambda: len(listener.came) == len(data))

        self.assertGreater(waiting, 8 << 20)

    async def test_one_lane_only(self) -> None:
        """Conditions of one lane of links leave connections of the others alone, whichever begins to speak first."""
        self.proxy.impose(Conditions(held=True, lane=Lane.DATA), FINE)
        identity = Identity("c", "server", "A", "1")
        hellos = {lane: frame(encode_greeting(Hello(identity, lane, bytes(NONCE_BYTES)))) for lane in Lane}

        ends = {lane: await self.connect() for lane in (Lane.DATA, Lane.CONTROL)}
        for lane, (dialler, _) in ends.items():
            dialler.transport.write(hellos[lane])
        await self.until(lambda: ends[Lane.CONTROL][1].came == hellos[Lane.CONTROL])
        await self.wait(0.05)

        self.assertEqual(ends[Lane.DATA][1].came, b"")

    async def test_connections_overtake_each_other(self) -> None:
        """With jitter chunks stay in order within each connection, and not between connections."""
        ends = [await self.connect() for _ in range(8)]
        self.proxy.impose(Conditions(jitter_seconds=0.1), FINE)
        arrived: list[int] = []
        for number, (_, listener) in enumerate(ends):
            listener.dataReceived = lambda data, number=number: arrived.extend([number] * len(data))  # type: ignore[method-assign,misc]

        for dialler, _ in ends:
            dialler.transport.write(b"x")
            await self.wait(0.001)
        await self.until(lambda: len(arrived) == len(ends))

        self.assertNotEqual(arrived, sorted(arrived))

    async def test_delay_and_throttle(self) -> None:
        """A delay passes before anything comes; of a narrow way more comes only with time."""
        dialler, listener = await self.connect()
        self.proxy.impose(Conditions(delay_seconds=0.05, bytes_per_second=1_000_000), FINE)
        began = self.reactor.seconds()
        for _ in range(10):
            dialler.transport.write(bytes(10_000))
            await self.wait(0.001)
        await self.until(lambda: len(listener.came) == 100_000)

        self.assertGreater(self.reactor.seconds() - began, 0.1)

    async def test_cut(self) -> None:
        """Cut, both ends hear of it at once; while it refuses, so do new connections."""
        dialler, listener = await self.connect()
        self.proxy.cut()
        await dialler.lost
        await listener.lost

        self.proxy.refuse(True)
        refused: End = await connectProtocol(TCP4ClientEndpoint(self.reactor, self.way.host, self.way.port), End())
        await refused.lost
        self.proxy.refuse(False)
        await self.connect()
