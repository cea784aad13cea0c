"""Every mutant is caught, by the simulator or, where chance hardly brings about what it takes, by its scenario."""

from __future__ import annotations

from multiprocessing import cpu_count

from twisted.trial.unittest import SynchronousTestCase

from dbnode.testing import fuzz
from dbnode.testing.mutation import SEEDS_MAX, hunt_all, line


class Mutants(SynchronousTestCase):
    # Some fifty mutants, the last of them with hundreds of seeds.
    timeout = 3600

    def test_all_caught(self) -> None:
        """No mutant goes unseen; how many seeds each one takes is printed."""
        missed = []

        for catch in hunt_all(range(SEEDS_MAX), cpu_count()):
            fuzz.say(line(catch))
            if catch.seeds < 0:
                missed.append(catch.mutant.name)

        self.assertEqual(missed, [])
