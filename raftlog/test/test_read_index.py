"""Linearizable reads without a log entry: thesis §6.4 and RAFT_RULES 25 to 28."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfChangeTransition, ConfChangeV2, Message, MessageType
from raftlog.state import ReadState, Role
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.testing.network import ELECTION_TICKS, Network, config


def asked(network: Network) -> list[tuple[int, bytes]]:
    """Return which replicas were sent heartbeats, and for which reads."""
    return [(m.to, m.context) for m in network.sent if m.type is MessageType.HEARTBEAT]


class ReadIndexTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a group of three that replica 1 leads, with one entry applied."""
        self.network = Network()
        self.network.elect(1)
        self.network.propose(1, b"x")
        self.network.sent.clear()

    def read(self, replica_id: int, context: bytes) -> list[ReadState]:
        """Begin a read at a replica and return the answers it has afterwards."""
        self.network[replica_id].raw.read_index(context)
        self.network.run()
        return self.network[replica_id].read_states

    def test_leader_asks_a_majority(self) -> None:
        """'The leader ... issues a new round of heartbeats and waits for their acknowledgments from a majority'."""
        states = self.read(1, b"r1")

        self.assertEqual(states, [ReadState(2, b"r1")])
        self.assertEqual(asked(self.network), [(2, b"r1")])

    def test_nothing_is_written(self) -> None:
        """A read costs no log entry."""
        last_index = self.network[1].log.last_index()

        self.read(1, b"r1")

        self.assertEqual(self.network[1].log.last_index(), last_index)

    def test_no_answer_without_a_majority(self) -> None:
        """A leader that is cut off does not answer: there may be another one."""
        self.network.isolate(1)

        self.assertEqual(self.read(1, b"r1"), [])

    def test_deposed_leader_never_answers(self) -> None:
        """A leader that was deposed without knowing it gives no stale answer, not even later."""
        self.network.isolate(1)
        self.network[1].raw.read_index(b"stale")
        self.network.tick(2 * ELECTION_TICKS, 2, 3)
        (leader,) = [leader for leader in self.network.leaders() if leader != 1]
        self.network.propose(leader, b"newer")

        self.network.heal()
        self.network.tick(2 * ELECTION_TICKS)

        self.assertEqual(self.network[1].read_states, [])

    def test_one_follower_suffices(self) -> None:
        """With itself one follower is a majority of three."""
        self.network.isolate(3)

        self.assertEqual(self.read(1, b"r1"), [ReadState(2, b"r1")])

    def test_who_does_not_answer_is_asked_last(self) -> None:
        """A follower that is gone holds up one read, until the ordinary heartbeat, and no others."""
        self.network.isolate(2)
        self.assertEqual(self.read(1, b"r1"), [])
        self.network.tick()
        self.assertEqual(self.network[1].read_states, [ReadState(2, b"r1")])

        self.assertEqual(self.read(1, b"r2")[1:], [ReadState(2, b"r2")])

        self.network.heal()
        self.network.tick(12)
        self.network.isolate(3)
        self.assertEqual(self.read(1, b"r3")[2:], [ReadState(2, b"r3")])

    def test_who_was_slow_is_asked_last(self) -> None:
        """An answer that took longer than others' is no reason to ask for the next one."""
        self.network.loses = lambda message: message.type is MessageType.HEARTBEAT_RESPONSE and message.from_ == 2
        self.read(1, b"r1")
        self.network.tick()
        self.network.heal()
        self.network[1].raw.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 2, 1, context=b"r1"))
        self.network.sent.clear()

        self.read(1, b"r2")

        self.assertEqual(asked(self.network), [(3, b"r2")])

    def test_who_led_before_is_not_asked(self) -> None:
        """A new leader asks those that it heard of: nobody knows better that the one before is gone."""
        self.network.isolate(1)
        self.network.tick(2 * ELECTION_TICKS, 2, 3)
        (leader,) = [leader for leader in self.network.leaders() if leader != 1]

        self.assertEqual([state.context for state in self.read(leader, b"r1")], [b"r1"])

    def test_learners_do_not_confirm(self) -> None:
        """A learner's acknowledgement is none of a majority."""
        network = Network(learners=[4])
        network.elect(1)
        network.isolate(2, 3)

        network[1].raw.read_index(b"r1")
        network.run()

        self.assertEqual(network[1].read_states, [])

    def test_alone(self) -> None:
        """Alone in its group the leader answers at once."""
        network = Network((1,))
        network.elect(1)

        network[1].raw.read_index(b"r1")
        network.run()

        self.assertEqual(network[1].read_states, [ReadState(1, b"r1")])

    def test_follower_reads_through_the_leader(self) -> None:
        """'Followers can serve read-only requests by asking the leader for a current readIndex' (§6.4)."""
        self.assertEqual(self.read(2, b"r2"), [ReadState(2, b"r2")])

    def test_follower_of_three_is_answered_at_once(self) -> None:
        """That it asks in the leader's term is its confirmation: with the leader it is a majority of three."""
        self.network.isolate(3)

        self.assertEqual(self.read(2, b"r2"), [ReadState(2, b"r2")])
        self.assertEqual([m for m in self.network.sent if m.type is MessageType.HEARTBEAT], [])

    def test_learner_that_asks_confirms_nothing(self) -> None:
        """A learner's question is answered only once a majority of voters confirms the leader."""
        network = Network(learners=[4])
        network.elect(1)
        network.isolate(2, 3)

        network[4].raw.read_index(b"r4")
        network.run()

        self.assertEqual(network[4].read_states, [])

    def test_question_confirms_no_other_read(self) -> None:
        """A question may be old when it arrives: reads that began at the leader meanwhile have to wait for more."""
        question = Message(MessageType.READ_INDEX, 1, 2, self.network[1].raw.raft.term, context=b"r2")
        self.network.isolate(1)
        self.network[1].raw.read_index(b"r1")
        self.network.run()

        self.network[1].raw.step(question)
        self.network.run()

        self.assertEqual(self.network[1].read_states, [])

    def test_question_that_was_passed_on_confirms_nothing(self) -> None:
        """Whoever passes a question on does not know which term the asker is in."""
        self.network[3].raw.step(Message(MessageType.READ_INDEX, 3, 2, context=b"r2"))
        self.network.loses = lambda message: message.type is MessageType.HEARTBEAT_RESPONSE
        self.network.run()

        self.assertEqual([m.term for m in self.network.sent if m.type is MessageType.READ_INDEX], [0])
        self.assertEqual(self.network[2].read_states, [])

    def test_follower_without_a_leader(self) -> None:
        """A follower that knows no leader gets no answer and asks nobody."""
        self.network[2].raw.forget_leader()

        self.assertEqual(self.read(2, b"r2"), [])
        self.assertEqual(self.network.sent, [])

    def test_index_is_the_commit_index_at_arrival(self) -> None:
        """The answer covers what was committed when the read began; later entries need not be waited for."""
        self.network.loses = lambda message: message.type is MessageType.HEARTBEAT_RESPONSE
        self.network[1].raw.read_index(b"r1")
        self.network.run()
        self.network.propose(1, b"later")

        self.network.heal()
        self.network.tick()

        self.assertEqual(self.network[1].read_states, [ReadState(2, b"r1")])


