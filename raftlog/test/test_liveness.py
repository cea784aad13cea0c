"""One heartbeat from server to server stands for all their groups, and any message for that."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.liveness import SPARED_MAX, Liveness
from raftlog.messages import Alive, GroupMessage
from raftlog.test.three import GROUP, Three

SILENCE_TICKS = 12


class GreetingTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with two neighbours who were greeted."""
        self.liveness = Liveness(1, SILENCE_TICKS)
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
        self.liveness = Liveness(1, SILENCE_TICKS)
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

    def test_stranger(self) -> None:
        """Who shares no group with this server is not remembered."""
        self.liveness.heard_of("C")
        self.assertFalse(self.liveness.heard(Alive("C", 1, full=False)))

        self.assertFalse(self.liveness.may_lead("C"))


class BusyTests(SynchronousTestCase):
    def test_busy_group(self) -> None:
        """Between a leader and its followers greetings are rare; followers, who send each other nothing, go on."""
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
        self.assertLessEqual(greetings[True], 4 * (24 // SPARED_MAX + 1))
        heartbeats = [
            item.message
            for *_, item in three.network.sent
            if isinstance(item, GroupMessage) and item.message.type.name.startswith("HEARTBEAT")
        ]
        self.assertEqual(heartbeats, [])
        self.assertEqual(three.failures, [])
