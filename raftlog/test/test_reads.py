"""Rounds of ReadIndex: who shares one, what an answer proves, and what it does not."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
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
