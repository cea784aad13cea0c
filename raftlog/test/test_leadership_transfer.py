"""Leadership transfer: thesis §3.10, RAFT_RULES 20 and 23."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfChangeV2, MessageType
from raftlog.state import ProposalDropped, Role
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.testing.network import ELECTION_TICKS, Network


class TransferTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a group of three voters and a learner that replica 1 leads."""
        self.network = Network(learners=[4])
        self.network.elect(1)
        self.network.propose(1, b"x")
        self.network.sent.clear()

    def transfer(self, to: int, asked: int = 1) -> None:
        """Ask a replica to have leadership handed over, and wait for what comes of it."""
        self.network[asked].raw.transfer_leader(to)
        self.network.run()

    def test_hands_over(self) -> None:
        """'The prior leader sends a TimeoutNow request'; the target has everything and wins the next term."""
        self.transfer(2)

        self.assertEqual(self.network.leaders(), [2])
        self.assertEqual(self.network[2].raw.raft.term, 2)

    def test_without_a_pre_vote(self) -> None:
        """Rule 20: the target campaigns at once, although everybody has just heard from a live leader."""
        self.transfer(2)

        types = {message.type for message in self.network.sent}
        self.assertIn(MessageType.VOTE, types)
        self.assertNotIn(MessageType.PRE_VOTE, types)

    def test_follower_passes_the_wish_on(self) -> None:
        """A follower that is asked tells the leader."""
        self.transfer(2, asked=3)

        self.assertEqual(self.network.leaders(), [2])

    def test_target_catches_up_first(self) -> None:
        """'The prior leader fully updates the target server's log' before it lets go."""
        self.network.isolate(2)
        self.network.propose(1, b"missed")
        self.network.heal()

        self.transfer(2)
        self.network.tick()

        self.assertEqual(self.network.leaders(), [2])
        self.assertEqual(self.network[2].data, [b"x", b"missed"])

    def test_proposals_are_refused_meanwhile(self) -> None:
        """'The prior leader stops accepting new client requests'."""
        self.network.isolate(2)
        self.transfer(2)

        self.assertRaises(ProposalDropped, self.network[1].raw.propose, b"y")

    def test_deadline(self) -> None:
        """Rule 23: after one election timeout the transfer is given up and proposals resume."""
        self.network.isolate(2)
        self.transfer(2)
        self.network.tick(ELECTION_TICKS - 1)
        self.assertRaises(ProposalDropped, self.network[1].raw.propose, b"y")

        self.network.tick()
        self.network.propose(1, b"y")

        self.assertEqual(self.network[1].data, [b"x", b"y"])

    def test_deadline_begins_with_the_request(self) -> None:
        """Rule 23: the timeout counts from the request, however much of the leader's own had passed."""
        self.network.tick(ELECTION_TICKS - 1)
        self.network.isolate(2)
        self.transfer(2)

        self.network.tick(ELECTION_TICKS - 1)

        self.assertEqual(self.network[1].raw.raft.transferee, 2)

    def test_lost_timeout_now(self) -> None:
        """If TimeoutNow is lost the leader stays, and goes on after the deadline."""
        self.network.loses = lambda message: message.type is MessageType.TIMEOUT_NOW

        self.transfer(2)
        self.network.tick(ELECTION_TICKS)
        self.network.propose(1, b"y")

        self.assertEqual(self.network.leaders(), [1])

    def test_another_target(self) -> None:
        """A second request replaces the first."""
        self.network.isolate(2)
        self.transfer(2)

        self.transfer(3)

        self.assertIs(self.network[3].raw.raft.role, Role.LEADER)

    def test_same_target_again(self) -> None:
        """Asking again for the same target neither restarts the deadline nor sends anything."""
        self.network.isolate(2)
        self.transfer(2)
        self.network.tick(3)
        elapsed = self.network[1].raw.raft.election_elapsed
        self.network.sent.clear()

        self.transfer(2)

        self.assertEqual(self.network[1].raw.raft.election_elapsed, elapsed)
        self.assertEqual(self.network.sent, [])

    def test_asked_to_stay(self) -> None:
        """Transferring to the leader itself gives up a transfer that is under way."""
        self.network.isolate(2)
        self.transfer(2)

        self.transfer(1)
        self.network.propose(1, b"y")

        self.assertEqual(self.network[1].data, [b"x", b"y"])

    def test_learners_and_strangers(self) -> None:
        """Neither a learner nor a replica outside the configuration can be a target."""
        for target in (4, 9):
            self.transfer(target)

            self.assertEqual(self.network[1].raw.raft.transferee, 0)
        self.assertEqual(self.network.leaders(), [1])

    def test_joint_configuration_is_left_afterwards(self) -> None:
        """A leader that could not leave a joint configuration while handing over does so once that is given up."""
        self.network.isolate(2)
        self.network[1].raw.propose_conf_change(ConfChangeV2(changes=tuple(parse_changes("v4 r3"))))
        self.transfer(2)
        self.assertEqual(self.network[1].raw.conf_state().voters_outgoing, (1, 2, 3))

        self.network.tick(ELECTION_TICKS, 1, 3, 4)

        self.assertEqual(self.network[1].raw.conf_state().voters, (1, 2, 4))
        self.assertEqual(self.network[1].raw.conf_state().voters_outgoing, ())

    def test_removed_target(self) -> None:
        """A transfer to a replica that leaves the configuration meanwhile is given up."""
        self.network.isolate(2)
        self.network[1].raw.propose_conf_change(ConfChangeV2(changes=tuple(parse_changes("r2"))))
        self.network[1].raw.transfer_leader(2)

        self.network.run()

        self.assertEqual(self.network[1].raw.raft.transferee, 0)

    def test_learner_ignores_timeout_now(self) -> None:
        """A learner that is told to campaign does not."""
        self.network[1].raw.raft.send(MessageType.TIMEOUT_NOW, 4)

        self.network.run()

        self.assertEqual((self.network.leaders(), self.network[4].raw.raft.term), ([1], 1))
