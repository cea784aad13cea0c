"""Every mutant is caught: by its scenario if it has one, else by the simulator."""

from __future__ import annotations

from multiprocessing import cpu_count

from twisted.trial.unittest import SynchronousTestCase

from dbnode.testing import fuzz
from dbnode.testing.mutation import MUTANTS, SEEDS_MAX, hunt, hunt_all, hunt_surely, line
from raftlog.testing.mutants import Mutant

NO_MUTANT = Mutant("nothing is broken", "", ())


class Mutants(SynchronousTestCase):
    # Some twenty mutants have no scenario, and may take SEEDS_MAX seeds each.
    timeout = 3600

    def test_all_caught(self) -> None:
        """No mutant goes unseen, and every scenario sees its own; how many seeds the others take is printed."""
        missed = []

        for catch in hunt_all(hunt_surely, range(SEEDS_MAX), cpu_count()):
            fuzz.say(line(catch))
            if catch.seeds < 0:
                missed.append(catch.mutant.name)

        self.assertEqual(missed, [])

    def test_nothing_to_catch(self) -> None:
        """What catches mutants, a few seeds or a scenario, is content with the real thing."""
        scenarios = {mutant.scenario for mutant in MUTANTS}

        seen = {scenario: hunt(NO_MUTANT._replace(scenario=scenario), range(0)).seen for scenario in scenarios}
        seen["seeds"] = hunt(NO_MUTANT, range(3)).seen

        self.assertEqual(set(seen.values()), {"NOT CAUGHT"}, seen)
