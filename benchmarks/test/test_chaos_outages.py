"""Tests of benchmarks.chaos.outages and benchmarks.chaos.pauses."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.outages import Outages
from benchmarks.chaos.pauses import Pauses


class Excuses(SynchronousTestCase):
    def setUp(self) -> None:
        """Place sh1 on a, b, c and sh2 on c, d, e."""
        self.clock = Clock()
        self.outages = Outages(self.clock.seconds)
        self.outages.place({"a": ["sh1"], "b": ["sh1"], "c": ["sh1", "sh2"], "d": ["sh2"], "e": ["sh2"]})

    def test_minority(self) -> None:
        """While a majority of a shard runs, nothing is excused."""
        self.outages.down(["a"])
        self.clock.advance(5)

        self.assertFalse(self.outages.excuse(["sh1"], 0, 5))

    def test_majority(self) -> None:
        """From its majority's end until it is back a shard's errors are excused, and no other shard's."""
        self.clock.advance(10)
        self.outages.down(["a", "b"])
        self.clock.advance(10)
        self.outages.up(["a"])
        self.clock.advance(10)

        excused = [self.outages.excuse(["sh1"], *times) for times in ((0, 9), (5, 11), (12, 13), (19, 25), (21, 30))]

        self.assertEqual(excused, [False, True, True, True, False])
        self.assertFalse(self.outages.excuse(["sh2"], 0, 30))
        self.assertTrue(self.outages.excuse(["sh2", "sh1"], 0, 30))

    def test_lasting(self) -> None:
        """An outage that lasts excuses whatever ends in it."""
        self.outages.down(["a", "b"])
        self.clock.advance(100)

        self.assertTrue(self.outages.excuse(["sh1"], 90, 95))

    def test_one_after_the_other(self) -> None:
        """A majority is gone as soon as the second of three is, though they went for different reasons."""
        self.outages.down(["c"])
        self.clock.advance(1)
        self.outages.down(["d"])
        self.clock.advance(1)

        excused = [self.outages.excuse(["sh2"], *times) for times in ((0, 0.5), (1.5, 2))]

        self.assertEqual(excused, [False, True])

    def test_balancer(self) -> None:
        """Without a balancer every shard is out."""
        self.outages.balancer_down()
        self.clock.advance(1)
        self.outages.balancer_up()
        self.clock.advance(1)

        self.assertTrue(self.outages.excuse(["sh2"], 0.5, 3))
        self.assertFalse(self.outages.excuse(["sh2"], 1.5, 3))


class Waits(SynchronousTestCase):
    def test_nobody_waits(self) -> None:
        """The time in which nobody asks for anything is no pause."""
        pauses = Pauses(["sh1"])

        for began in (0, 100):
            pauses.began(["sh1"], began)
            pauses.ended(["sh1"], began + 2, succeeded=True, fault="none")

        self.assertEqual(pauses.longest_by_shard, {"sh1": 2})
        self.assertEqual(pauses.lasting("sh1", 200), 0)

    def test_failures_end_no_pause(self) -> None:
        """A pause goes on over failures until something succeeds, and belongs to what was the matter then."""
        pauses = Pauses(["sh1"])

        for began, succeeded in ((0, False), (10, False), (11, True)):
            pauses.began(["sh1"], began)
            pauses.ended(["sh1"], began + 1, succeeded=succeeded, fault="kill")

        self.assertEqual(pauses.longest_by_shard, {"sh1": 12})
        self.assertEqual(pauses.longest_by_fault, {"kill": 12})

    def test_others_succeed(self) -> None:
        """While others succeed, one that waits long is no pause of its shard; what follows the last success is."""
        pauses = Pauses(["sh1", "sh2"])
        pauses.began(["sh1", "sh2"], 0)
        pauses.began(["sh1"], 1)

        pauses.ended(["sh1"], 3, succeeded=True, fault="none")

        self.assertEqual(pauses.longest_by_shard, {"sh1": 3, "sh2": 0})
        self.assertEqual((pauses.lasting("sh1", 7), pauses.lasting("sh2", 7)), (4, 7))
