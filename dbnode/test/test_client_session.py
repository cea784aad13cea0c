"""A shard session: batches, retries under one sequence, and the three ways in which an operation ends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import NotApplied, OutcomeUnknown, SessionOptions
from dbnode.client.departures import RETURN_SECONDS
from dbnode.client.proposals import RESENT_BYTES_MAX
from dbnode.client.requests import SWEEP_SECONDS
from dbnode.test.client_rig import GROUP, ClientRig, delete
from dbnode.wire import (
    BODY_BYTES_LIMIT,
    NOT_LEADER,
    OPERATION_BYTES_MAX,
    OVERLOADED,
    TOO_LARGE,
    UNAVAILABLE,
    UNKNOWN_SESSION,
    Applied,
    Batch,
    Done,
    NotFound,
    OpenSession,
    Propose,
    Refused,
    Reply,
    Write,
    decode_command,
    encode_command,
)
from raftlog.link.options import LinkOptions
from raftlog.options import Limits


class BatchTests(SynchronousTestCase):
    """How operations become batches, with A as the leader."""

    def setUp(self) -> None:
        """Connect a client."""
        self.rig = ClientRig()
        self.leader = self.rig.servers["A"]

    def test_operations_of_one_turn_travel_in_one_batch(self) -> None:
        """The session is opened first; what is submitted together is one command, encoded as wire.Batch."""
        session = self.rig.session()
        outcomes = [session.submit(delete(key), 10) for key in (1, 2, 3)]
        self.rig.settle()

        self.assertEqual(
            self.leader.commands,
            [OpenSession("client/7/1", 0), Batch("client/7/1", 1, 0, 0, (delete(1), delete(2), delete(3)))],
        )
        self.assertEqual([self.successResultOf(outcome) for outcome in outcomes], [Done()] * 3)
        self.assertEqual({item.group_id for item in self.leader.requests if isinstance(item, Propose)}, {GROUP})

    def test_each_operation_gets_its_own_result(self) -> None:
        """Results are matched to operations by their place in the batch."""
        session = self.rig.session()
        self.leader.answer = lambda item: (
            Applied(item.request_id, (Done(), NotFound()))
            if isinstance(decode_command(item.command), Batch)
            else self.leader.accept(item)
        )

        outcomes = [session.submit(delete(1), 10), session.submit(delete(2), 10)]
        self.rig.settle()

        self.assertEqual([self.successResultOf(outcome) for outcome in outcomes], [Done(), NotFound()])

    def test_waiting_operations_coalesce_behind_what_is_in_flight(self) -> None:
        """What comes while a batch is in flight makes the next one larger."""
        self.leader.open_only()
        session = self.rig.session()
        outcomes = []
        for key in range(5):
            outcomes.append(session.submit(delete(key), 10))
            self.rig.settle()
        self.assertEqual(self.sizes(), [1])

        self.leader.answer = self.leader.accept
        self.leader.reply(self.leader.accept(self.last_propose()))
        self.after_a_moment()

        self.assertEqual(self.sizes(), [1, 4])
        self.assertEqual([self.successResultOf(outcome) for outcome in outcomes], [Done()] * 5)

    def test_batches_worth_it_are_pipelined(self) -> None:
        """Enough operations or bytes for a batch go beside what is in flight, up to so many batches."""
        size = len(encode_command(delete(1)))
        by_count = SessionOptions(pipelined_operations_min=2, batches_in_flight_max=2)
        by_bytes = SessionOptions(pipelined_bytes_min=2 * size, batches_in_flight_max=2)
        for options in (by_count, by_bytes):
            self.leader.open_only()
            before = len(self.leader.batches)
            session = self.rig.session(options)
            for key in range(6):
                _ = session.submit(delete(key), 10)
                self.rig.settle()

            self.assertEqual(self.sizes()[before:], [1, 2])

    def test_a_batch_waits_a_moment_for_those_just_answered(self) -> None:
        """It goes once as many have come again as got an answer, and does not wait for long for the rest."""
        session = self.rig.session()
        outcomes = [session.submit(delete(key), 10) for key in range(3)]
        self.rig.settle()

        for key, sizes in enumerate(([3], [3], [3, 3], [3, 3])):
            outcomes.append(session.submit(delete(key), 10))
            self.rig.settle()
            self.assertEqual(self.sizes(), sizes)
        self.after_a_moment()

        self.assertEqual(self.sizes(), [3, 3, 1])
        self.assertEqual([self.successResultOf(outcome) for outcome in outcomes], [Done()] * 7)

    def test_a_batch_that_is_stuck_holds_nobody_up(self) -> None:
        """A reply that was lost costs the operations behind it two sweeps, not the time it takes to ask again."""
        self.leader.open_only()
        session = self.rig.session()
        lost = session.submit(delete(0), 10)
        self.rig.settle()
        self.leader.answer = self.leader.accept
        behind = [session.submit(delete(key), 10) for key in (1, 2)]

        self.rig.run(2.1 * SWEEP_SECONDS)

        self.assertEqual(self.sizes(), [1, 2])
        self.assertEqual([self.successResultOf(outcome) for outcome in behind], [Done(), Done()])
        self.assertNoResult(lost)

    def test_nothing_is_left_to_do_after_the_end(self) -> None:
        """Whoever stops the session when he gets his answer leaves no call behind for those answered with him."""
        session = self.rig.session()
        for key in (1, 2):
            _ = session.submit(delete(key), 10).addBoth(lambda _: session.stop())

        self.rig.settle()
        later = [call for call in self.rig.clock.getDelayedCalls() if "_flush" in repr(call)]

        self.assertEqual(later, [])

    def test_one_alone_never_waits(self) -> None:
        """Somebody who asks again after each answer has each of his operations sent at once."""
        session = self.rig.session()

        for key in range(3):
            self.successAfter(session.submit(delete(key), 10))

        self.assertEqual(self.sizes(), [1, 1, 1])

    def after_a_moment(self) -> None:
        """Let everything happen, for longer than a batch waits for those just answered."""
        self.rig.settle()
        self.rig.run(4 * RETURN_SECONDS)

    def sizes(self) -> list[int]:
        """Return how many operations each batch had that came to the leader."""
        return [len(batch.operations) for batch in self.leader.batches]

    def last_propose(self) -> Propose:
        """Return the last proposal that came to the leader."""
        item = self.leader.requests[-1]
        assert isinstance(item, Propose)
        return item

    def test_batches_are_bounded_in_operations_and_bytes(self) -> None:
        """A batch ends before it has too many operations or bytes; one that is too large alone goes alone."""
        by_count = self.rig.session(SessionOptions(batch_operations_max=2))
        outcomes = [by_count.submit(delete(key), 10) for key in range(5)]
        self.after_a_moment()
        counts = self.sizes()
        by_bytes = self.rig.session(SessionOptions(batch_bytes_max=1))
        outcomes += [by_bytes.submit(delete(key), 10) for key in range(3)]
        self.after_a_moment()

        self.assertEqual(counts, [2, 2, 1])
        self.assertEqual(self.sizes()[3:], [1, 1, 1])
        self.assertEqual([self.successResultOf(outcome) for outcome in outcomes], [Done()] * 8)

    def test_full_queue_fails_at_once(self) -> None:
        """Beyond the queue's operations or bytes the next operation is refused as overloaded, not applied."""
        for options in (SessionOptions(queue_operations_max=1), SessionOptions(queue_bytes_max=5)):
            session = self.rig.session(options)
            kept = session.submit(delete(1), 10)

            error = self.failureResultOf(session.submit(delete(2), 10), NotApplied).value

            self.assertEqual(error.code, OVERLOADED)
            self.rig.settle()
            self.assertEqual(self.successResultOf(kept), Done())

    def test_too_long_an_operation_fails_at_once(self) -> None:
        """What would be no entry of a log is not sent; one byte less is."""
        options = SessionOptions(operation_bytes_max=len(encode_command(delete(1))) - 1)
        session = self.rig.session(options)

        outcome = session.submit(delete(1), 10)

        self.assertEqual(self.failureResultOf(outcome, NotApplied).value.code, TOO_LARGE)
        self.rig.run(0.1)
        self.assertEqual(self.leader.requests, [])

    def test_longest_operation_is_an_entry_and_fits_into_a_frame(self) -> None:
        """The bounds of operation, entry and frame leave room for what stands around each."""
        around = 1 << 20

        self.assertLess(BODY_BYTES_LIMIT * 9 // 8, OPERATION_BYTES_MAX)
        self.assertLessEqual(OPERATION_BYTES_MAX + around, Limits().entry_bytes_max)
        self.assertLess(Limits().entry_bytes_max + around, LinkOptions().frame_bytes_max)
        self.assertLess(OPERATION_BYTES_MAX, SessionOptions().queue_bytes_max)

    def test_acknowledged_is_what_is_finished_without_a_gap(self) -> None:
        """A batch tells the shard up to which sequence results may be forgotten: never past one in flight."""
        session = self.rig.session(SessionOptions(pipelined_operations_min=1))
        self.leader.open_only()
        first = session.submit(delete(1), 10)
        self.rig.settle()
        unanswered = self.last_propose()
        self.leader.answer = self.leader.accept
        for key in (2, 3):
            self.successAfter(session.submit(delete(key), 10))

        self.leader.reply(self.leader.accept(unanswered))
        self.rig.settle()
        self.successAfter(session.submit(delete(4), 10))

        self.assertEqual([(b.sequence, b.acknowledged) for b in self.leader.batches], [(1, 0), (2, 0), (3, 0), (4, 3)])
        self.assertEqual(self.successResultOf(first), Done())

    def successAfter(self, outcome: object) -> None:
        """Let everything happen and check that it succeeded."""
        self.rig.settle()
        self.successResultOf(outcome)  # type: ignore[arg-type]

    def test_stopping_leaves_nothing_behind(self) -> None:
        """What was waiting when a session stopped is not sent any more, and what comes then is refused."""
        for server in self.rig.servers.values():
            server.refuse()
        session = self.rig.session()
        waiting = session.submit(delete(1), 10)
        self.rig.run(0.5)
        asked = len(self.leader.requests)

        session.stop()
        late = session.submit(delete(2), 10)
        self.rig.run(1)

        for outcome in (waiting, late):
            self.assertEqual(self.failureResultOf(outcome, NotApplied).value.code, UNAVAILABLE)
        self.assertLessEqual(len(self.leader.requests), asked + 1)
        self.assertEqual(session.waiting, 0)

    def test_stopping_within_an_attempt_leaves_nothing_behind(self) -> None:
        """An attempt that ends after a session stopped starts nothing."""
        self.leader.ignore()
        session = self.rig.session()
        waiting = session.submit(delete(1), 10)
        self.rig.settle()

        session.stop()
        self.rig.network.cut("balancer", "A")
        self.rig.run(1)

        self.failureResultOf(waiting, NotApplied)
        self.assertEqual([len(self.rig.servers[name].requests) for name in "ABC"], [1, 0, 0])

    def test_cancelled_waiter_does_not_cancel_the_change(self) -> None:
        """A client that went away leaves its change on its way, and the others' undisturbed."""
        session = self.rig.session()
        gone, other = session.submit(delete(1), 10), session.submit(delete(2), 10)

        gone.cancel()
        self.failureResultOf(gone)
        self.rig.settle()

        self.assertEqual(self.leader.batches[0].operations, (delete(1), delete(2)))
        self.assertEqual(self.successResultOf(other), Done())

    def test_stopping_says_what_is_certain(self) -> None:
        """What was never sent is not applied, what was sent is unknown; nothing is left behind."""
        self.leader.open_only()
        session = self.rig.session(SessionOptions(batches_in_flight_max=1))
        sent = session.submit(delete(1), 10)
        self.rig.settle()
        queued = session.submit(delete(2), 10)

        session.stop()
        self.rig.requests.stop()

        self.failureResultOf(sent, OutcomeUnknown)
        self.failureResultOf(queued, NotApplied)
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])


