"""Followers that hear of commits with whatever is sent to them next: fewer messages, and nobody waits for it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfChangeTransition, ConfChangeV2, Message, MessageType
from raftlog.state import ReadState
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.testing.network import Network


class GatheredCommitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a group of three that replica 1 leads, in which everybody knows of entry 1."""
        self.network = Network(gather_commits=True)
        self.network.elect(1)
        self.network.tick()
        self.network.sent.clear()

    def committed(self) -> list[int]:
        """Return which index each replica knows to be committed."""
        return [self.network[replica_id].raw.raft.log.committed for replica_id in (1, 2, 3)]

    def test_no_message_for_a_commit_alone(self) -> None:
        """An entry costs a message to each follower and its answer."""
        self.network.propose(1, b"x")

        self.assertEqual(self.committed(), [2, 1, 1])
        self.assertEqual(
            sorted((m.type, m.from_, m.to) for m in self.network.sent),
            [
                (MessageType.APPEND, 1, 2),
                (MessageType.APPEND, 1, 3),
                (MessageType.APPEND_RESPONSE, 2, 1),
                (MessageType.APPEND_RESPONSE, 3, 1),
            ],
        )

    def test_at_once_unless_asked_for(self) -> None:
        """Without the option followers get a message for each commit."""
        network = Network()
        network.elect(1)

        network.propose(1, b"x")

        self.assertEqual([network[replica_id].raw.raft.log.committed for replica_id in (1, 2, 3)], [2, 2, 2])

    def test_with_the_next_entries(self) -> None:
        """The next append carries the commit index."""
        self.network.propose(1, b"x")
        self.network.propose(1, b"y")

        self.assertEqual(self.committed(), [3, 2, 2])

    def test_with_a_heartbeat(self) -> None:
        """Where nothing follows an ordinary heartbeat tells of it."""
        self.network.propose(1, b"x")
        self.network.tick()

        self.assertEqual(self.committed(), [2, 2, 2])
        self.assertTrue(self.network[1].raw.raft.everybody_has_everything())

    def test_with_the_answer_to_a_read(self) -> None:
        """A follower that is read from knows at once what it has to wait for."""
        self.network.propose(1, b"x")
        self.network.sent.clear()

        self.network[2].raw.read_index(b"r")
        self.network.run()

        self.assertEqual(self.network[2].read_states, [ReadState(2, b"r")])
        self.assertEqual(self.committed(), [2, 2, 1])
        self.assertEqual(len(self.network.sent), 2)

    def test_reader_that_lacks_the_entry(self) -> None:
        """A follower that asked before it had what it may read hears of the commit as soon as it has it."""
        self.network.loses = lambda message: (message.type, message.from_) == (MessageType.APPEND_RESPONSE, 3)
        self.network.propose(1, b"x")
        self.network[3].raw.read_index(b"r")
        self.network.run()
        self.assertEqual(self.network[3].read_states, [ReadState(2, b"r")])
        self.assertEqual(self.committed(), [2, 1, 1])

        self.network.heal()
        self.network[1].raw.step(Message(MessageType.APPEND_RESPONSE, 1, 3, 1, index=2))
        self.network.run()

        self.assertEqual(self.committed(), [2, 1, 2])

    def test_no_further_than_is_known_of_its_log(self) -> None:
        """Rule 7: a follower without the entry is not told that it is committed."""
        self.network.loses = lambda message: (message.type, message.to) == (MessageType.APPEND, 3)
        self.network.propose(1, b"x")

        self.network[3].raw.read_index(b"r")
        self.network.run()

        self.assertEqual([m.commit for m in self.network.sent if m.type is MessageType.READ_INDEX_RESPONSE], [1])
        self.assertEqual(self.committed(), [2, 1, 1])

    def test_change_of_membership(self) -> None:
        """Everybody hears at once who takes part."""
        self.network.join(4)
        change = ConfChangeV2(ConfChangeTransition.AUTO, tuple(parse_changes("l4")))

        self.network[1].raw.propose_conf_change(change)
        self.network.run()

        self.assertEqual(self.committed(), [2, 2, 2])
        self.assertEqual(self.network[2].raw.raft.tracker.membership.learners, {4})
