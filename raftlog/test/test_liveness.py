"""One heartbeat from server to server stands for all their groups, and any message for that."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.liveness import Liveness
from raftlog.messages import Alive, GroupMessage, Message, MessageType
from raftlog.options import Times
from raftlog.quiet import QUIET_TICKS
from raftlog.test.three import GROUP, Three

#: As drivers have it (raftlog.options.Times).
SILENCE_TICKS = 12
HEARTBEAT_TICKS = 3
SPARED_MAX = 2


class GreetingTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with two neighbours who were greeted."""
        self.liveness = Liveness(1, SILENCE_TICKS, SPARED_MAX)
        self.liveness.set_neighbours("A", ["A", "B", "C"])
        self.greet()

    def greet(self, *, full: bool = False) -> list[str]:
        """Greet who has to be; return who that was."""
        due = self.liveness.to_greet(full)
        for server in due:
            self.liveness.greeted(server)
        return due

    def test_who_was_sent_nothing(self) -> None:
        """Where nothing else is sent everybody is greeted."""
        self.assertEqual([self.greet() for _ in range(3)], [["B", "C"]] * 3)

    def test_who_was_sent_something(self) -> None:
        """Who was sent something since is not, but for now and then."""
        greeted = []
        for _ in range(2 * (SPARED_MAX + 1)):
            self.liveness.sent("B")
            greeted.append(self.greet())

        self.assertEqual(greeted, [*[["C"]] * SPARED_MAX, ["B", "C"]] * 2)

    def test_first_greeting(self) -> None:
        """Which process it is everybody is told first: it may have been restarted."""
        self.liveness.sent("D")
        self.liveness.set_neighbours("A", ["B", "C", "D"])
        self.liveness.sent("B")

        self.assertEqual(self.greet(), ["C", "D"])

    def test_greeting_that_was_not_sent(self) -> None:
        """It does not count."""
        for _ in range(SPARED_MAX):
            self.liveness.sent("B")
            self.greet()
        self.liveness.sent("B")
        self.assertEqual(self.liveness.to_greet(full=False), ["B", "C"])
        self.liveness.sent("B")

        self.assertEqual(self.greet(), ["B", "C"])

    def test_full_disk(self) -> None:
        """Everybody is told when the disk fills up, and when there is room again."""
        for full in (True, False):
            self.liveness.sent("B")
            self.assertEqual(self.greet(full=full), ["B", "C"])
            self.assertEqual(self.liveness.greeting(), Alive("A", 1, full))
            self.liveness.sent("B")
            self.assertEqual(self.greet(full=full), ["C"])


class SilenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Listen to one other server."""
        self.liveness = Liveness(1, SILENCE_TICKS, SPARED_MAX)
        self.liveness.set_neighbours("A", ["A", "B"])

    def test_any_message_is_a_sign_of_life(self) -> None:
        """A server that sends messages of groups only is not silent."""
        for _ in range(3):
            self.assertEqual([self.liveness.tick() for _ in range(SILENCE_TICKS)], [[]] * SILENCE_TICKS)
            self.liveness.heard_of("B")

        self.assertFalse(self.liveness.is_silent("B"))

    def test_message_ends_a_silence(self) -> None:
        """It is noticed once that a server fell silent, and that it is not any more."""
        fallen = [self.liveness.tick() for _ in range(SILENCE_TICKS + 2)]
        self.assertEqual(fallen, [*[[]] * SILENCE_TICKS, ["B"], []])

        self.liveness.heard_of("B")

        self.assertFalse(self.liveness.is_silent("B"))

    def test_messages_for_nobody(self) -> None:
        """A server that sends only what nobody here takes, or what waits behind something big, is not silent."""
        sender = Liveness(1, SILENCE_TICKS, SPARED_MAX)
        sender.set_neighbours("B", ["A"])
        fallen = []
        for tick in range(20 * HEARTBEAT_TICKS):
            sender.sent("A")
            if tick % HEARTBEAT_TICKS == 0:
                for server in sender.to_greet(full=False):
                    sender.greeted(server)
                    self.liveness.heard(sender.greeting())
            fallen += self.liveness.tick()

        self.assertEqual(fallen, [])

    def test_server_that_was_away(self) -> None:
        """A server that shares a group again, and was restarted meanwhile, has left none of its groups in the lurch."""
        self.assertFalse(self.liveness.heard(Alive("B", 1)))
        self.assertTrue(self.liveness.heard(Alive("B", 2)))
        self.liveness.set_neighbours("A", ["C"])
        self.liveness.set_neighbours("A", ["B", "C"])

        self.assertFalse(self.liveness.heard(Alive("B", 3)))

    def test_stranger(self) -> None:
        """Who shares no group with this server is not remembered."""
        self.liveness.heard_of("C")
        self.assertFalse(self.liveness.heard(Alive("C", 1, full=False)))

        self.assertFalse(self.liveness.may_lead("C"))


class ServerTests(SynchronousTestCase):
    """The same between real drivers."""

    def test_busy_group(self) -> None:
        """Between a leader and its followers greetings are rarer; followers, who send each other nothing, go on."""
        three = Three()
        three.run(2)
        leader = three.leader()
        for number in range(70):
            if number == 10:
                three.network.sent.clear()
            write = three.network.nodes[leader].propose(GROUP, b"line")
            three.run(0.03)
            self.successResultOf(write)

        greetings = {True: 0, False: 0}
        for from_, to, _, item in three.network.sent:
            if isinstance(item, Alive):
                greetings[leader in (from_, to)] += 1

        self.assertEqual(greetings[False], 2 * 24)
        self.assertEqual(greetings[True], 4 * 24 // (SPARED_MAX + 1))
        self.assertNotIn(MessageType.HEARTBEAT, self.kinds(three))
        self.assertEqual(three.failures, [])

    def test_question_that_was_passed_on(self) -> None:
        """A message in a dead server's name, from who passes it on, is no sign of its life."""
        three = Three()
        three.run(2)
        leader = three.network.nodes[three.leader()]
        group = leader.open_groups()[0]
        asker, dead = next((id_, name) for id_, name in group.peers.items() if name != three.leader())
        three.network.cut.add(dead)
        three.run(1)

        question = Message(MessageType.READ_INDEX, group.replica_id, asker, context=b"1:1")
        leader.receive([GroupMessage(GROUP, question)])

        self.assertTrue(leader._sleep.is_silent(dead))

    def test_woken_leader(self) -> None:
        """A leader that wakes up sends heartbeats with its next tick, however lately it sent any before it slept."""
        for late in range(Times().heartbeat_ticks):
            three = Three()
            three.run(2 + late * Times().tick_seconds)
            leader = three.network.nodes[three.leader()]
            group = leader.open_groups()[0]
            follower = next(name for name in group.peers.values() if name != three.leader())
            _ = leader.propose(GROUP, b"line")
            three.run(1 + 2 * QUIET_TICKS * Times().tick_seconds)
            self.assertEqual({node.open_groups()[0].quiet.asleep for node in three.network.nodes.values()}, {True})
            three.network.sent.clear()

            three.crash(follower).open_group(GROUP, dict(three.peers), three.machines[follower])
            while group.quiet.asleep:
                three.run(Times().tick_seconds / 5)
            three.run(Times().tick_seconds)

            self.assertEqual(self.kinds(three).count(MessageType.HEARTBEAT), 2)

    def kinds(self, three: Three) -> list[MessageType]:
        """Return the types of the messages that groups sent."""
        return [item.message.type for *_, item in three.network.sent if isinstance(item, GroupMessage)]