class RetryTests(SynchronousTestCase):
    """What happens when the first server asked is not the leader, or goes away."""

    def setUp(self) -> None:
        """Connect a client whose session is open at A, the leader."""
        self.rig = ClientRig()
        self.session = self.rig.session()
        self.a, self.b, self.c = self.rig.servers.values()
        opened = self.session.submit(delete(0), 10)
        self.rig.settle()
        self.successResultOf(opened)

    def test_hint_is_followed_at_once(self) -> None:
        """NOT_LEADER with a name costs no pause, and the session stays with the new leader."""
        self.a.refuse(NOT_LEADER, "C")

        outcome = self.session.submit(delete(1), 10)
        self.rig.settle()

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(self.session.leader, "C")
        self.assertEqual(self.c.batches, [self.a.batches[-1]])

    def test_leaderless_group_is_asked_again_after_pauses(self) -> None:
        """While nobody leads the servers are asked in turn, a few dozen times per second at most."""
        for server in self.rig.servers.values():
            server.refuse(NOT_LEADER)
        outcome = self.session.submit(delete(1), 10)
        self.rig.run(1)
        asked = sum(len(server.batches) for server in self.rig.servers.values())

        self.b.answer = self.b.accept
        self.rig.run(0.2)

        self.assertTrue(20 <= asked <= 50, asked)
        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(self.b.batches[-1].sequence, 2)

    def test_lost_connection_is_retried_elsewhere_under_the_same_sequence(self) -> None:
        """When the leader dies with a batch in its hands, the same batch goes to its successor."""
        self.a.ignore()
        outcome = self.session.submit(delete(1), 10)
        self.rig.settle()

        self.rig.network.cut("balancer", "A")
        self.rig.run(0.2)

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(self.b.batches, [self.a.batches[-1]])

    def test_silent_leader_is_asked_elsewhere_after_a_while(self) -> None:
        """A leader that is stopped but connected is given two seconds, then another server is asked."""
        self.a.ignore()
        outcome = self.session.submit(delete(1), 10)

        self.rig.run(1.9)
        self.assertEqual(self.b.batches, [])
        self.rig.run(0.3)

        self.assertEqual(self.successResultOf(outcome), Done())

    def test_silent_leader_is_not_asked_again_before_the_others(self) -> None:
        """Whoever named the leader, the next to be asked after its silence is another server."""
        self.a.refuse(NOT_LEADER, "B")
        hinted = self.session.submit(delete(1), 10)
        self.rig.settle()
        self.successResultOf(hinted)
        self.b.ignore()

        outcome = self.session.submit(delete(2), 10)
        self.rig.run(2.3)

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(self.c.batches, [self.b.batches[-1]])

    def test_long_command_is_not_sent_again_over_its_connection(self) -> None:
        """A long command waits for its leader until the deadline, or until the connection drops."""
        self.a.open_only()
        before = len(self.a.batches)

        outcome = self.session.submit(Write(((1, "x" * RESENT_BYTES_MAX),)), 10)
        self.rig.run(5)
        sent = [len(server.batches) for server in (self.a, self.b, self.c)]
        self.rig.network.cut("balancer", "A")
        self.rig.run(0.2)

        self.assertEqual(sent, [before + 1, 0, 0])
        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(self.b.batches, [self.a.batches[-1]])

    def test_never_proposed_is_not_applied_at_the_deadline(self) -> None:
        """If every attempt was refused for certain the answer is a certain no."""
        for server in self.rig.servers.values():
            server.refuse(UNAVAILABLE)

        outcome = self.session.submit(delete(1), 1)
        self.rig.run(0.9)
        self.assertNoResult(outcome)
        self.rig.run(0.3)

        self.assertIn("unavailable here", self.failureResultOf(outcome, NotApplied).value.text)

    def test_possibly_proposed_is_unknown_at_the_deadline(self) -> None:
        """If one attempt's fate is unknown, so is the outcome, although later attempts were refused."""
        self.a.refuse("lost", maybe_applied=True)
        self.b.refuse(NOT_LEADER)
        self.c.refuse(NOT_LEADER)

        outcome = self.session.submit(delete(1), 1)
        self.rig.run(1.2)

        self.failureResultOf(outcome, OutcomeUnknown)

    def test_unanswered_is_unknown_at_the_deadline(self) -> None:
        """Silence says nothing about what was applied."""
        for server in self.rig.servers.values():
            server.ignore()

        outcome = self.session.submit(delete(1), 1)
        self.rig.run(1.2)

        self.failureResultOf(outcome, OutcomeUnknown)

    def test_late_operation_leaves_an_unproposed_batch_alone(self) -> None:
        """The others of a batch that is in no log go on, in another batch, after one of them has run out of time."""
        for server in self.rig.servers.values():
            server.refuse(UNAVAILABLE)
        short, long = self.session.submit(delete(1), 1), self.session.submit(delete(2), 10)
        self.rig.run(1.2)
        self.failureResultOf(short, NotApplied)

        self.b.answer = self.b.accept
        self.rig.run(0.5)

        self.assertEqual(self.successResultOf(long), Done())
        self.assertEqual(self.b.batches[-1].operations, (delete(2),))

    def asked(self) -> int:
        """Return how many requests came to servers."""
        return sum(len(server.requests) for server in self.rig.servers.values())

    def test_stopped_by_a_late_operation(self) -> None:
        """Who stops the session when he hears that his change is late leaves nothing behind that is sent after that."""
        first = self.session.submit(delete(0), 10)
        self.rig.settle()
        self.successResultOf(first)
        for server in self.rig.servers.values():
            server.refuse(UNAVAILABLE)
        asked: list[int] = []

        def stop(_: object) -> None:
            asked.append(self.asked())
            self.session.stop()

        late = self.session.submit(delete(1), 1).addErrback(stop)
        behind = self.session.submit(delete(2), 10)
        self.rig.run(1.2)

        self.successResultOf(late)
        self.assertEqual(asked, [self.asked()])
        self.failureResultOf(behind, NotApplied)
        self.assertEqual(self.session.waiting, 0)
        self.assertEqual([call for call in self.rig.clock.getDelayedCalls() if "ShardSession" in repr(call)], [])

    def test_late_operations_that_are_submitted_again_are_swept_once(self) -> None:
        """Deadlines are looked at as often as before, however many changes were late."""
        for server in self.rig.servers.values():
            server.refuse()
        session = self.rig.session()

        def submit(times: int) -> None:
            if times:
                _ = session.submit(delete(1), 1).addErrback(lambda _: submit(times - 1))

        for _ in range(4):
            submit(8)
        self.rig.run(4)

        sweeps = [call for call in self.rig.clock.getDelayedCalls() if "ShardSession._sweep" in repr(call)]
        self.assertEqual(len(sweeps), 1)

    def test_late_operation_of_a_proposed_batch_is_unknown_and_the_others_go_on(self) -> None:
        """What may be in a log can't be split: the batch is retried as it is for those that still wait."""
        for server in self.rig.servers.values():
            server.ignore()
        short, long = self.session.submit(delete(1), 1), self.session.submit(delete(2), 10)
        self.rig.run(1.2)
        self.failureResultOf(short, OutcomeUnknown)

        self.b.answer = self.b.accept
        self.rig.run(3)

        self.assertEqual(self.successResultOf(long), Done())
        self.assertEqual(self.b.batches[-1].operations, (delete(1), delete(2)))

    def test_forgotten_session_is_reopened_under_a_new_name(self) -> None:
        """A batch that a shard refuses for its unknown session was not applied, and goes into a new session."""
        self.forget_first_session()

        outcome = self.session.submit(delete(1), 10)
        self.rig.settle()

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(
            self.a.commands[-2:], [OpenSession("client/7/2", 0), Batch("client/7/2", 1, 0, 0, (delete(1),))]
        )

    def forget_first_session(self) -> None:
        """Let A know only sessions other than the first."""

        def answer(item: Propose) -> Reply:
            if decode_command(item.command).session == "client/7/1":
                return Refused(item.request_id, UNKNOWN_SESSION, "forgotten")
            return self.a.accept(item)

        self.a.answer = answer

    def test_forgotten_session_after_a_lost_reply_is_unknown(self) -> None:
        """An earlier attempt may have been applied before the session was forgotten: nobody can say."""
        self.a.ignore()
        outcome = self.session.submit(delete(1), 10)
        self.rig.run(1.9)
        self.forget_first_session()
        self.b.refuse(NOT_LEADER, "A")
        self.rig.run(2.5)

        self.assertEqual(self.failureResultOf(outcome, OutcomeUnknown).value.code, UNKNOWN_SESSION)
        again = self.session.submit(delete(2), 10)
        self.rig.settle()
        self.assertEqual(self.successResultOf(again), Done())

    def test_removed_servers_are_asked_no_more(self) -> None:
        """After a change of placement only the new servers are asked, and a leader that left is forgotten."""
        self.session.set_servers(["B"])

        outcome = self.session.submit(delete(1), 10)
        self.rig.settle()

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual((len(self.a.batches), len(self.b.batches)), (1, 1))

    def test_session_that_cannot_be_opened_fails_its_operations_in_time(self) -> None:
        """Operations that wait for their session keep their deadlines, and the next ones try again."""
        for server in self.rig.servers.values():
            server.refuse(UNAVAILABLE)
        session = self.rig.session()

        outcome = session.submit(delete(1), 1)
        self.rig.run(1.2)
        self.failureResultOf(outcome, NotApplied)
        self.a.answer = self.a.accept
        again = session.submit(delete(2), 1)
        self.rig.run(0.3)

        self.assertEqual(self.successResultOf(again), Done())