class FiveTests(SynchronousTestCase):
    """Where a follower and its leader are no majority."""

    def setUp(self) -> None:
        """Make a group of five that replica 1 leads."""
        self.network = Network((1, 2, 3, 4, 5))
        self.network.elect(1)
        self.network.sent.clear()

    def test_asker_and_leader_are_none(self) -> None:
        """Where asker and leader are no majority others are asked as well."""
        self.network.isolate(3, 4, 5)

        self.network[2].raw.read_index(b"r2")
        self.network.run()
        self.assertEqual(self.network[2].read_states, [])
        self.network.heal()
        self.network.tick()

        self.assertEqual(self.network[2].read_states, [ReadState(1, b"r2")])

    def test_no_more_are_asked_than_needed(self) -> None:
        """Who asks has confirmed its own read: with it and the leader one more is a majority."""
        self.network[2].raw.read_index(b"r2")
        self.network.run()

        self.assertEqual(self.network[2].read_states, [ReadState(1, b"r2")])
        self.assertEqual(asked(self.network), [(3, b"r2")])

    def test_question_confirms_no_other_read(self) -> None:
        """A question may be old when it arrives: reads that began at the leader meanwhile have to wait for more."""
        question = Message(MessageType.READ_INDEX, 1, 2, self.network[1].raw.raft.term, context=b"r2")
        self.network.loses = lambda message: message.context == b"r1"
        self.network[1].raw.read_index(b"r1")
        self.network.run()

        self.network[1].raw.step(question)
        self.network.run()

        self.assertEqual([state.context for state in self.network[2].read_states], [b"r2"])
        self.assertEqual(self.network[1].read_states, [])

    def test_answers_to_a_confirmed_read_count_for_reads_before(self) -> None:
        """Rule 28: also those that come once the read that they were asked for is confirmed."""
        self.network.isolate(2)
        self.network[1].raw.read_index(b"r1")
        self.network.run()
        self.network.loses = lambda message: message.type is MessageType.HEARTBEAT
        self.network[4].raw.read_index(b"r4")
        self.network.run()
        self.assertEqual((self.network[1].read_states, self.network[4].read_states), ([], []))

        self.network.heal()
        self.network.isolate(2)
        self.network.tick(1, 1)

        self.assertEqual(self.network[4].read_states, [ReadState(1, b"r4")])
        self.assertEqual(self.network[1].read_states, [ReadState(1, b"r1")])

    def test_answers_count_for_reads_before(self) -> None:
        """Rule 28: who confirms a read confirms those that began before it as well."""
        self.network.loses = lambda message: message.context == b"r1"
        self.network[1].raw.read_index(b"r1")
        self.network.run()

        self.network[2].raw.read_index(b"r2")
        self.network[3].raw.read_index(b"r3")
        self.network.run()

        self.assertEqual(asked(self.network)[-2:], [(4, b"r2"), (5, b"r3")])
        self.assertEqual(self.network[1].read_states, [ReadState(1, b"r1")])


