"""One connection of several between two servers that breaks while the others stand."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.link import Lane
from raftlog.link.connection import FramedConnection
from raftlog.test.link_rigs import PipeRig, Process
from raftlog.test.pipes import PipeTransport


class LaneFailureTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect two servers, each to the other."""
        self.rig = PipeRig()
        self.a = self.rig.start("A")
        self.b = self.rig.start("B")
        for dialler, listener in ((self.a, self.b), (self.b, self.a)):
            dialler.links.set_peer(listener.identity.name, self.rig.endpoint(listener))
        self.rig.settle()

    def pipe(self, dialler: Process, lane: Lane) -> PipeTransport:
        """Return the dialling end of a lane's connection."""
        name = dialler.identity.name
        ends = [near for caller, _, near in self.rig.pipes.dialled if caller == name and not near.closed]
        for near in ends:
            assert isinstance(near.protocol, FramedConnection)
            if near.protocol.lane is lane:
                return near
        raise AssertionError(f"{name} has no lane {lane.name}")

    def let_pass(self, seconds: float) -> None:
        """Let time pass in steps of the pings."""
        for _ in range(round(seconds / self.rig.options.ping_seconds)):
            self.rig.clock.advance(self.rig.options.ping_seconds)
            self.rig.turn()

    def test_broken_connection_is_replaced(self) -> None:
        """What A writes on one lane gets lost: B, who hears A on the others, ends it soon, and A dials again."""
        broken = self.pipe(self.a, Lane.DATA)
        broken.other.stuck = True

        self.let_pass(1.0)
        early = broken.closed
        self.let_pass(1.0)

        self.assertEqual((early, broken.closed), (False, True))
        self.assertEqual(self.a.downs, [("B", Lane.DATA)])
        self.assertEqual(self.b.downs, [])
        self.assertTrue(self.a.links.connected("B", Lane.DATA))

    def test_silent_peer_has_more_time(self) -> None:
        """A peer of which nothing is heard at all may only be busy: its connections are kept for longer."""
        for lane in (Lane.CONTROL, Lane.DATA):
            self.pipe(self.a, lane).stuck = self.pipe(self.b, lane).other.stuck = True

        self.let_pass(2.5)
        kept = list(self.a.downs)
        self.let_pass(1.5)

        self.assertEqual(kept, [])
        self.assertCountEqual(self.a.downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])

    def test_other_lane_stands_in(self) -> None:
        """While a lane waits to be dialled again, what is sent on it travels on the other one."""
        for lane, other in ((Lane.DATA, Lane.CONTROL), (Lane.CONTROL, Lane.DATA)):
            self.b.frames.clear()
            self.b.connections.clear()
            for _ in range(2):
                self.pipe(self.a, lane).abortConnection()
                self.rig.turn()
            self.assertFalse(self.a.links.connected("B", lane))

            self.assertTrue(self.a.links.send("B", lane, "meanwhile"))
            self.rig.turn()
            self.rig.settle()
            self.a.links.send("B", lane, "afterwards")
            self.rig.settle()

            self.assertEqual(self.b.frames, [["meanwhile"], ["afterwards"]])
            self.assertEqual([connection.lane for connection in self.b.connections], [other, lane])
