"""The driver: three nodes over an in-memory network and log, one clock."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.errors import InvalidChange, LeadershipLost, LostData, NotLeader, TooLarge, Unavailable, UnknownGroup
from raftlog.messages import ConfChangeSingle, ConfChangeType, ConfChangeV2, GroupMessage
from raftlog.options import Limits
from raftlog.test.three import GROUP, Journal, SlowJournal, Three
from raftlog.testimony import Position, read_position


class NodeTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers that have elected a leader."""
        self.three = Three()
        self.three.run(2)

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def test_proposal_reaches_every_state_machine(self) -> None:
        """A proposal's Deferred fires with the state machine's result, and all replicas apply the same entries."""
        node = self.three.network.nodes[self.three.leader()]

        first = node.propose(GROUP, b"one")
        second = node.propose(GROUP, b"two")
        self.three.run(0.2)

        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (1, 2))
        self.assertEqual([m.lines for m in self.three.machines.values()], [[b"one", b"two"]] * 3)

    def test_follower_refuses_proposals_and_names_the_leader(self) -> None:
        """Followers do not forward proposals inside Raft (RAFT_RULES 35)."""
        leader = self.three.leader()
        leader_id = next(i for i, name in self.three.peers.items() if name == leader)
        follower = next(name for name in "ABC" if name != leader)

        failure = self.failureResultOf(self.three.network.nodes[follower].propose(GROUP, b"x"), NotLeader)

        self.assertEqual(failure.value.leader_id, leader_id)

    def test_proposal_that_could_never_be_sent(self) -> None:
        """An entry above the limit is refused at once and is in no log; the next one is taken."""
        three = Three(limits=Limits(entry_bytes_max=100))
        three.run(2)
        leader = three.network.nodes[three.leader()]
        last_index = leader.status(GROUP).last_index

        refused = leader.propose(GROUP, b"x" * 101)
        taken = leader.propose(GROUP, b"y" * 100)
        three.run(0.1)

        self.assertFalse(self.failureResultOf(refused, TooLarge).value.maybe_applied)
        self.successResultOf(taken)
        self.assertEqual(leader.status(GROUP).last_index, last_index + 1)

    def test_read_on_every_replica_sees_what_was_acknowledged(self) -> None:
        """ReadIndex fires on any replica, only after everything acknowledged before is applied there."""
        nodes = self.three.network.nodes
        write = nodes[self.three.leader()].propose(GROUP, b"one")
        while not write.called:
            self.three.clock.advance(0.001)
        self.successResultOf(write)

        seen: dict[str, list[bytes]] = {}
        for name, node in nodes.items():
            read = node.read_index(GROUP, 1.0)
            _ = read.addCallback(self.look, seen, name)
        self.three.run(0.2)

        self.assertEqual(seen, {name: [b"one"] for name in "ABC"})

    def look(self, _: None, seen: dict[str, list[bytes]], name: str) -> None:
        """Note what a server's state machine holds now."""
        seen[name] = list(self.three.machines[name].lines)

    def test_read_without_quorum_fails_at_its_deadline(self) -> None:
        """A cut-off replica answers no linearizable read, however long it led before."""
        leader = self.three.leader()
        self.three.network.cut.add(leader)

        read = self.three.network.nodes[leader].read_index(GROUP, 1.0)
        self.three.run(0.9)
        self.assertNoResult(read)
        self.three.run(0.2)

        self.failureResultOf(read, Unavailable)

    def test_read_at_what_is_applied(self) -> None:
        """A replica that has applied what is to be read at answers at once, also without anybody else."""
        node = self.three.network.nodes["A"]
        applied = node.status(GROUP).applied_index
        self.three.network.cut.update("ABC")

        self.successResultOf(node.read_at(GROUP, Position(applied, 1), 1.0))

    def test_read_at_what_is_to_come(self) -> None:
        """Otherwise it answers once it has applied that much, as soon as it has got it."""
        leader = self.three.leader()
        lagging, other = (name for name in "ABC" if name != leader)
        nodes = self.three.network.nodes
        self.three.network.cut.add(lagging)
        write = nodes[leader].propose(GROUP, b"one")
        self.three.run(0.2)
        self.successResultOf(write)
        testimonies = [testimony for name in (leader, other) if (testimony := nodes[name].testify(GROUP))]

        read = nodes[lagging].read_at(GROUP, read_position(testimonies), 10.0)
        self.three.run(0.5)
        self.assertNoResult(read)
        self.three.network.cut.clear()
        seen: list[list[bytes]] = []
        _ = read.addCallback(lambda _: seen.append(list(self.three.machines[lagging].lines)))
        self.three.run(2)

        self.assertEqual(seen, [[b"one"]])

    def test_read_at_what_never_comes(self) -> None:
        """What does not come in time is not read at."""
        node = self.three.network.nodes["A"]

        read = node.read_at(GROUP, Position(1000, 1), 1.0)
        self.three.run(0.9)
        self.assertNoResult(read)
        self.three.run(0.2)

        self.failureResultOf(read, Unavailable)

    def test_position_where_the_group_is_not(self) -> None:
        """A server without a replica reads at no position and testifies nothing."""
        node = self.three.network.nodes["A"]

        self.failureResultOf(node.read_at(GROUP + 1, Position(1, 1), 1.0), UnknownGroup)
        self.assertIsNone(node.testify(GROUP + 1))

    def test_lost_leader_says_unknown_and_a_new_one_is_elected(self) -> None:
        """A proposal of a leader that is cut off may or may not commit later: LeadershipLost says so."""
        old = self.three.leader()
        self.three.network.cut.add(old)
        write = self.three.network.nodes[old].propose(GROUP, b"maybe")

        self.three.run(3)
        new = self.three.leader()

        self.assertNotEqual(new, old)
        failure = self.failureResultOf(write, LeadershipLost)
        self.assertTrue(failure.value.maybe_applied)

    def test_impossible_change_of_membership_is_refused(self) -> None:
        """A change that would leave no voter fails before it reaches any log."""
        node = self.three.network.nodes[self.three.leader()]
        last = node.status(GROUP).last_index
        changes = tuple(ConfChangeSingle(ConfChangeType.REMOVE, replica_id) for replica_id in (1, 2, 3))

        self.failureResultOf(node.propose_conf_change(GROUP, ConfChangeV2(changes=changes)), InvalidChange)

        self.assertEqual(node.status(GROUP).last_index, last)

    def test_restart_from_the_log(self) -> None:
        """All servers crash and restart with fresh state machines: the log brings everything back."""
        nodes = self.three.network.nodes
        write = nodes[self.three.leader()].propose(GROUP, b"kept")
        self.three.run(0.2)
        self.successResultOf(write)

        for name in "ABC":
            self.three.machines[name] = Journal()
            self.three.crash(name).open_group(GROUP, dict(self.three.peers), self.three.machines[name])
        self.three.run(2)

        self.assertEqual([m.lines for m in self.three.machines.values()], [[b"kept"]] * 3)

    def test_state_machine_ahead_of_the_log_is_refused(self) -> None:
        """A replica whose store knows more than its log lost acknowledged data (RAFT_RULES 10)."""
        machine = Journal()
        machine.applied_index = 1000

        node = self.three.crash("A")

        self.assertRaises(LostData, node.open_group, GROUP, dict(self.three.peers), machine)
        self.assertRaises(UnknownGroup, node.open_group, GROUP + 1, {}, machine)

    def test_message_for_another_replica_is_dropped(self) -> None:
        """A message that names a replica id which is not here is counted and ignored (RAFT_RULES 35)."""
        node = self.three.network.nodes["A"]
        message = next(m for _, to, _, m in self.three.network.sent if to == "B" and isinstance(m, GroupMessage))

        node.receive([message])

        self.assertEqual(node.misdirected, 1)

    def test_removed_group_is_gone_after_restart(self) -> None:
        """A destroyed replica leaves a tombstone in the log and does not come back."""
        node = self.three.network.nodes["A"]

        self.successResultOf(node.remove_group(GROUP))

        self.assertEqual(self.three.crash("A").recovered_ids, [])


