"""A leader whose disk is stuck or full hands over, but never to somebody who is no better off (RAFT_RULES 14, 16)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftlog.diskwatch import MACHINE_STUCK_SECONDS, PAUSE_SECONDS
from raftlog.errors import DiskStuck, LeadershipLost, Overloaded
from raftlog.test.three import GROUP, SlowJournal, Three
from raftlog.wal import MemoryWal
from raftlog.wal.commit import HUNG_SECONDS


class DiskWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers with a leader that is told how long its disk takes."""
        self.three = Three()
        self.three.run(2)
        self.leader = self.three.leader()
        self.node = self.three.network.nodes[self.leader]
        self.stuck_since: float | None = None
        clock = self.three.clock

        def oldest_unsynced_seconds(wal: MemoryWal) -> float:
            if wal.auto or self.stuck_since is None:
                return 0.0
            return clock.seconds() - self.stuck_since

        self.patch(MemoryWal, "oldest_unsynced_seconds", oldest_unsynced_seconds)

    def stick(self, *names: str) -> None:
        """Let these servers' disks take nothing any more."""
        self.stuck_since = self.three.clock.seconds()
        for name in names:
            self.three.wals[name].auto = False

    def test_stuck_leader_hands_over_when_others_commit_without_it(self) -> None:
        """The followers' disks commit what the leader's does not take: one of them should lead."""
        self.stick(self.leader)
        _ = self.node.propose(GROUP, b"line").addErrback(lambda failure: failure.trap(LeadershipLost))
        self.three.run(2)

        self.assertNotEqual(self.three.leader(), self.leader)

    def test_nobody_hands_over_if_all_are_stuck(self) -> None:
        """Servers that share a stuck disk keep their leader: nothing is committed without it."""
        self.stick("A", "B", "C")
        _ = self.node.propose(GROUP, b"line").addErrback(lambda failure: failure.trap(LeadershipLost))
        self.three.run(2)

        self.assertEqual(self.three.leader(), self.leader)

    def test_stuck_for_good_ends_the_process(self) -> None:
        """Past the hard limit the process ends itself."""
        self.stick(self.leader)
        self.three.run(HUNG_SECONDS + 1)

        self.assertTrue(self.three.failures)
        self.assertTrue(self.three.failures[0].check(DiskStuck))

    def test_full_leader_refuses_and_hands_over(self) -> None:
        """A leader whose disk is nearly full takes no proposals and lets another one lead."""
        self.three.wals[self.leader].free_bytes_low = True
        self.failureResultOf(self.node.propose(GROUP, b"line"), Overloaded)
        self.three.run(PAUSE_SECONDS)

        self.assertNotEqual(self.three.leader(), self.leader)

    def test_full_leader_keeps_leading_if_all_are_full(self) -> None:
        """A server that is full itself is handed nothing, so that leadership does not go round in circles."""
        for wal in self.three.wals.values():
            wal.free_bytes_low = True
        self.three.run(4 * PAUSE_SECONDS)

        # The very first handover may come before the others' state is known.
        leader = self.three.leader()
        changes = len(self.three.changes)
        self.three.run(4 * PAUSE_SECONDS)
        self.assertEqual((self.three.leader(), len(self.three.changes)), (leader, changes))


class StuckMachines(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers with a leader, whose state machines apply what the test lets them."""
        self.machines = {name: SlowJournal() for name in "ABC"}
        self.three = Three(dict(self.machines))
        self.run_for(2)
        self.leader = self.three.leader()

    def run_for(self, seconds: float, *stuck: str) -> None:
        """Let time pass, in which all but some servers' state machines are quick."""
        for _ in range(round(seconds / 0.05)):
            self.three.run(0.05)
            for name, machine in self.machines.items():
                while machine.pending and name not in stuck:
                    machine.go()

    def test_leader_with_a_stuck_machine_hands_over(self) -> None:
        """What the group has committed and the leader cannot apply, another one can."""
        lost = self.three.network.nodes[self.leader].propose(GROUP, b"line")

        self.run_for(MACHINE_STUCK_SECONDS + 1, self.leader)

        self.failureResultOf(lost, LeadershipLost)
        after = self.three.leader()
        self.assertNotEqual(after, self.leader)
        self.assertEqual(self.machines[after].lines, [b"line"])
        self.assertEqual(self.successResultOf(self.proposed(after)), 2)

    def proposed(self, name: str) -> Deferred[Any]:
        """Return what a server answers to a proposal, after a while."""
        answer = self.three.network.nodes[name].propose(GROUP, b"another")
        self.run_for(1, self.leader)
        return answer

    def test_a_busy_machine_is_not_stuck(self) -> None:
        """A state machine that gets on, if slowly, keeps its leader."""
        for _ in range(8):
            _ = self.three.network.nodes[self.leader].propose(GROUP, b"line")
            self.run_for(MACHINE_STUCK_SECONDS / 2, self.leader)
            self.machines[self.leader].go()

        self.assertEqual(self.three.leader(), self.leader)
