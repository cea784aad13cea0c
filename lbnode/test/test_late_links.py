"""Links that begin when the cluster is known."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from lbnode.late_links import LateLinks
from raftlog.link import Endpoint, Identity, Lane
from raftlog.link.memory import MemoryLinks, MemoryNetwork


class LateLinksTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have a network with one server, and a process that does not know yet where it belongs."""
        self.network = MemoryNetwork()
        self.made: list[str] = []
        self.down: list[str] = []
        self.received: list[object] = []
        self.network_of("server", "Server0").startService()
        self.links = LateLinks(self.make, lambda name, lane: self.down.append(name))

    def network_of(self, role: str, name: str) -> MemoryLinks:
        """Return links of a process."""
        identity = Identity("c1", "server" if role == "server" else "balancer", name, name)
        return MemoryLinks(self.network, identity, lambda _, items: self.received.extend(items))

    def make(self, cluster_id: str) -> MemoryLinks:
        """Make the late links."""
        self.made.append(cluster_id)
        return self.network_of("balancer", "follower")

    def test_before(self) -> None:
        """What is sent is dropped, and there is nothing to close."""
        self.assertFalse(self.links.send("Server0", Lane.DATA, "lost"))

        self.successResultOf(self.links.close())
        self.assertEqual(self.made, [])

    def test_after(self) -> None:
        """Peers are dialled, what is sent arrives, and lanes that go down are told of; it happens once."""
        self.links.open("c1")
        self.links.open("c2")
        self.links.set_peer("Server0", Endpoint("memory", 1))
        self.network.flush()

        self.assertTrue(self.links.send("Server0", Lane.DATA, "found"))
        self.network.flush()
        self.network.cut("follower", "Server0")
        self.network.flush()

        self.assertEqual((self.made, self.received), (["c1"], ["found"]))
        self.assertIn("Server0", self.down)
        self.links.remove_peer("Server0")
        closed: Deferred[None] = self.links.close()
        self.successResultOf(closed)
