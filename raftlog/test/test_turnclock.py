"""Calls due at once are made together at the end of the turn, in order, and so are those they ask for."""

from __future__ import annotations

from typing import cast

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftlog.turnclock import TurnClock


class TurnClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a clock over one that the test turns; `made` are the calls in order."""
        self.reactor = Clock()
        self.clock = TurnClock(self.reactor)
        self.made: list[object] = []

    def turn(self) -> None:
        """Let the reactor make the one call that it was asked for."""
        (call,) = self.reactor.getDelayedCalls()
        function = cast(DelayedCall, call).func
        call.cancel()
        function()

    def test_calls_of_a_turn_are_made_in_order_in_one(self) -> None:
        """However many are asked for, the reactor has one call to make."""
        for number in range(3):
            self.clock.callLater(0, self.made.append, number)

        self.assertEqual((self.made, len(self.reactor.getDelayedCalls())), ([], 1))
        self.turn()
        self.assertEqual((self.made, self.reactor.getDelayedCalls()), ([0, 1, 2], []))

    def test_calls_asked_for_by_calls_follow_in_the_same_turn(self) -> None:
        """A part that leaves work to the next costs no turn of the reactor."""
        self.clock.callLater(0, lambda: self.clock.callLater(0, self.made.append, "second"))

        self.turn()

        self.assertEqual((self.made, self.reactor.getDelayedCalls()), (["second"], []))

    def test_what_goes_on_for_ever_lets_the_reactor_have_its_turn(self) -> None:
        """Calls that ask for calls without end are made a few at a time."""

        def again() -> None:
            self.made.append(None)
            self.clock.callLater(0, again)

        self.clock.callLater(0, again)
        self.turn()
        first = len(self.made)
        self.turn()

        self.assertLess(first, 10)
        self.assertEqual(len(self.made), 2 * first)

    def test_delays_are_the_reactors(self) -> None:
        """Only what is due at once is different."""
        self.clock.callLater(2, self.made.append, "late")
        self.reactor.advance(1)
        self.assertEqual((self.made, self.clock.seconds()), ([], 1))
        self.reactor.advance(1)

        self.assertEqual(self.made, ["late"])

    def test_cancelled_and_delayed_calls(self) -> None:
        """A call may be cancelled or put off until it is made; until then it is listed."""
        cancelled = self.clock.callLater(0, self.made.append, "cancelled")
        delayed = self.clock.callLater(0, self.made.append, "delayed")

        cancelled.cancel()
        delayed.delay(1)
        self.assertIn(delayed, self.clock.getDelayedCalls())
        self.assertNotIn(cancelled, self.clock.getDelayedCalls())
        self.turn()
        self.assertEqual(self.made, [])
        self.reactor.advance(1)

        self.assertEqual(self.made, ["delayed"])

    def test_failing_call_spares_the_others(self) -> None:
        """The failure is logged."""
        self.clock.callLater(0, lambda: 1 // 0)
        self.clock.callLater(0, self.made.append, "other")

        self.turn()

        self.assertEqual(self.made, ["other"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