class StallTests(SynchronousTestCase):
    def test_a_stall_of_the_process_is_not_time(self) -> None:
        """After a pause longer than any election timeout nobody campaigns (RAFT_RULES 15)."""
        three = Three()
        three.run(2)
        changes = len(three.changes)

        three.clock.advance(5)
        three.run(2)

        self.assertEqual(len(three.changes), changes)


class SlowApplyTests(SynchronousTestCase):
    def test_proposals_wait_for_a_slow_state_machine_in_order(self) -> None:
        """A state machine may answer later; results arrive in order and nothing is applied twice at a time."""
        machines = {name: SlowJournal() for name in "ABC"}
        three = Three(dict(machines))
        three.run(2)
        for machine in machines.values():
            machine.go()
        three.run(0.1)
        leader = three.leader()

        first = three.network.nodes[leader].propose(GROUP, b"one")
        three.run(0.1)
        second = three.network.nodes[leader].propose(GROUP, b"two")
        three.run(0.1)
        machine = machines[leader]

        self.assertEqual(len(machine.pending), 1)
        machine.go()
        self.assertEqual(self.successResultOf(first), 1)
        self.assertNoResult(second)
        three.run(0.1)
        machine.go()
        self.assertEqual(self.successResultOf(second), 2)

    def test_apply_that_fails_after_the_end(self) -> None:
        """A state machine that is closed under what it was applying ends nothing."""
        machines = {name: SlowJournal() for name in "ABC"}
        three = Three(dict(machines))
        three.run(2)

        for name, node in three.network.nodes.items():
            node.stopService()
            machines[name].pending[0][1].errback(ValueError("closed"))

        self.assertEqual(three.failures, [])
