"""Groups in which nothing happens sleep, and wake for whatever happens (RAFT_RULES 40)."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from raftlog.core import Raft
from raftlog.messages import Alive, GroupMessage, Message, MessageType, Quiesce, RaftItem
from raftlog.options import Times
from raftlog.quiet import QUIET_TICKS
from raftlog.test.three import GROUP, Journal, SlowJournal, Three

#: Longer than it takes to fall asleep.
QUIET_SECONDS = 2 * QUIET_TICKS * Times().tick_seconds


class SleepTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers whose only group sleeps."""
        self.three = Three()
        self.three.run(2 + QUIET_SECONDS)
        self.leader = self.three.leader()
        self.follower = next(name for name in "ABC" if name != self.leader)

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def sent_within(self, seconds: float) -> list[object]:
        """Return what all servers send in the next seconds."""
        self.three.network.sent.clear()
        self.three.run(seconds)
        return [item for *_, item in self.three.network.sent]

    def write(self) -> None:
        """Have a line acknowledged by whoever leads."""
        write = self.three.network.nodes[self.three.leader()].propose(GROUP, b"line")
        self.three.run(0.2)
        self.successResultOf(write)

    def asleep(self) -> dict[str, bool]:
        """Return which servers' replicas sleep."""
        return {name: node.open_groups()[0].quiet.asleep for name, node in self.three.network.nodes.items()}

    def test_only_servers_greet(self) -> None:
        """A sleeping group sends nothing; its servers send each other one heartbeat for all groups."""
        sent = self.sent_within(1.5)

        self.assertEqual({type(item) for item in sent}, {Alive})
        self.assertEqual(len(sent), 6 * 20)

    def test_other_messages_stand_for_greetings(self) -> None:
        """Who is sent something that the groups know nothing of is greeted less often, the others as ever."""
        node = self.three.network.nodes["A"]
        self.three.network.sent.clear()

        for _ in range(60):
            node.sent_to("B")
            self.three.run(Times().tick_seconds)

        ways = Counter((from_, to) for from_, to, _, item in self.three.network.sent if isinstance(item, Alive))
        self.assertLess(ways.pop(("A", "B")), 10)
        self.assertEqual(set(ways.values()), {20})

    def test_heard_of_by_other_messages(self) -> None:
        """Whoever is heard of by something that the groups know nothing of is not taken for silent."""
        self.three.network.cut.add(self.leader)

        for _ in range(60):
            for name in set("ABC") - {self.leader}:
                self.three.network.nodes[name].heard_of(self.leader)
            self.three.run(Times().tick_seconds)

        asleep = self.asleep()
        del asleep[self.leader]
        self.assertEqual(set(asleep.values()), {True})

    def test_request_wakes_everybody(self) -> None:
        """A write, a read on a follower: as in a group that never slept, and then it sleeps again."""
        self.write()
        self.assertEqual(self.asleep(), dict.fromkeys("ABC", False))

        read = self.three.network.nodes[self.follower].read_index(GROUP, 1)
        self.three.run(0.2)
        self.successResultOf(read)
        self.three.run(QUIET_SECONDS)

        self.assertEqual(self.asleep(), dict.fromkeys("ABC", True))

    def test_write_wakes_without_heartbeats(self) -> None:
        """The entry itself tells everybody that the group is awake."""
        self.three.run(Times().tick_seconds / 5)  # so that no tick comes before the answers
        write = self.three.network.nodes[self.leader].propose(GROUP, b"line")
        sent = self.sent_within(2 * Times().tick_seconds)

        self.successResultOf(write)
        kinds = {item.message.type for item in sent if isinstance(item, GroupMessage)}
        self.assertEqual(kinds, {MessageType.APPEND, MessageType.APPEND_RESPONSE})

    def test_soon_asleep(self) -> None:
        """The time until a group sleeps is counted in all ticks, those with heartbeats too."""
        group = self.three.network.nodes[self.leader].open_groups()[0]
        self.write()
        self.three.run((QUIET_TICKS - 8) * Times().tick_seconds - 0.2)
        self.assertFalse(group.quiet.asleep)

        self.three.run(12 * Times().tick_seconds)

        self.assertTrue(group.quiet.asleep)

    def test_answers_before_it_sleeps(self) -> None:
        """A leader that has an answer to send does so first: it would wake who gets it, and nobody else."""
        group = self.three.network.nodes[self.leader].open_groups()[0]
        raft = group.raw.raft
        asker = self.three.network.nodes[self.follower].open_groups()[0].replica_id
        self.write()
        while group.quiet._ticks < QUIET_TICKS - 1:
            self.three.run(Times().tick_seconds / 5)

        group.step(Message(MessageType.READ_INDEX, raft.id, asker, raft.term, context=b"1:1"))
        raft.heartbeat_elapsed = 0
        group.tick(self.three.clock.seconds(), 1)
        self.assertFalse(group.may_sleep())
        self.three.run(2 * Times().tick_seconds)

        self.assertTrue(group.quiet.asleep)

    def test_lost_entry_after_sleep(self) -> None:
        """Followers that did not get the entry that woke their leader are sent a heartbeat with the next tick."""
        for late in range(Times().heartbeat_ticks):
            self.write()
            self.three.run(QUIET_SECONDS + (late + 0.2) * Times().tick_seconds)
            self.assertEqual(self.asleep(), dict.fromkeys("ABC", True))
            followers = [node for name, node in self.three.network.nodes.items() if name != self.leader]
            with ExitStack() as lost:
                for node in followers:
                    lost.enter_context(patch.object(node, "receive", lambda items: None))
                _ = self.three.network.nodes[self.leader].propose(GROUP, b"line")
                sent = self.sent_within(Times().tick_seconds)

            self.assertIn(MessageType.HEARTBEAT, [i.message.type for i in sent if isinstance(i, GroupMessage)])

    def test_restarted_leader_is_missed_by_those_awake(self) -> None:
        """They need not wait for a whole election timeout either."""
        self.write()
        follower = self.three.network.nodes[self.follower]
        raft = follower.open_groups()[0].raw.raft
        raft.election_elapsed = 0

        follower.receive([Alive(self.leader, boot=1)])

        self.assertEqual(raft.election_elapsed, Times().election_ticks - 1)

    def test_leaders_death_wakes_its_followers(self) -> None:
        """The silence of the leader's server stands for the missing heartbeats: another leader is elected soon."""
        self.three.network.cut.add(self.leader)
        self.three.run(1.5)

        self.assertNotEqual(self.three.leader(), self.leader)
        self.write()

    def test_ended_leader_is_not_waited_for(self) -> None:
        """Followers that know that their leader's process has ended elect another one at once."""
        self.three.network.cut.add(self.leader)
        followers = {name: node for name, node in self.three.network.nodes.items() if name != self.leader}
        for node in followers.values():
            node.server_ended(self.leader)
            raft = node.open_groups()[0].raw.raft
            self.assertEqual((raft.leader_id, raft.election_elapsed), (0, Times().election_ticks - 1))

        followers[self.follower].campaign(GROUP)
        self.three.run(Times().tick_seconds / 2)

        self.assertEqual(self.three.leader(), self.follower)

    def test_other_ended_server_changes_nothing(self) -> None:
        """The group of a follower that has ended wakes, and keeps its leader."""
        others = [self.three.network.nodes[name] for name in "ABC" if name != self.follower]
        before = [node.leader_id(GROUP) for node in others]
        for node in others:
            node.server_ended(self.follower)
        self.assertEqual([node.leader_id(GROUP) for node in others], before)
        self.assertEqual([node.open_groups()[0].quiet.asleep for node in others], [False, False])
        for node in others:
            self.assertLess(node.open_groups()[0].raw.raft.election_elapsed, Times().election_ticks - 1)

        self.three.network.cut.add(self.follower)
        term = self.three.network.nodes[self.leader].status(GROUP).term
        self.three.run(1)

        self.assertEqual(self.three.leader(), self.leader)
        self.assertEqual(self.three.network.nodes[self.leader].status(GROUP).term, term)

    def test_leader_that_has_not_ended(self) -> None:
        """Who was wrong about that is set right by the leader, or has elected another one: the group goes on."""
        for name in set("ABC") - {self.leader}:
            self.three.network.nodes[name].server_ended(self.leader)
            self.assertEqual(self.three.network.nodes[name].leader_id(GROUP), 0)
        self.three.run(1)

        self.write()

    def test_learner_keeps_its_leader(self) -> None:
        """Nobody would elect another for it: its question wakes the leader, if that has not ended after all."""
        node = self.three.network.nodes[self.follower]
        before = node.leader_id(GROUP)
        with patch.object(Raft, "promotable", new=False):
            node.server_ended(self.leader)
        self.assertEqual(node.leader_id(GROUP), before)

        read = node.read_index(GROUP, 1)
        self.three.run(0.2)

        self.successResultOf(read)

    def test_leader_that_lost_its_followers_wakes(self) -> None:
        """A leader that hears of no server with a replica checks its quorum, and steps down."""
        self.three.network.cut.add(self.leader)
        self.three.run(1.5)

        self.assertNotEqual(self.three.network.nodes[self.leader].status(GROUP).role, "leader")

    def test_restart_is_noticed_without_silence(self) -> None:
        """A server that was restarted so quickly that nobody missed it has forgotten that it led."""
        machine = self.three.machines[self.leader]

        self.three.crash(self.leader).open_group(GROUP, dict(self.three.peers), machine)
        self.three.run(1.5)

        self.write()

    def test_follower_that_does_not_agree_stays_awake(self) -> None:
        """A request to sleep that names another state than the follower's is ignored."""
        self.write()
        group = self.three.network.nodes[self.follower].open_groups()[0]
        raft = group.raw.raft

        for term, commit in ((raft.term - 1, raft.log.committed), (raft.term, raft.log.committed + 1)):
            item = Quiesce(GROUP, raft.leader_id, group.replica_id, term, commit)
            self.three.network.nodes[self.follower].receive([item])

        self.assertFalse(group.quiet.asleep)

    def test_lost_request_to_sleep_does_no_harm(self) -> None:
        """A follower that alone was not told to sleep misses heartbeats and wakes the leader; nobody is deposed."""
        term = self.three.network.nodes[self.leader].status(GROUP).term
        awake = self.three.network.nodes[self.follower].open_groups()[0].replica_id
        self.three.network.drops = lambda item: isinstance(item, Quiesce) and item.to == awake
        self.write()

        sent = self.sent_within(3 * QUIET_SECONDS)

        self.assertTrue(any(isinstance(item, GroupMessage) for item in sent))
        self.assertEqual(self.three.network.nodes[self.leader].status(GROUP).term, term)
        self.assertEqual(self.three.leader(), self.leader)


