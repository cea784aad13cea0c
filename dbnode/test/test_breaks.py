"""What partition tests lose and how they measure."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.testing import breaks
from dbnode.testing.breaks import Break, Scene, beside
from dbnode.testing.networks import Troubles
from dbnode.testing.prober import longest_pause

SCENE = Scene("A", ("B", "C"))


def lost(broken: Break) -> list[Troubles]:
    """Return the troubles of each step of a break."""
    return [troubles for troubles, _ in broken.steps(SCENE)]


class BreakTests(SynchronousTestCase):
    def test_a_leader_is_cut_off_with_its_client(self) -> None:
        """Nothing gets from one side to the other or back; each side is whole."""
        (troubles,) = lost(breaks.LEADER)

        here, there = {"A", beside("A")}, {"B", "C", beside("B"), beside("C")}
        self.assertEqual(set(troubles), {(a, b) for a in here for b in there} | {(b, a) for a in here for b in there})
        self.assertEqual(set(troubles.values()), {breaks.LOST})

    def test_one_way(self) -> None:
        """A leader that is not heard hears; one that does not hear is heard."""
        self.assertEqual([set(one) for one in lost(breaks.MUTE)], [{("A", "B"), ("A", "C")}])
        self.assertEqual([set(one) for one in lost(breaks.DEAF)], [{("B", "A"), ("C", "A")}])

    def test_flapping_heals_between(self) -> None:
        """Every other step loses nothing."""
        steps = lost(breaks.FLAPPING)

        self.assertEqual([bool(troubles) for troubles in steps], [True, False] * (len(steps) // 2))


class PauseTests(SynchronousTestCase):
    def test_longest_pause(self) -> None:
        """A pause counts from the last success before to the first after, if some of it lies between the moments."""
        self.assertEqual(longest_pause([0, 5, 6, 9.5, 20], 6, 9), 3.5)
        self.assertEqual(longest_pause([0, 5, 6, 9, 20], 7, 8), 3)
        self.assertEqual(longest_pause([0, 10], 1, 2), 10)
        self.assertEqual(longest_pause([], 1, 2), 1)
