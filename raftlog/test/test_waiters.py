"""Whoever proposed an entry hears what became of it, once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.errors import LeadershipLost, Superseded
from raftlog.messages import Entry
from raftlog.waiters import Waiters


class WaitersTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Entries 5 and 6 were proposed in term 2."""
        self.waiters = Waiters()
        self.fifth = self.waiters.add(2, 5)
        self.sixth = self.waiters.add(2, 6)

    def test_results(self) -> None:
        """Each gets the result of its own entry; those that nobody waits for are passed over."""
        self.waiters.applied([Entry(2, index) for index in (4, 5, 6)], ["four", "five", "six"])

        self.assertEqual([self.successResultOf(one) for one in (self.fifth, self.sixth)], ["five", "six"])
        self.assertFalse(self.waiters)

    def test_only_what_was_applied(self) -> None:
        """Later entries are waited for."""
        self.waiters.applied([Entry(2, 5)], ["five"])

        self.assertEqual(self.successResultOf(self.fifth), "five")
        self.assertNoResult(self.sixth)
        self.assertTrue(self.waiters)

    def test_another_leaders_entry(self) -> None:
        """An entry of another term in the same place is not what was proposed."""
        self.waiters.applied([Entry(3, 5)], ["another's"])

        self.failureResultOf(self.fifth, Superseded)
        self.assertNoResult(self.sixth)

    def test_fail_all(self) -> None:
        """What is not known here any more is told everybody, and nobody waits."""
        self.waiters.fail_all(LeadershipLost("gone"))

        self.failureResultOf(self.fifth, LeadershipLost)
        self.failureResultOf(self.sixth, LeadershipLost)
        self.assertFalse(self.waiters)

    def test_cancelled(self) -> None:
        """Who does not wait any more is told nothing, whatever becomes of the entry."""
        for deferred in (self.fifth, self.sixth):
            _ = deferred.addErrback(lambda failure: None)
            deferred.cancel()

        self.waiters.applied([Entry(2, 5)], ["five"])
        self.waiters.fail_all(LeadershipLost("gone"))

        self.assertFalse(self.waiters)

    def test_every_entry_has_a_result(self) -> None:
        """A state machine that returns too few is found out."""
        self.assertRaises(ValueError, self.waiters.applied, [Entry(2, 5), Entry(2, 6)], ["five"])
