"""The budget of a turn: who waits, in which order, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.turns import TURN_COST_MAX, Turns


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make turns of a clock."""
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.done: list[str] = []

    def work(self, name: str, cost: int) -> Callable[[], int]:
        """Return a piece of work that notes its name."""

        def do() -> int:
            self.done.append(name)
            return cost

        return do

    def test_cheap_work_is_done_at_once(self) -> None:
        """As long as there is a budget nothing waits."""
        for name in "abc":
            self.turns.run(self.work(name, 10))

        self.assertEqual(self.done, ["a", "b", "c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_beyond_the_budget_waits_in_order(self) -> None:
        """Costly work is spread over turns; what comes meanwhile stands behind it."""
        for name in "abcd":
            self.turns.run(self.work(name, TURN_COST_MAX // 2))
        self.assertEqual(self.done, ["a", "b"])

        self.turns.run(self.work("e", 1))
        self.clock.advance(0)

        self.assertEqual(self.done, ["a", "b", "c", "d", "e"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_drops_what_waits(self) -> None:
        """After the end nothing is done and no timer is left."""
        self.turns.run(self.work("a", TURN_COST_MAX))
        self.turns.run(self.work("b", 1))

        self.turns.stop()

        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.done, ["a"])
