"""What MemoryNetwork offers beyond the suite: cuts in one direction, a clock, and items as they are."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Connection, Endpoint, Identity, Lane
from raftlog.link.memory import MemoryLinks, MemoryNetwork


class MemoryNetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have A dial B on a network with a clock."""
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.received: list[tuple[str, list[Any]]] = []
        self.a, self.b = self.start("A"), self.start("B")
        self.a.set_peer("B", Endpoint("B", 1))
        self.clock.advance(0)

    def start(self, name: str) -> MemoryLinks:
        """Start a server that answers every "ask"."""

        def receive(connection: Connection, items: list[Any]) -> None:
            self.received.append((name, items))
            if items == ["ask"]:
                connection.send("answer")

        links = MemoryLinks(self.network, Identity("c1", "server", name, "one"), receive)
        links.startService()
        return links

    def test_clock_ends_turns(self) -> None:
        """With a clock, requests and answers travel by themselves."""
        self.a.send("B", Lane.DATA, "ask")
        self.clock.advance(0)

        self.assertEqual(self.received, [("B", ["ask"]), ("A", ["answer"])])

    def test_items_as_they_are(self) -> None:
        """Without a codec the receiver gets the very objects."""
        item = object()
        self.a.send("B", Lane.DATA, item)
        self.clock.advance(0)

        self.assertIs(self.received[0][1][0], item)

    def test_one_way_cut(self) -> None:
        """Frames in the cut direction vanish and nobody is told; the other direction and the lanes stay."""
        downs: list[str] = []
        self.a.watch(lambda name, lane: None, lambda name, lane: downs.append(name))
        self.network.cut("B", "A", one_way=True)
        self.a.send("B", Lane.DATA, "ask")
        self.clock.advance(0)
        self.network.heal("A", "B")
        self.a.send("B", Lane.DATA, "ask")
        self.clock.advance(0)

        self.assertEqual(self.received, [("B", ["ask"]), ("B", ["ask"]), ("A", ["answer"])])
        self.assertEqual(downs, [])

    def test_stopped_receiver(self) -> None:
        """A process that stops before the turn ends receives nothing of it."""
        self.a.send("B", Lane.DATA, "too late")
        self.successResultOf(self.b.stopService())
        self.clock.advance(0)

        self.assertEqual(self.received, [])

    def test_flush_counts(self) -> None:
        """A flush says how many frames arrived, so a test can wait until nothing moves."""
        self.a.send("B", Lane.DATA, "ask")
        self.a.send("B", Lane.CONTROL, "beat")

        self.assertEqual([self.network.flush(), self.network.flush(), self.network.flush()], [2, 1, 0])