class BusyFollowerTests(SynchronousTestCase):
    """A leader sleeps while its followers still apply what they have."""

    def setUp(self) -> None:
        """Server A leads and has just fallen asleep; the others have been told to, but are at work."""
        self.slow = {"B": SlowJournal(), "C": SlowJournal()}
        self.three = Three(machines={"A": Journal(), **self.slow})
        self.three.run(0.01)
        nodes = self.three.network.nodes
        nodes["A"].campaign(GROUP)
        self.groups = {name: node.open_groups()[0] for name, node in nodes.items()}
        for _ in range(2 * QUIET_TICKS):
            if not self.groups["A"].quiet.asleep:
                self.three.run(Times().tick_seconds)
        self.assertEqual(self.asleep(), {"A": True, "B": False, "C": False})
        self.three.network.sent.clear()

    def asleep(self) -> dict[str, bool]:
        """Return which servers' replicas sleep."""
        return {name: group.quiet.asleep for name, group in self.groups.items()}

    def end_work(self) -> None:
        """Let the followers apply everything, and a tick pass."""
        for journal in self.slow.values():
            while journal.pending:
                journal.go()
        self.three.run(2 * Times().tick_seconds)

    def kinds(self) -> set[type]:
        """Return what was sent."""
        return {type(item) for *_, item in self.three.network.sent}

    def test_sleep_when_they_have_applied(self) -> None:
        """However long they take, they disturb nobody, and are not told again."""
        self.three.run(3)
        self.assertEqual(self.asleep(), {"A": True, "B": False, "C": False})
        self.end_work()

        self.assertEqual(self.asleep(), dict.fromkeys("ABC", True))
        self.assertEqual(self.kinds(), {Alive})

    def test_stay_awake_if_they_hear_of_their_leader(self) -> None:
        """Whatever a leader sends says that it is awake again."""
        read = self.three.network.nodes["A"].read_index(GROUP, 1)
        self.three.run(0.1)
        self.successResultOf(read)
        self.end_work()

        self.assertEqual(self.asleep(), dict.fromkeys("ABC", False))

    def test_stay_awake_if_their_leader_was_restarted(self) -> None:
        """They would wait for a leader that has forgotten that it led."""
        self.three.network.drops = lambda item: isinstance(item, Alive) and item.server == "A"
        for name in self.slow:
            self.three.network.nodes[name].receive([Alive("A", boot=1)])
        self.end_work()

        self.assertEqual(self.asleep(), {"A": True, "B": False, "C": False})

    def test_leader_that_does_not_answer(self) -> None:
        """Who reads while told to sleep does not trust in the life of its leader's server."""
        leader = self.three.network.nodes["A"]
        receive = leader.receive
        with patch.object(leader, "receive", lambda items: receive([i for i in items if isinstance(i, Alive)])):
            for name in self.slow:
                _ = self.three.network.nodes[name].read_index(GROUP, 5)
            self.three.run(2)

        self.assertIn(self.three.network.nodes["B"].leader_id(GROUP), (2, 3))

    def test_leader_dies(self) -> None:
        """They miss it as those do who sleep, and elect another one."""
        self.three.network.cut.add("A")
        self.three.run(1)

        self.assertIn(self.three.leader(), self.slow)

    def test_told_too_late(self) -> None:
        """Who misses a server already takes no request to sleep from it, as it would not be missed again."""
        group = self.groups["C"]
        raft = group.raw.raft
        item = Quiesce(GROUP, raft.leader_id, group.replica_id, raft.term, raft.log.committed)
        self.three.network.cut.add("A")
        while not self.three.network.nodes["C"]._sleep.is_silent("A"):
            self.three.run(Times().tick_seconds / 5)
        self.three.network.nodes["C"].receive([item])
        self.end_work()

        self.assertFalse(group.quiet.asleep)


