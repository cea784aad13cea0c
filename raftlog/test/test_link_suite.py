"""What every implementation of links keeps; run over memory and over the real Links."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Endpoint, Lane
from raftlog.link.identity import GROUP_LANES
from raftlog.test.link_rigs import MemoryRig, PipeRig, Process, Rig


class MemoryLinksTests(SynchronousTestCase):
    """The suite, over MemoryLinks."""

    make_rig: Callable[[], Rig] = MemoryRig

    def setUp(self) -> None:
        """Have the first of two servers dial the second."""
        self.rig = type(self).make_rig()
        self.a = self.rig.start("A")
        self.b = self.rig.start("B")
        self.introduce(self.a, self.b)

    def introduce(self, dialler: Process, listener: Process) -> None:
        """Have one process dial another, and wait."""
        dialler.links.set_peer(listener.identity.name, self.rig.endpoint(listener))
        self.rig.settle()

    def test_one_frame_per_turn(self) -> None:
        """What a turn sends to a peer on a lane arrives in one call, in order."""
        accepted = [self.a.links.send("B", Lane.DATA, number) for number in (1, 2, 3)]
        self.rig.settle()
        accepted.append(self.a.links.send("B", Lane.DATA, 4))
        self.rig.settle()

        self.assertEqual(accepted, [True] * 4)
        self.assertEqual(self.b.frames, [[1, 2, 3], [4]])

    def test_lanes_are_apart(self) -> None:
        """Lanes are separate connections, and a receiver sees who sent on which."""
        self.a.links.send("B", Lane.CONTROL, "heartbeat")
        self.a.links.send("B", Lane.DATA, "append")
        self.rig.settle()

        self.assertCountEqual(self.b.frames, [["heartbeat"], ["append"]])
        self.assertEqual({connection.lane for connection in self.b.connections}, {Lane.CONTROL, Lane.DATA})
        self.assertEqual([connection.peer for connection in self.b.connections], [self.a.identity] * 2)

    def test_replies_come_back(self) -> None:
        """A receiver answers on the connection that brought a request, without dialling anybody."""
        self.a.links.send("B", Lane.DATA, "echo")
        self.rig.settle()

        self.assertEqual(self.a.frames, [["echo of B"]])
        self.assertEqual(self.a.connections[0].peer, self.b.identity)
        self.assertFalse(self.b.links.connected("A", Lane.DATA))

    def test_unknown_peer(self) -> None:
        """Items for a peer that was never set are dropped at once."""
        self.assertFalse(self.a.links.send("C", Lane.DATA, 1))
        self.assertFalse(self.a.links.connected("C", Lane.DATA))

    def test_eager_and_lazy_lanes(self) -> None:
        """Between servers CONTROL and DATA come up by themselves, BULK when first used."""
        before = list(self.a.ups)
        self.a.links.send("B", Lane.BULK, "chunk")
        self.rig.settle()

        self.assertEqual(before, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertEqual(self.a.ups[2:], [("B", Lane.BULK)])
        self.assertEqual(self.b.frames, [["chunk"]])

    def test_queued_while_dialling(self) -> None:
        """What is sent right after a peer was set arrives once the lane is up."""
        c = self.rig.start("C")
        self.a.links.set_peer("C", self.rig.endpoint(c))

        accepted = self.a.links.send("C", Lane.DATA, "early")
        self.rig.settle()

        self.assertTrue(accepted)
        self.assertEqual(c.frames, [["early"]])

    def test_part_and_rejoin(self) -> None:
        """A broken connection is announced, items are dropped meanwhile, and the lane comes up again by itself."""
        self.rig.part(self.a, self.b)
        self.rig.settle()
        while_parted = (self.a.links.connected("B", Lane.DATA), self.a.links.send("B", Lane.DATA, "lost"))
        self.rig.rejoin(self.a, self.b)
        self.rig.settle()
        self.a.links.send("B", Lane.DATA, "after")
        self.rig.settle()

        self.assertEqual(while_parted, (False, False))
        self.assertEqual(self.a.downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertEqual(self.a.ups, [("B", Lane.CONTROL), ("B", Lane.DATA)] * 2)
        self.assertEqual(self.b.frames, [["after"]])

    def test_lost_with_the_attempt(self) -> None:
        """What was accepted for an attempt that fails is announced as lost."""
        c = self.rig.start("C")
        self.rig.part(self.b, c)
        self.b.links.set_peer("C", self.rig.endpoint(c))

        accepted = self.b.links.send("C", Lane.BULK, "lost")
        self.rig.settle()

        self.assertEqual(self.b.downs, [("C", Lane.BULK)] if accepted else [])
        self.assertEqual(c.frames, [])

    def test_send_on_a_lost_connection(self) -> None:
        """A reply for which the connection is gone is dropped, and says so."""
        self.a.links.send("B", Lane.DATA, "echo")
        self.rig.settle()
        self.rig.part(self.a, self.b)
        self.rig.settle()

        self.assertFalse(self.b.connections[0].send("too late"))

    def test_remove_peer(self) -> None:
        """A removed peer's lanes go down and stay down."""
        self.a.links.remove_peer("B")
        self.rig.settle()

        self.assertCountEqual(self.a.downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertFalse(self.a.links.send("B", Lane.DATA, 1))

    def test_same_address_again(self) -> None:
        """Setting a peer to the address it has changes nothing."""
        self.introduce(self.a, self.b)

        self.assertEqual(self.a.downs, [])

    def test_other_address(self) -> None:
        """A change of address closes what was dialled to the old one."""
        self.a.links.set_peer("B", Endpoint("elsewhere", 2))

        self.assertCountEqual(self.a.downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertFalse(self.a.links.connected("B", Lane.DATA))

    def test_receiver_fails(self) -> None:
        """What a receiver raises is logged and costs the connection, which is then made anew."""
        self.a.links.send("B", Lane.DATA, "fail")
        self.rig.settle()
        self.a.links.send("B", Lane.DATA, "after")
        self.rig.settle()

        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.a.downs, [("B", Lane.DATA)])
        self.assertEqual(self.b.frames, [["fail"], ["after"]])

    def test_balancer(self) -> None:
        """A balancer opens DATA to a server by itself, and never CONTROL."""
        balancer = self.rig.start("L", role="balancer")
        self.introduce(balancer, self.b)
        balancer.links.send("B", Lane.CONTROL, "not for me")
        self.rig.settle()

        self.assertEqual(balancer.ups, [("B", Lane.DATA)])
        self.assertFalse(balancer.links.connected("B", Lane.CONTROL))
        self.assertEqual(self.b.frames, [])

    def test_balancers_of_one_group(self) -> None:
        """Balancers that share a group open CONTROL to each other as servers do."""
        one = self.rig.start("L", role="balancer", eager=GROUP_LANES)
        other = self.rig.start("M", role="balancer", eager=GROUP_LANES)
        self.introduce(one, other)
        one.links.send("M", Lane.CONTROL, "heartbeat")
        self.rig.settle()

        self.assertEqual(one.ups, [("M", Lane.CONTROL), ("M", Lane.DATA)])
        self.assertEqual(other.frames, [["heartbeat"]])

    def test_foreign_cluster(self) -> None:
        """Processes of different clusters do not connect."""
        stranger = self.rig.start("S", cluster_id="c2")
        self.introduce(stranger, self.b)

        self.assertEqual(stranger.ups, [])

    def test_oneself(self) -> None:
        """A process does not connect to itself."""
        self.introduce(self.a, self.a)

        self.assertFalse(self.a.links.connected("A", Lane.DATA))

    def test_restart(self) -> None:
        """A peer that comes back under its name is found again, and is known by its new incarnation."""
        self.rig.stop(self.b)
        self.rig.settle()
        downs = list(self.a.downs)
        again = self.rig.start("B", incarnation="second")
        self.rig.settle()
        self.a.links.send("B", Lane.DATA, "echo")
        self.rig.settle()

        self.assertEqual(downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertEqual(again.frames, [["echo"]])
        self.assertEqual(self.a.connections[-1].peer.incarnation, "second")

    def test_ended(self) -> None:
        """That a peer's process has ended is told each time; a peer that is cut off has not."""
        self.rig.part(self.a, self.b)
        self.rig.settle()
        self.rig.rejoin(self.a, self.b)
        self.rig.settle()
        self.assertEqual(self.a.ends, [])

        self.rig.stop(self.b)
        self.rig.settle()

        self.assertEqual(set(self.a.ends), {"B"})
        self.a.ends.clear()
        self.b = self.rig.start("B", incarnation="second")
        self.rig.settle()
        self.assertTrue(self.a.links.connected("B", Lane.DATA))
        self.assertEqual(self.a.ends, [])
        self.rig.stop(self.b)
        self.rig.settle()
        self.assertEqual(set(self.a.ends), {"B"})

    def test_never_there(self) -> None:
        """A peer that was never there has not ended."""
        self.a.links.set_peer("C", Endpoint("C", 1))
        self.rig.settle()

        self.assertEqual(self.a.ends, [])

    def test_stop(self) -> None:
        """A process that stops announces its own lanes as down."""
        self.rig.stop(self.a)

        self.assertCountEqual(self.a.downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertFalse(self.a.links.send("B", Lane.DATA, 1))


class PipeLinksTests(MemoryLinksTests):
    """The suite, over the real Links."""

    make_rig = PipeRig