class RulesTests(SynchronousTestCase):
    """RAFT_RULES 25 to 28."""

    def test_waits_for_a_commit_of_its_own_term(self) -> None:
        """Rule 25: before its no-op is committed a new leader does not know the commit index and answers no read."""
        network = Network()
        network.loses = lambda message: message.type is MessageType.APPEND
        network.elect(1)
        network[1].raw.read_index(b"early")
        network.run()
        self.assertEqual(network[1].read_states, [])
        self.assertEqual([m for m in network.sent if m.context == b"early"], [])

        network.heal()
        network.tick(2)

        self.assertEqual(network[1].read_states, [ReadState(1, b"early")])

    def test_waiting_reads_are_forgotten_by_a_deposed_leader(self) -> None:
        """Rule 25: reads that waited for a commit of one term are not answered in another."""
        network = Network()
        network.loses = lambda message: message.type is MessageType.APPEND
        network.elect(1)
        network[1].raw.read_index(b"early")

        network[1].raw.raft.become_follower(2, 0)
        network.heal()
        network.tick(4 * ELECTION_TICKS)

        self.assertEqual(network[1].read_states, [])

    def test_acknowledgement_of_another_context(self) -> None:
        """Rule 26: only heartbeats sent after a read began confirm it; others do not even count towards it."""
        network = Network((1, 2, 3, 4, 5))
        network.elect(1)
        network.loses = lambda message: message.type is MessageType.HEARTBEAT
        network[1].raw.read_index(b"new")
        network.run()

        for replica_id, context in ((2, b"old"), (3, b""), (4, b"new")):
            network[1].raw.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, replica_id, 1, context=context))
        network.run()
        self.assertEqual(network[1].read_states, [])
        network[1].raw.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 5, 1, context=b"new"))
        network.run()

        self.assertEqual(network[1].read_states, [ReadState(1, b"new")])

    def test_one_round_for_all_before_it(self) -> None:
        """Rule 28: confirming the newest context confirms all that began before it, in their order."""
        network = Network()
        network.elect(1)
        network.loses = lambda message: message.type is MessageType.HEARTBEAT and message.context != b"c"
        for context in (b"a", b"b", b"c"):
            network[1].raw.read_index(context)

        network.run()

        self.assertEqual([state.context for state in network[1].read_states], [b"a", b"b", b"c"])

    def test_lost_round_is_repeated_by_heartbeats(self) -> None:
        """A context whose heartbeats were lost goes out again with the next regular ones."""
        network = Network()
        network.elect(1)
        network.isolate(1)
        network[1].raw.read_index(b"r1")
        network.run()

        network.heal()
        network.tick()

        self.assertEqual(network[1].read_states, [ReadState(1, b"r1")])

    def test_joint_configuration_needs_both(self) -> None:
        """Rule 27: in a joint configuration a read is confirmed by both majorities."""
        network = Network()
        network.elect(1)
        for replica_id in (4, 5):
            network.join(replica_id)
        change = ConfChangeV2(ConfChangeTransition.EXPLICIT, tuple(parse_changes("v4 v5 r2 r3")))
        network[1].raw.propose_conf_change(change)
        network.run()

        network.isolate(2, 3)
        network[1].raw.read_index(b"new half")
        network.run()
        self.assertEqual(network[1].read_states, [])
        network.heal()
        network.isolate(4, 5)
        network[1].raw.read_index(b"old half")
        network.run()
        self.assertEqual([state.context for state in network[1].read_states], [b"new half"])
        network.heal()
        network.tick()

        self.assertEqual([state.context for state in network[1].read_states], [b"new half", b"old half"])

    def test_no_lease_reads(self) -> None:
        """Rule 28: reads by lease are off unless a data-driven case asks for them."""
        self.assertFalse(config(1).lease_read_only)

    def test_new_term_forgets_reads(self) -> None:
        """A leader that steps down drops the reads it had not confirmed."""
        network = Network()
        network.elect(1)
        network.isolate(1)
        network[1].raw.read_index(b"r1")
        network.run()
        network.tick(2 * ELECTION_TICKS, 1)
        self.assertIs(network[1].raw.raft.role, Role.FOLLOWER)

        self.assertEqual(network[1].raw.raft.read_only.last_context(), b"")