class SlowLeaderTests(SynchronousTestCase):
    """A leader that had to apply for long gives its followers as much time afterwards as any other."""

    def test_slow_leader(self) -> None:
        """Its group does not sleep as soon as it has ended."""
        slow = SlowJournal()
        three = Three(machines={"A": slow, "B": Journal(), "C": Journal()})
        three.run(0.01)
        three.network.nodes["A"].campaign(GROUP)
        three.run(QUIET_SECONDS)
        group = three.network.nodes["A"].open_groups()[0]
        while slow.pending:
            slow.go()
        three.run(QUIET_SECONDS / 4)
        self.assertFalse(group.quiet.asleep)

        three.run(QUIET_SECONDS / 2)

        self.assertTrue(group.quiet.asleep)


class SlowAnswerTests(SynchronousTestCase):
    """A leader that waits for an answer stays awake, as that would wake it."""

    def test_slow_answers(self) -> None:
        """It falls asleep with its followers once they have answered its last heartbeats."""
        three = Three()
        three.run(1)
        leader = three.network.nodes[three.leader()]
        group = leader.open_groups()[0]
        late: list[RaftItem] = []

        def hold(item: RaftItem) -> bool:
            held = isinstance(item, GroupMessage) and item.message.type is MessageType.HEARTBEAT_RESPONSE
            if held:
                late.append(item)
            return held

        three.network.drops = hold
        for _ in range(3 * QUIET_TICKS):
            three.run(Times().tick_seconds)
            if len(late) > 2:
                leader.receive([late.pop(0)])
                self.assertFalse(group.quiet.asleep)
        three.network.drops = lambda item: False
        three.run(QUIET_SECONDS)

        self.assertTrue(group.quiet.asleep)
