"""The simulator sees what is wrong: a few mutants that it catches at once (all of them: slow_mutants)."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dbnode.testing.mutation import MUTANTS, hunt
from raftlog.testing import mutants

#: Caught within so many seeds, some two seconds each.
SEEDS = range(15)
QUICK = (
    "call an unknown outcome not applied",
    "change the membership twice at once",
    "compact what the store can lose",
    "forget sessions in snapshots",
    "read before it is applied",
    "vote twice",
)


class QuickMutants(SynchronousTestCase):
    def test_caught(self) -> None:
        """Each is caught."""
        catches = [hunt(mutant, SEEDS) for mutant in MUTANTS if mutant.name in QUICK]

        self.assertEqual(len(catches), len(QUICK))
        self.assertEqual([catch.mutant.name for catch in catches if catch.seeds < 1], [])

    def test_taken_away_again(self) -> None:
        """Afterwards the real thing is back."""
        mutant = MUTANTS[0]
        owner, attribute, instead = mutant.changes[0]

        with mutant.applied():
            self.assertIs(getattr(owner, attribute), instead)

        self.assertIsNot(getattr(owner, attribute), instead)


class Table(SynchronousTestCase):
    def test_complete(self) -> None:
        """The table that is kept has every mutant in it, and every one was caught."""
        lines = Path(mutants.__file__).with_name("table.txt").read_text().splitlines()[1:]

        self.assertEqual([line[10:54].rstrip() for line in lines], [mutant.name for mutant in MUTANTS])
        self.assertEqual([line for line in lines if "NOT CAUGHT" in line], [])
