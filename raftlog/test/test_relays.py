"""Questions that pass through other followers on their way to the leader."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import GroupMessage, Message, MessageType
from raftlog.relays import RELAYS_MAX, Relays
from raftlog.state import ReadState
from raftlog.test.three import GROUP, Three
from raftlog.testing.network import ELECTION_TICKS, HEARTBEAT_TICKS, Network

QUESTION, ANSWER = MessageType.READ_INDEX, MessageType.READ_INDEX_RESPONSE


def way(network: Network, context: bytes) -> list[tuple[MessageType, int]]:
    """Return the messages of a read and to whom they went, in order."""
    return [(message.type, message.to) for message in network.sent if message.context == context]


class RelayTests(SynchronousTestCase):
    """A group of seven, led by 1, in which 2 has asked before and been told to go through 7 and 6 the next time."""

    def setUp(self) -> None:
        """Make it."""
        self.network = Network(range(1, 8))
        self.network.elect(1)
        self.read(2, b"first")
        self.network[2].read_states.clear()

    def read(self, replica_id: int, context: bytes) -> list[ReadState]:
        """Begin a read at a replica and return the answers it has afterwards."""
        self.network[replica_id].raw.read_index(context)
        self.network.run()
        return self.network[replica_id].read_states

    def question(self, *, term: int = 1, confirmed: tuple[int, ...] = (), relays: tuple[int, ...] = ()) -> Message:
        """Return a question of replica 2 to the leader."""
        return Message(QUESTION, 1, 2, term, context=b"r", confirmed=confirmed, relays=relays)

    def test_first_question_goes_to_the_leader(self) -> None:
        """Nobody has named anybody yet: the leader asks two more, and hears from them."""
        heartbeat, response = MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESPONSE

        self.assertEqual(
            way(self.network, b"first"),
            [(QUESTION, 1), (heartbeat, 3), (heartbeat, 4), (response, 1), (response, 1), (ANSWER, 2)],
        )

    def test_next_one_is_confirmed_on_its_way(self) -> None:
        """Four messages instead of six, and no heartbeat among them."""
        self.assertEqual(self.read(2, b"r"), [ReadState(1, b"r")])
        self.assertEqual(way(self.network, b"r"), [(QUESTION, 7), (QUESTION, 6), (QUESTION, 1), (ANSWER, 2)])

    def test_learner_goes_through_as_many_as_it_takes(self) -> None:
        """A learner confirms nothing itself."""
        network = Network((1, 2, 3, 4, 5), learners=[6])
        network.elect(1)
        for context in (b"first", b"r"):
            network[6].raw.read_index(context)
            network.run()

        self.assertEqual(way(network, b"r"), [(QUESTION, 5), (QUESTION, 4), (QUESTION, 1), (ANSWER, 6)])

    def test_nobody_is_named_where_none_is_needed(self) -> None:
        """A follower of three and its leader are a majority."""
        network = Network()
        network.elect(1)
        for context in (b"first", b"r"):
            network[2].raw.read_index(context)
            network.run()

        self.assertEqual([m.relays for m in network.sent if m.type is ANSWER], [(), ()])

    def test_not_through_too_many(self) -> None:
        """The leader asks in two steps however many it takes; others would be passed one after the other."""
        for voters, named in ((9, RELAYS_MAX), (11, 0)):
            network = Network(range(1, voters + 1))
            network.elect(1)
            network[2].raw.read_index(b"r")
            network.run()

            self.assertEqual([len(m.relays) for m in network.sent if m.type is ANSWER], [named])

    def test_those_before_the_asker(self) -> None:
        """The followers that questions go through differ by asker, so that none passes all of them."""
        self.read(3, b"first")

        self.read(3, b"r")

        self.assertEqual(way(self.network, b"r"), [(QUESTION, 2), (QUESTION, 7), (QUESTION, 1), (ANSWER, 3)])

    def test_not_through_who_owes_an_answer(self) -> None:
        """The leader names those that it believes to be alive."""
        self.network.isolate(6)
        self.network.tick()

        self.read(5, b"first")
        self.read(5, b"r")

        self.assertEqual(way(self.network, b"r"), [(QUESTION, 4), (QUESTION, 3), (QUESTION, 1), (ANSWER, 5)])

    # ---- what confirms ------------------------------------------------------------------------------------------

    def test_who_is_still_to_pass_it_on_confirms_nothing(self) -> None:
        """Only those count through whose hands a question went."""
        self.network.isolate(3, 4, 5, 6, 7)

        self.network[1].raw.step(self.question(relays=(3, 4)))
        self.network.run()

        self.assertEqual(self.network[2].read_states, [])

    def test_some_may_be_missing(self) -> None:
        """What lacks to a quorum the leader asks for."""
        self.network.isolate(4, 5, 6)

        self.network[1].raw.step(self.question(confirmed=(3,)))
        self.network.run()
        self.assertEqual(self.network[2].read_states, [])
        self.assertEqual(way(self.network, b"r"), [(MessageType.HEARTBEAT, 4)])
        self.network[1].raw.step(self.question(confirmed=(3, 7)))
        self.network.run()

        self.assertEqual(self.network[2].read_states, [ReadState(1, b"r")])

    def test_without_a_term_nobody_confirms(self) -> None:
        """Whoever passes on a question that names no term does not know which one its asker was in."""
        self.network.isolate(3, 4, 5, 6, 7)

        self.network[1].raw.step(self.question(term=0, confirmed=(3, 4)))
        self.network.run()

        self.assertEqual(self.network[2].read_states, [])

    def test_only_voters_confirm(self) -> None:
        """Who has lost its vote since it was named counts for nothing."""
        network = Network((1, 2, 3, 4, 5), learners=[6])
        network.elect(1)
        network.isolate(3, 4, 5)

        network[1].raw.step(self.question(confirmed=(6,)))
        network.run()

        self.assertEqual(network[2].read_states, [])

    def test_newer_term_lets_nothing_pass(self) -> None:
        """A deposed leader and its follower get no majority through one that has helped to elect another."""
        self.network.split((1, 2), (3, 4, 5, 6, 7))
        self.network.tick(4 * ELECTION_TICKS, 3, 4, 5, 6, 7)
        (newer,) = (leader for leader in self.network.leaders() if leader != 1)
        self.network.propose(newer, b"newer")
        self.assertEqual(self.network[1].raw.raft.term, 1)

        self.network.heal()
        self.network.loses = lambda message: message.type is not QUESTION
        self.assertEqual(self.read(2, b"r"), [])

        self.assertEqual(way(self.network, b"r"), [(QUESTION, 7)])

    def test_older_term_is_left(self) -> None:
        """Who has not heard of the asker's term takes it up: from then on it helps no other leader of an older one."""
        self.network[2].raw.raft.become_follower(5, 1)
        self.network[2].raw.raft.relays.name((3,), b"", 0)

        self.network[2].raw.read_index(b"r")
        self.network.step()
        self.network.step()

        self.assertEqual(self.network[3].raw.raft.term, 5)

    # ---- what goes wrong ----------------------------------------------------------------------------------------

    def test_lost_on_its_way(self) -> None:
        """A question that is not answered between two heartbeats goes to the leader itself, which asks others."""
        self.network.isolate(6)
        self.assertEqual(self.read(2, b"r"), [])

        self.network.tick(HEARTBEAT_TICKS, 2)

        self.assertEqual(way(self.network, b"r")[:3], [(QUESTION, 7), (QUESTION, 6), (QUESTION, 1)])
        self.assertEqual(self.network[2].read_states, [ReadState(1, b"r")])
        self.network.tick(ELECTION_TICKS)
        self.assertEqual([kind for kind, _ in way(self.network, b"r")].count(QUESTION), 3)

    def test_next_one_after_a_lost_one(self) -> None:
        """Those that one question was lost with are not tried by the next."""
        self.network.isolate(7)
        self.read(2, b"r")

        self.assertEqual(self.read(2, b"next"), [ReadState(1, b"next")])

        self.assertEqual(way(self.network, b"next")[0], (QUESTION, 1))

    def test_way_between_two_followers(self) -> None:
        """The leader hears both, so it names who can't be reached again and again: that costs one read."""
        self.network.loses = lambda message: (message.type, message.to) == (QUESTION, 7)
        self.read(2, b"r")
        self.network.tick(HEARTBEAT_TICKS)

        for context in (b"second", b"third"):
            self.assertEqual(self.read(2, context)[-1], ReadState(1, context))
            self.assertEqual(way(self.network, context)[0], (QUESTION, 1))

        self.network.heal()
        self.network.tick(ELECTION_TICKS + 1)
        self.read(2, b"again")
        self.read(2, b"later")
        self.assertEqual(way(self.network, b"later")[0], (QUESTION, 7))

    def test_not_asked_again_too_soon(self) -> None:
        """An answer may take as long as the time between two heartbeats."""
        network = Network((1, 2, 3, 4, 5), heartbeat_ticks=3)
        network.elect(1)
        network[2].raw.read_index(b"first")
        network.run()
        network.loses = lambda message: message.type is ANSWER
        network[2].raw.read_index(b"r")
        network.run()

        network.tick(2)
        self.assertEqual(way(network, b"r").count((QUESTION, 1)), 1)
        network.tick(1)
        self.assertEqual(way(network, b"r").count((QUESTION, 1)), 2)

    def test_answer_to_an_older_question(self) -> None:
        """It is no answer to the one that is on its way."""
        relays = Relays()
        relays.name((3,), b"", 1)
        self.assertEqual(relays.take(b"new", 1, 0), (3,))

        relays.name((4,), b"old", 2)

        self.assertEqual(relays.overdue(4, 1), b"new")

    def test_answered_one_is_not_asked_again(self) -> None:
        """However much time passes."""
        self.read(2, b"r")

        self.network.tick(2 * ELECTION_TICKS)

        self.assertEqual(way(self.network, b"r")[-1], (ANSWER, 2))

    def test_named_long_ago(self) -> None:
        """Who was named before the time of an election may be dead by now."""
        self.network.tick(ELECTION_TICKS + 1)

        self.read(2, b"r")

        self.assertEqual(way(self.network, b"r")[0], (QUESTION, 1))

    def test_new_term_forgets(self) -> None:
        """Whom a leader has named does not outlive its term."""
        self.network[1].raw.transfer_leader(5)
        self.network.run()

        self.read(2, b"r")

        self.assertEqual(way(self.network, b"r")[0], (QUESTION, 5))

    def test_can_not_be_sent(self) -> None:
        """A question that can't be sent to the next one goes to the leader, with those who confirmed it already."""
        self.network[2].raw.read_index(b"r")
        self.network.loses = lambda message: message.to == 6
        self.network.run()
        (dropped,) = (message for message in self.network.sent if (message.to, message.type) == (6, QUESTION))

        self.network[7].raw.question_dropped(dropped)
        self.network.run()

        self.assertEqual(self.network[2].read_states, [ReadState(1, b"r")])
        asked_at_last = [message for message in self.network.sent if message.type is QUESTION][-1]
        self.assertEqual((asked_at_last.to, asked_at_last.confirmed), (1, (7,)))

    def test_can_not_be_sent_in_another_term(self) -> None:
        """Those who confirmed a question did so in its term, however late it is sent around somebody."""
        self.network[7].raw.raft.become_follower(2, 5)
        self.network.sent.clear()

        self.network[7].raw.question_dropped(replace(self.question(confirmed=(7,)), to=6))
        self.network.run()

        self.assertEqual({message.term for message in self.network.sent if message.type is QUESTION}, {1})

    def test_leader_can_not_be_sent_to(self) -> None:
        """Then there is no way around."""
        self.network.sent.clear()

        self.network[2].raw.question_dropped(self.question())
        self.network.run()

        self.assertEqual(self.network.sent, [])


