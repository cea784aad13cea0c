"""Exactly once: what a session remembers, what it forgets, and how the shard's clock goes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode import sessions
from dbnode.changes import Changes, Position, Results
from dbnode.sessions import (
    CLOCK_STEP_MS_MAX,
    SEQUENCES_OPEN_MAX,
    SESSION_IDLE_ENTRIES,
    Rejected,
    SessionLayer,
    SessionTable,
)
from dbnode.wire import STALE_SEQUENCE, UNKNOWN_SESSION, Batch, OpenSession, Stored


class SessionsTestCase(SynchronousTestCase):
    """For tests that take entries one after the other; `commit` ends a transaction."""

    def setUp(self) -> None:
        """Begin with no sessions."""
        self.table = SessionTable()
        self.layer = SessionLayer(self.table, 0)
        self.index = 0

    def commit(self) -> None:
        """Take the transaction over and begin another."""
        layer = self.layer
        self.table.absorb(Changes(Position(), closed=layer.closed, sessions=layer.marks(), results=layer.results()))
        self.layer = SessionLayer(self.table, layer.clock_ms)

    def open(self, name: str, now_ms: int = 0, index: int | None = None) -> None:
        """Apply an OpenSession."""
        self.index = index or self.index + 1
        self.layer.open(self.index, OpenSession(name, now_ms))

    def batch(
        self, name: str, sequence: int, acknowledged: int = 0, now_ms: int = 0, index: int | None = None
    ) -> Results | Rejected:
        """Apply a Batch whose result, if it is new, is the index of its entry."""
        self.index = index or self.index + 1
        batch = Batch(name, sequence, acknowledged, now_ms, ())
        found = self.layer.find(self.index, batch)
        if found is None:
            found = (Stored(self.index),)
            self.layer.record(batch, found)
        return found

    def assert_rejected(self, code: str, outcome: Results | Rejected) -> None:
        """Check that a batch was refused."""
        assert isinstance(outcome, Rejected), outcome
        self.assertEqual(outcome.code, code)


class ExactlyOnce(SessionsTestCase):
    def test_retry_gives_the_first_results(self) -> None:
        """A batch that comes again is not applied again, in the same transaction or later ones."""
        self.open("a")

        first = self.batch("a", 1)
        again = self.batch("a", 1)
        self.commit()
        later = self.batch("a", 1)

        self.assertEqual((again, later), (first, first))

    def test_any_order(self) -> None:
        """Sequences may come in any order, each is applied once."""
        self.open("a")

        outcomes = [self.batch("a", sequence) for sequence in (3, 1, 3, 2, 1)]

        self.assertEqual(outcomes, [(Stored(index),) for index in (2, 3, 2, 5, 3)])

    def test_acknowledged_is_forgotten(self) -> None:
        """What the session acknowledged is refused when it comes again, not applied again."""
        self.open("a")
        self.batch("a", 1)
        self.batch("a", 2)
        self.commit()

        self.batch("a", 3, acknowledged=1)

        self.assert_rejected(STALE_SEQUENCE, self.batch("a", 1))
        self.assertEqual(self.batch("a", 2), (Stored(3),))
        self.commit()
        self.assertEqual(set(self.table.results()), {("a", 2), ("a", 3)})

    def test_acknowledgement_never_goes_back(self) -> None:
        """An old entry with a lower acknowledgement changes nothing."""
        self.open("a")
        self.batch("a", 5, acknowledged=4)

        self.batch("a", 6, acknowledged=0)

        self.assert_rejected(STALE_SEQUENCE, self.batch("a", 4))

    def test_sequences_count_from_1(self) -> None:
        """0 is acknowledged from the start."""
        self.open("a")

        self.assert_rejected(STALE_SEQUENCE, self.batch("a", 0))

    def test_open_sequences_are_bounded(self) -> None:
        """A sequence far ahead acknowledges what it leaves behind."""
        self.open("a")
        self.batch("a", 1)
        self.batch("a", 2)

        self.batch("a", 1 + SEQUENCES_OPEN_MAX)

        self.assert_rejected(STALE_SEQUENCE, self.batch("a", 1))
        self.assertEqual(self.batch("a", 2), (Stored(3),))

    def test_results_within_one_transaction(self) -> None:
        """What is stored and acknowledged in one transaction is not kept."""
        self.open("a")
        self.batch("a", 1)
        self.batch("a", 2, acknowledged=1)

        self.assertEqual(set(self.layer.results()), {("a", 2)})


class Lifetime(SessionsTestCase):
    def test_unknown_session(self) -> None:
        """A batch of a session that was never opened is refused and leaves no trace."""
        self.assert_rejected(UNKNOWN_SESSION, self.batch("a", 1))

        self.assertEqual((self.layer.marks(), self.layer.results()), ({}, {}))

    def test_opened_twice(self) -> None:
        """Opening again, as a retry does, forgets nothing."""
        self.open("a")
        first = self.batch("a", 1, acknowledged=0)
        self.commit()

        self.open("a")

        self.assertEqual(self.batch("a", 1), first)

    def test_expires_by_log_index(self) -> None:
        """A session lives as long as entries that use it are not too far apart."""
        self.open("a", index=1)
        self.batch("a", 1, index=1 + SESSION_IDLE_ENTRIES)
        self.commit()
        last = 1 + SESSION_IDLE_ENTRIES

        self.assertEqual(self.batch("a", 1, index=last + SESSION_IDLE_ENTRIES), (Stored(last),))
        self.assert_rejected(UNKNOWN_SESSION, self.batch("a", 1, index=last + 2 * SESSION_IDLE_ENTRIES + 1))

    def test_expired_ones_go_when_another_is_opened(self) -> None:
        """Room is made by forgetting what has expired, with its results."""
        self.open("a")
        self.batch("a", 1)
        self.commit()

        self.open("b", index=self.index + SESSION_IDLE_ENTRIES + 1)
        self.commit()

        self.assertEqual((list(self.table.marks()), self.table.results()), (["b"], {}))

    def test_expired_name_begins_anew(self) -> None:
        """A name that is opened after its session expired has no results of before."""
        self.open("a")
        self.batch("a", 1)
        self.commit()

        self.open("a", index=self.index + SESSION_IDLE_ENTRIES + 1)
        outcome = self.batch("a", 1)
        self.commit()

        self.assertEqual(outcome, (Stored(self.index),))
        self.assertEqual(self.table.results(), {("a", 1): outcome})

    def test_number_is_bounded(self) -> None:
        """Opening one too many forgets the one that was unused the longest, in whichever transaction it is."""
        self.patch(sessions, "SESSIONS_MAX", 3)
        for name in ("a", "b"):
            self.open(name)
        self.commit()
        self.open("c")
        self.batch("a", 1)

        self.open("d")

        self.assert_rejected(UNKNOWN_SESSION, self.batch("b", 1))
        self.assertEqual(self.batch("a", 1), (Stored(4),))
        self.open("e")
        self.assert_rejected(UNKNOWN_SESSION, self.batch("c", 1))
        self.commit()
        self.assertEqual(sorted(self.table.marks()), ["a", "d", "e"])


class Clock(SessionsTestCase):
    YEARS_10 = 10 * 365 * 24 * 3600 * 1000

    def test_counts_what_goes_by(self) -> None:
        """The clock begins at 0 and follows the proposer's."""
        self.open("a", now_ms=self.YEARS_10)
        self.batch("a", 1, now_ms=self.YEARS_10 + 250)
        self.commit()
        self.batch("a", 2, now_ms=self.YEARS_10 + 1250)

        self.assertEqual(self.layer.clock_ms, 1250)

    def test_clocks_may_differ(self) -> None:
        """A proposer whose clock is years ahead or behind does not move the shard's clock."""
        self.open("a", now_ms=self.YEARS_10)
        self.batch("a", 1, now_ms=self.YEARS_10 + 1000)

        self.open("ahead", now_ms=2 * self.YEARS_10)
        self.open("behind", now_ms=0)
        self.batch("ahead", 1, now_ms=2 * self.YEARS_10 + 500)
        self.batch("behind", 1, now_ms=200)

        self.assertEqual(self.layer.clock_ms, 1500)

    def test_a_jump_is_bounded_once(self) -> None:
        """A clock that jumps ahead moves the shard's by one step, and from then on by what goes by."""
        self.open("a", now_ms=0)

        self.batch("a", 1, now_ms=self.YEARS_10)
        self.batch("a", 2, now_ms=self.YEARS_10 + 10)
        self.commit()
        self.batch("a", 3, now_ms=self.YEARS_10 + 20)

        self.assertEqual(self.layer.clock_ms, CLOCK_STEP_MS_MAX + 20)

    def test_a_jump_back_does_not_stop_it(self) -> None:
        """A clock that is set back moves nothing back, and counts again before long."""
        self.open("a", now_ms=self.YEARS_10)
        self.batch("a", 1, now_ms=0)

        self.batch("a", 2, now_ms=CLOCK_STEP_MS_MAX)
        self.batch("a", 3, now_ms=CLOCK_STEP_MS_MAX + 30)

        self.assertEqual(self.layer.clock_ms, 30)

    def test_never_goes_back(self) -> None:
        """An entry that was delayed, with an older time, changes nothing."""
        self.open("a", now_ms=0)
        self.batch("a", 2, now_ms=5000)

        self.batch("a", 1, now_ms=4000)

        self.assertEqual(self.layer.clock_ms, 5000)
        self.batch("a", 3, now_ms=5100)
        self.assertEqual(self.layer.clock_ms, 5100)
