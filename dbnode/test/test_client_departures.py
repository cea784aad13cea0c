"""Batches of different groups that leave together: who waits, for whom, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import Departures, SessionOptions, ShardSession
from dbnode.client.departures import FEW_CHANGES, HELD_SECONDS, RETURN_SECONDS
from dbnode.test.client_rig import GROUP, ClientRig, delete
from dbnode.wire import Batch, Propose, Result, decode_command

MANY = FEW_CHANGES + 1


class DeparturesTests(SynchronousTestCase):
    """The rules by themselves."""

    def setUp(self) -> None:
        """Begin with nobody on the way."""
        self.clock = Clock()
        self.departures = Departures(self.clock)
        self.called: list[str] = []
        self.first = partial(self.called.append, "first")
        self.second = partial(self.called.append, "second")

    def must_wait(self, leave: Callable[[], None], changes: int, patience_seconds: float = 1.0) -> bool:
        """Want to leave, after a batch that took long."""
        return self.departures.must_wait(leave, changes, patience_seconds)

    def leave(self, batch: str, changes: int) -> None:
        """Let a batch leave, and the moment pass in which others may leave with it."""
        self.departures.left(batch, changes)
        self.clock.advance(RETURN_SECONDS)

    def test_nobody_to_wait_for(self) -> None:
        """Who is alone never waits, however much he has."""
        self.assertFalse(self.must_wait(self.first, MANY))

        self.departures.left("batch", MANY)
        self.departures.ended("batch")

        self.assertFalse(self.must_wait(self.first, MANY))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_few_changes_wait_for_nobody(self) -> None:
        """With few changes on their way, those that want to leave counted, nothing is gained."""
        self.leave("batch", FEW_CHANGES - 1)

        self.assertFalse(self.must_wait(self.first, 1))
        self.assertTrue(self.must_wait(self.first, 2))

    def test_all_leave_a_moment_after_the_last_one_was_answered(self) -> None:
        """Not after the first one; and each is called once."""
        self.leave("one", MANY)
        self.leave("other", MANY)
        self.assertTrue(self.must_wait(self.first, 1))
        self.departures.ended("one")
        self.clock.advance(RETURN_SECONDS)
        self.assertTrue(self.must_wait(self.second, 1))
        self.assertEqual(self.called, [])

        self.departures.ended("other")
        self.assertEqual(self.called, [])
        self.clock.advance(RETURN_SECONDS)

        self.assertEqual(self.called, ["first", "second"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_comes_in_that_moment_leaves_with_them(self) -> None:
        """Nobody is on the way any more, but those who wait are about to leave."""
        self.leave("batch", MANY)
        self.assertTrue(self.must_wait(self.first, 1))
        self.departures.ended("batch")

        self.assertTrue(self.must_wait(self.second, 1))
        self.clock.advance(RETURN_SECONDS)

        self.assertEqual(self.called, ["first", "second"])

    def test_nobody_waits_for_long(self) -> None:
        """Then a batch that is still on its way is waited for by nobody any more, whenever it ends."""
        self.leave("stuck", MANY)
        self.assertTrue(self.must_wait(self.first, 1))

        self.clock.advance(HELD_SECONDS / 2)
        self.assertTrue(self.must_wait(self.second, 1))
        self.assertEqual(self.called, [])
        self.clock.advance(HELD_SECONDS / 2)

        self.assertEqual(self.called, ["first", "second"])
        self.assertFalse(self.must_wait(self.first, MANY))
        self.leave("batch", MANY)
        self.assertTrue(self.must_wait(self.first, 1))
        self.departures.ended("stuck")
        self.clock.advance(RETURN_SECONDS)
        self.assertEqual(self.called, ["first", "second"])

    def test_nobody_waits_longer_than_a_batch_of_his_took(self) -> None:
        """So a slow group makes a fast one twice as slow at most; whoever waits with it leaves with it."""
        self.leave("slow", MANY)
        self.assertTrue(self.must_wait(self.first, 1, HELD_SECONDS / 2))
        self.assertTrue(self.must_wait(self.second, 1, HELD_SECONDS / 4))

        self.clock.advance(HELD_SECONDS / 4)

        self.assertEqual(self.called, ["first", "second"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_asking_again_is_no_longer_wait(self) -> None:
        """More changes may come while a session waits."""
        self.leave("slow", MANY)
        for _ in range(2):
            self.assertTrue(self.must_wait(self.first, 1, HELD_SECONDS))
            self.clock.advance(HELD_SECONDS / 2)

        self.assertEqual(self.called, ["first"])

    def test_what_comes_within_a_moment_leaves_as_well(self) -> None:
        """Changes of one request to several shards are submitted one after the other."""
        self.departures.left("batch", MANY)

        self.assertFalse(self.must_wait(self.first, MANY))
        self.departures.left("another", MANY)
        self.clock.advance(RETURN_SECONDS)

        self.assertTrue(self.must_wait(self.first, MANY))

    def test_a_failure_spares_the_others(self) -> None:
        """It is logged, and they leave."""

        def fail() -> None:
            raise ValueError("a mistake")

        self.leave("batch", MANY)
        for leave in (self.first, fail, self.second):
            self.assertTrue(self.must_wait(leave, 1))

        self.departures.ended("batch")
        self.clock.advance(RETURN_SECONDS)

        self.assertEqual(self.called, ["first", "second"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_those_who_leave_together_do_not_wait_for_each_other(self) -> None:
        """What the first one sends holds up none of the others."""

        def leave(name: str) -> None:
            self.assertFalse(self.must_wait(partial(leave, name), MANY))
            self.departures.left(name, MANY)
            self.called.append(name)

        self.leave("batch", MANY)
        for name in ("first", "second", "third"):
            self.assertTrue(self.must_wait(partial(leave, name), MANY))

        self.departures.ended("batch")
        self.clock.advance(RETURN_SECONDS)

        self.assertEqual(self.called, ["first", "second", "third"])

    def test_forgotten(self) -> None:
        """Who stops is not called, and the last one leaves no timer behind."""
        self.leave("batch", MANY)
        self.assertTrue(self.must_wait(self.first, 1))
        self.assertTrue(self.must_wait(self.second, 1))

        self.departures.forget(self.first)
        self.clock.advance(HELD_SECONDS)
        self.assertEqual(self.called, ["second"])

        self.leave("batch", MANY)
        self.assertTrue(self.must_wait(self.first, 1))
        self.departures.forget(self.first)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SessionTests(SynchronousTestCase):
    """Two sessions that share departures; A leads both groups and answers no batch of the first one by itself."""

    OTHER = GROUP + 1

    def setUp(self) -> None:
        """Put a batch of the first session on its way."""
        self.rig = ClientRig()
        self.leader = self.rig.servers["A"]
        self.departures = Departures(self.rig.clock)
        options = SessionOptions(pipelined_operations_min=2 * MANY)
        self.first = self.rig.session(options, departures=self.departures)
        self.other = self.rig.session(options, group_id=self.OTHER, departures=self.departures)
        self.outcomes = self.occupy(self.first)
        self.unanswered = self.proposals()[-1]

    def occupy(self, session: ShardSession) -> list[Deferred[Result]]:
        """Put a batch on its way that is not answered, and let the moment pass in which others may leave with it."""
        self.leader.open_only()
        outcomes = [session.submit(delete(key), 10) for key in range(MANY)]
        self.rig.settle()
        self.rig.run(2 * RETURN_SECONDS)
        self.leader.answer = self.leader.accept
        return outcomes

    def check_it_hardly_waits(self, session: ShardSession) -> None:
        """Check that a session waits, but for far less than HELD_SECONDS."""
        outcome = session.submit(delete(1), 10)
        self.rig.settle()
        self.assertNoResult(outcome)
        self.rig.run(HELD_SECONDS / 6)
        self.successResultOf(outcome)

    def proposals(self) -> list[Propose]:
        """Return all proposals that came to the leader."""
        return [item for item in self.leader.requests if isinstance(item, Propose)]

    def since(self) -> list[int]:
        """Return the groups whose batches came since then, in that order."""
        after = self.proposals().index(self.unanswered) + 1
        later = self.proposals()[after:]
        return [item.group_id for item in later if isinstance(decode_command(item.command), Batch)]

    def test_setting(self) -> None:
        """The first session's batch is the last thing that came."""
        self.assertEqual(self.unanswered.group_id, GROUP)
        command = decode_command(self.unanswered.command)
        assert isinstance(command, Batch)
        self.assertEqual(len(command.operations), MANY)

    def test_a_small_batch_leaves_with_that_of_another_session(self) -> None:
        """It waits for the one on its way, and for those who come again after that is answered."""
        outcome = self.other.submit(delete(1), 10)
        self.rig.settle()
        self.assertEqual(self.since(), [])

        self.leader.reply(self.leader.accept(self.unanswered))
        self.rig.settle()
        again = self.first.submit(delete(2), 10)
        self.rig.settle()
        self.assertEqual(self.since(), [])
        self.rig.run(2 * RETURN_SECONDS)

        self.assertEqual(sorted(self.since()), [GROUP, self.OTHER])
        for ended in (*self.outcomes, outcome, again):
            self.successResultOf(ended)

    def test_after_fast_batches_it_hardly_waits(self) -> None:
        """No longer than they took, the last ones above all; here they take no time."""
        fast = 16
        for key in range(fast):
            _ = self.other.submit(delete(key), 10)
            self.rig.run(2 * HELD_SECONDS)
        self.assertEqual(self.since(), [self.OTHER] * fast)
        self.leader.reply(self.leader.accept(self.unanswered))
        self.rig.run(2 * RETURN_SECONDS)
        _ = self.occupy(self.first)
        self.assertEqual(self.since()[fast:], [GROUP])

        self.check_it_hardly_waits(self.other)

    def test_one_that_was_stuck_makes_nobody_patient(self) -> None:
        """However long a batch took, after some fast ones no other is waited for any longer."""
        self.rig.run(1)
        self.leader.reply(self.leader.accept(self.unanswered))
        for key in range(16):
            self.rig.run(2 * HELD_SECONDS)
            _ = self.first.submit(delete(key), 10)
        self.rig.run(2 * HELD_SECONDS)
        _ = self.occupy(self.other)

        self.check_it_hardly_waits(self.first)

    def test_what_could_not_be_sent_is_not_waited_for(self) -> None:
        """It is not on its way, and nobody knows when it will be."""
        self.leader.reply(self.leader.accept(self.unanswered))
        self.rig.run(2 * HELD_SECONDS)
        for server in self.rig.servers.values():
            self.successResultOf(server.links.stopService())
        self.rig.settle()
        for key in range(MANY):
            _ = self.first.submit(delete(key), 10)
        self.rig.settle()
        self.rig.run(2 * RETURN_SECONDS)

        self.assertFalse(self.departures.must_wait(lambda: None, MANY, HELD_SECONDS))

    def test_a_stuck_batch_holds_it_up_once(self) -> None:
        """After a moment it leaves alone; what comes then does not wait at all."""
        outcome = self.other.submit(delete(1), 10)
        self.rig.run(1.5 * HELD_SECONDS)
        self.successResultOf(outcome)
        self.rig.run(2 * RETURN_SECONDS)

        outcome = self.other.submit(delete(2), 10)
        self.rig.settle()

        self.successResultOf(outcome)
        self.assertEqual(self.since(), [self.OTHER, self.OTHER])

    def test_a_large_batch_waits_for_nobody(self) -> None:
        """What is worth being sent beside another one is worth being sent by itself; nor is it waited for."""
        self.leader.reply(self.leader.accept(self.unanswered))
        self.rig.run(2 * RETURN_SECONDS)
        self.leader.open_only()
        large = [self.other.submit(delete(key), 10) for key in range(2 * MANY)]
        self.rig.settle()
        self.assertEqual(self.since(), [self.OTHER])

        small = [self.first.submit(delete(key), 10) for key in range(MANY)]
        self.rig.settle()
        self.assertEqual(self.since(), [self.OTHER, GROUP])

        large += [self.other.submit(delete(key), 10) for key in range(2 * MANY)]
        self.rig.settle()
        self.assertEqual(self.since(), [self.OTHER, GROUP, self.OTHER])
        for outcome in (*large, *small):
            self.assertNoResult(outcome)

    def test_stopping_leaves_no_timer_behind(self) -> None:
        """Neither the session that waits nor the one that is waited for."""
        outcome = self.other.submit(delete(1), 10)
        self.rig.settle()

        self.other.stop()
        self.first.stop()
        self.rig.settle()

        self.failureResultOf(outcome)
        for ended in self.outcomes:
            self.failureResultOf(ended)
        self.assertEqual([call for call in self.rig.clock.getDelayedCalls() if "epartures" in repr(call)], [])

    def test_a_stopped_session_is_waited_for_no_more(self) -> None:
        """The others leave a moment later."""
        outcome = self.other.submit(delete(1), 10)
        self.rig.settle()

        self.first.stop()
        self.rig.run(2 * RETURN_SECONDS)

        self.successResultOf(outcome)
        for ended in self.outcomes:
            self.failureResultOf(ended)
