"""Rounds of ReadIndex: who shares one, what an answer proves, and what it does not."""

from __future__ import annotations

import random

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftlog.errors import Unavailable
from raftlog.reads import ReadRounds


class ReadRoundsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make rounds that issue contexts into a list."""
        self.issued: list[bytes] = []
        self.rounds = self.new_process(1)

    def new_process(self, seed: int) -> ReadRounds:
        """Return the rounds of replica 3 in a new process."""
        return ReadRounds(3, self.issued.append, random.Random(seed))

    def begin(self) -> Deferred[None]:
        """Begin a round for one read, which may wait for ten seconds."""
        waiting = self.rounds.wait(10.0)
        self.rounds.start(0.0)
        return waiting

    def test_released_once_applied(self) -> None:
        """A read is released when the index of its round is applied, not before."""
        waiting = self.begin()

        self.rounds.confirmed(self.issued[-1], 7)
        self.rounds.applied(6)
        self.assertNoResult(waiting)
        self.rounds.applied(7)

        self.successResultOf(waiting)

    def test_one_round_in_flight(self) -> None:
        """A read that comes while a round is in flight waits for the next one (RAFT_RULES 26, 28)."""
        first = self.begin()
        second = self.begin()

        self.rounds.confirmed(self.issued[-1], 7)
        self.rounds.applied(7)

        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual(len(self.issued), 1)

    def test_late_answer(self) -> None:
        """The answer of a round that was given up proves nothing for the next one (RAFT_RULES 26)."""
        waiting = self.begin()
        self.rounds.give_up_round()
        self.rounds.start(1.0)

        self.rounds.confirmed(self.issued[0], 7)
        self.rounds.applied(9)

        self.assertNoResult(waiting)

    def test_slow_answers_get_more_time(self) -> None:
        """A round that gets no answer is given up after the usual time, and each one after it has twice as long."""
        self.begin_at(0.0)
        self.assertEqual(self.given_up_after(0.0), 0.3)
        self.begin_at(1.0)
        self.assertEqual(self.given_up_after(1.0), 0.6)

    def test_quick_answers_end_the_patience(self) -> None:
        """An answer that takes long leaves the next round the time it needs; a quick one does not."""
        for took_seconds, then_seconds in ((0.5, 0.6), (0.05, 0.3)):
            self.rounds = self.new_process(1)
            self.begin_at(0.0)
            self.given_up_after(0.0)
            self.begin_at(1.0)
            self.rounds.sweep(1.0 + took_seconds, 0.29)
            self.rounds.confirmed(self.issued[-1], 7)

            self.begin_at(2.0)

            self.assertEqual(self.given_up_after(2.0), then_seconds)

    def begin_at(self, seconds: float) -> None:
        """Begin a round for one more read."""
        _ = self.rounds.wait(100.0)
        self.assertTrue(self.rounds.start(seconds))

    def given_up_after(self, began_seconds: float) -> float:
        """Let ticks of 25 ms pass until the round in flight is given up, which usually is after 0.29 s."""
        for ticks in range(1, 100):
            self.rounds.sweep(began_seconds + ticks / 40, 0.29)
            if self.rounds.start(began_seconds + ticks / 40):
                self.rounds.give_up_round()
                return ticks / 40
        raise AssertionError("not given up")

    def test_contexts_of_two_processes(self) -> None:
        """A context of an earlier process of the replica never comes again: its answer may still be on its way."""
        for seed in range(20):
            self.rounds = self.new_process(seed)
            _ = self.begin()
            self.rounds.give_up_round()
            self.rounds.start(1.0)

        self.assertEqual(len(set(self.issued)), len(self.issued))

    def test_deadline(self) -> None:
        """A read that nobody answers fails at its deadline."""
        waiting = self.begin()

        self.rounds.sweep(9.9, 100.0)
        self.assertNoResult(waiting)
        self.rounds.sweep(10.0, 100.0)

        self.failureResultOf(waiting, Unavailable)

    def test_known_index(self) -> None:
        """A read whose index is known needs no round and is released when that is applied, not before."""
        waiting = self.rounds.wait_for(7, 10.0)
        self.assertFalse(self.rounds.start(0.0))
        self.assertTrue(self.rounds.wait_for_apply)

        self.rounds.applied(6)
        self.assertNoResult(waiting)
        self.rounds.applied(7)

        self.successResultOf(waiting)
        self.assertFalse(self.rounds.wait_for_apply)
        self.assertEqual(self.issued, [])

    def test_any_order_of_indexes(self) -> None:
        """Each read is released with its own index, however rounds and known indexes come to be mixed."""
        released: list[int] = []
        _ = self.rounds.wait_for(9, 10.0).addCallback(lambda _: released.append(9))
        _ = self.rounds.wait_for(5, 10.0).addCallback(lambda _: released.append(5))
        _ = self.begin().addCallback(lambda _: released.append(7))
        self.rounds.confirmed(self.issued[-1], 7)
        _ = self.rounds.wait_for(6, 10.0).addCallback(lambda _: released.append(6))
        _ = self.begin().addCallback(lambda _: released.append(8))
        self.rounds.confirmed(self.issued[-1], 8)
        self.assertEqual(len(self.rounds), 5)

        steps = []
        for index in range(4, 10):
            self.rounds.applied(index)
            steps.append(list(released))

        self.assertEqual(steps, [[], [5], [5, 6], [5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 8, 9]])
        self.assertEqual(len(self.rounds), 0)

    def test_deadline_of_a_known_index(self) -> None:
        """A read whose index is not applied by its deadline fails then; those that have longer wait on."""
        late, patient = self.rounds.wait_for(7, 10.0), self.rounds.wait_for(7, 20.0)

        self.rounds.sweep(9.9, 100.0)
        self.assertNoResult(late)
        self.rounds.sweep(10.0, 100.0)

        self.failureResultOf(late, Unavailable)
        self.rounds.applied(7)
        self.successResultOf(patient)

    def test_cancelled(self) -> None:
        """Cancelling drops only that reader."""
        cancelled, other = self.rounds.wait_for(7, 10.0), self.rounds.wait_for(7, 10.0)

        cancelled.cancel()
        self.rounds.applied(7)

        self.failureResultOf(cancelled, CancelledError)
        self.successResultOf(other)

    def test_fail_all(self) -> None:
        """Where the replica stops nobody waits any longer, whatever for."""
        waiting = [self.rounds.wait_for(7, 10.0), self.begin(), self.begin()]

        self.rounds.fail_all(Unavailable("the replica stops"))

        for deferred in waiting:
            self.failureResultOf(deferred, Unavailable)
        self.assertEqual(len(self.rounds), 0)
