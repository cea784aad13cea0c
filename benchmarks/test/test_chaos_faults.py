"""Tests of benchmarks.chaos.faults."""

from __future__ import annotations

from itertools import islice
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.faults import Fault, Kind, schedule


def drawn(seed: str, *kinds: Kind, count: int = 60) -> list[Fault]:
    """Return the first faults of a seed."""
    return list(islice(schedule(Random(seed), kinds), count))


class Schedules(SynchronousTestCase):
    def test_seed_decides(self) -> None:
        """A seed gives the same faults again, another seed others."""
        self.assertEqual(drawn("1", *Kind), drawn("1", *Kind))
        self.assertNotEqual(drawn("1", *Kind), drawn("2", *Kind))

    def test_only_what_is_possible(self) -> None:
        """Faults that cannot be done to a cluster do not strike it."""
        kinds = {fault.kind for fault in drawn("1", Kind.KILL, Kind.PAUSE)}

        self.assertEqual(kinds, {Kind.KILL, Kind.PAUSE})

    def test_every_kind_has_its_turn(self) -> None:
        """No kind waits for ever: each strikes in every round of the deck."""
        kinds = [fault.kind for fault in drawn("1", *Kind, count=25)]

        self.assertEqual(set(kinds), set(Kind))

    def test_times(self) -> None:
        """There is a calm before each fault, and each takes a while."""
        for fault in drawn("3", *Kind):
            self.assertGreaterEqual(fault.calm_seconds, 1)
            self.assertGreater(fault.hold_seconds, 0)


class Victims(SynchronousTestCase):
    def test_order(self) -> None:
        """The victims of a fault depend on who there is, not on the order in which they are told."""
        fault = Fault(Kind.KILL, 1, 1, 0.5)

        first = fault.order(["a", "b", "c"])

        self.assertEqual(first, fault.order(["c", "b", "a"]))
        self.assertEqual(sorted(first), ["a", "b", "c"])
        self.assertEqual(fault.choose("abc"), first[0])

    def test_everybody_may_be_meant(self) -> None:
        """Over many faults every server is chosen."""
        chosen = {fault.choose("abc") for fault in drawn("1", Kind.KILL)}

        self.assertEqual(chosen, {"a", "b", "c"})