class DriverTests(SynchronousTestCase):
    """With the driver, among five servers."""

    def setUp(self) -> None:
        """Have a follower read once, so that it is told whom to go through."""
        self.five = Three(servers="ABCDE")
        self.five.run(1)
        self.leader = self.five.leader()
        self.follower = next(name for name in "ABCDE" if name != self.leader)
        self.read()

    def read(self) -> bool:
        """Read at the follower; say whether that was answered at once."""
        confirmed = self.five.network.nodes[self.follower].read_index(GROUP, 10)
        self.five.run(0.02)
        done = confirmed.called
        self.five.run(1)
        self.successResultOf(confirmed)
        return done

    def questions(self) -> list[tuple[str, str]]:
        """Return from whom to whom questions have gone."""
        return [
            (sender, to)
            for sender, to, _, item in self.five.network.sent
            if getattr(getattr(item, "message", None), "type", None) is QUESTION
        ]

    def through(self) -> str:
        """Return the server that the follower's questions go through, by reading twice."""
        self.five.network.sent.clear()
        node = self.five.network.nodes[self.follower]
        reads = [node.read_index(GROUP, 10)]
        self.five.run(0.02)
        reads.append(node.read_index(GROUP, 10))
        self.five.run(0.02)
        for read in reads:
            self.successResultOf(read)
        *_, (asked_by, first), (passed_by, last) = self.questions()
        self.assertEqual((asked_by, passed_by, last), (self.follower, first, self.leader))
        return first

    def test_through_another(self) -> None:
        """The follower's questions go through another follower's hands."""
        self.assertNotIn(self.through(), (self.leader, self.follower))

    def test_connection_gone(self) -> None:
        """Without a connection to the one it should go through a question goes to the leader at once."""
        through = self.through()
        self.five.network.cut.add(through)
        self.five.network.sent.clear()

        read = self.five.network.nodes[self.follower].read_index(GROUP, 10)
        for _ in range(20):
            self.five.clock.advance(0)

        self.successResultOf(read)
        self.assertEqual(self.questions()[0], (self.follower, self.leader))

    def test_who_passes_it_on_lives(self) -> None:
        """A question is a sign of life of whoever has passed it on last, not of the asker."""
        through = self.through()
        ids = {name: replica_id for replica_id, name in self.five.peers.items()}
        leader = self.five.network.nodes[self.leader]
        self.five.network.cut |= {self.follower, through}
        self.five.run(1)
        self.assertTrue(leader._sleep.is_silent(through))

        term = leader.status(GROUP).term
        question = Message(
            QUESTION, ids[self.leader], ids[self.follower], term, context=b"r", confirmed=(ids[through],)
        )
        leader.receive([GroupMessage(GROUP, question)])

        self.assertFalse(leader._sleep.is_silent(through))
        self.assertTrue(leader._sleep.is_silent(self.follower))

    def test_after_sleep(self) -> None:
        """Time stood still while the group slept: who was named before that may be long gone."""
        self.through()
        self.five.run(10)
        self.assertTrue(self.five.network.nodes[self.follower].open_groups()[0].quiet.asleep)
        self.five.network.sent.clear()

        self.read()

        self.assertEqual(self.questions()[0], (self.follower, self.leader))
