"""Safety: the election restriction (Raft §5.4.1), entries of earlier terms (§5.4.2), figure 3 in random histories."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import Message, MessageType
from raftlog.state import ProposalDropped, Role
from raftlog.testing.network import ELECTION_TICKS, Network


class ElectionRestrictionTests(SynchronousTestCase):
    """Paper §5.4.1."""

    def vote(self, ours: list[int], theirs: list[int], type_: MessageType = MessageType.VOTE) -> bool:
        """Return whether a replica whose log has the terms `ours` votes for a candidate with `theirs`."""
        network = Network.plain(logs={1: ours})
        candidate_term = max([*ours, *theirs, 1]) + 1
        last_term = theirs[-1] if theirs else 0
        network[1].raw.step(Message(type_, 1, 2, candidate_term, last_term, len(theirs)))
        network.run()
        (answer,) = network.sent
        return not answer.reject

    def test_later_term_is_more_up_to_date(self) -> None:
        """'If the logs have last entries with different terms, then the log with the later term is more up-to-date'."""
        self.assertTrue(self.vote([1, 1, 1, 1], [1, 2]))
        self.assertFalse(self.vote([1, 2], [1, 1, 1, 1]))

    def test_longer_log_is_more_up_to_date(self) -> None:
        """'If the logs end with the same term, then whichever log is longer is more up-to-date'."""
        self.assertTrue(self.vote([1, 2], [1, 2, 2]))
        self.assertFalse(self.vote([1, 2, 2], [1, 2]))

    def test_equal_log_suffices(self) -> None:
        """'The voter denies its vote if its own log is more up-to-date than that of the candidate': equal is not."""
        self.assertTrue(self.vote([1, 2], [1, 2]))
        self.assertTrue(self.vote([], []))

    def test_pre_votes_are_restricted_alike(self) -> None:
        """A pre-vote is given to whom a vote would be given (thesis §9.6)."""
        self.assertTrue(self.vote([1, 2], [1, 2, 2], MessageType.PRE_VOTE))
        self.assertFalse(self.vote([1, 2, 2], [1, 2], MessageType.PRE_VOTE))

    def test_candidate_needs_all_committed_entries(self) -> None:
        """'Prevent a candidate from winning an election unless its log contains all committed entries'."""
        network = Network.plain()
        network.elect(1)
        network.isolate(3)
        network.propose(1, b"committed")
        network.heal()
        network.isolate(1)

        network.campaign(3)
        self.assertIsNot(network[3].raw.raft.role, Role.LEADER)
        network.campaign(2)

        self.assertIs(network[2].raw.raft.role, Role.LEADER)
        self.assertEqual(network[3].data, [b"committed"])


class EarlierTermsTests(SynchronousTestCase):
    """Paper §5.4.2."""

    def figure_8(self) -> Network:
        """Return the group of figure 8 at (c): S1 leads term 4; entry 2, of term 2, is on all but S5."""
        logs = {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}
        # One entry in a message, so that the next one can be lost by itself.
        network = Network.plain(tuple(logs), logs=logs, max_size_per_message=1)
        network.isolate(5)
        network[1].raw.raft.become_follower(3, 0)
        # Whoever has entry 2 could take the entry of term 4, but does not hear of it.
        network.loses = lambda message: _carries(message, 4) and len(network[message.to].terms) > 1
        network.elect(1)
        self.assertEqual([network[n].terms for n in (1, 2, 3, 4)], [[1, 2, 4], [1, 2], [1, 2], [1, 2]])
        return network

    def test_figure_8_not_committed_by_counting(self) -> None:
        """'Raft never commits log entries from previous terms by counting replicas': entry 2 in (c)."""
        network = self.figure_8()

        self.assertEqual(network[1].raw.raft.tracker.committed(), 2)
        self.assertEqual(network[1].raw.raft.log.committed, 0)

    def test_figure_8_overwritten(self) -> None:
        """'If S1 crashes as in (d), S5 could be elected leader ... and overwrite the entry'."""
        network = self.figure_8()
        network.heal()
        network.isolate(1)

        network.campaign(5)
        network.elect(5)

        for replica_id in (2, 3, 4):
            self.assertEqual(network[replica_id].terms, [1, 3, 5])

    def test_figure_8_committed_by_its_own_term(self) -> None:
        """'If S1 replicates an entry from its current term on a majority ... as in (e), S5 cannot win an election'."""
        network = self.figure_8()
        network.heal()
        network.isolate(4, 5)
        network.tick(2, 1)
        self.assertEqual([entry.term for entry in network[1].applied], [1, 2, 4])
        network.heal()
        network.isolate(1)

        for _ in range(3):
            network.campaign(5)

        self.assertIsNot(network[5].raw.raft.role, Role.LEADER)

    def test_commits_by_its_own_term(self) -> None:
        """'Only log entries from the leader's current term are committed by counting replicas'; then all before (e)."""
        network = Network.plain(logs={1: [1, 2], 2: [1, 2], 3: [1]})
        network.loses = lambda message: _carries(message, 3)
        network.elect(1)
        self.assertEqual(network[1].raw.raft.log.committed, 0)

        network.heal()
        network.tick(2)

        self.assertEqual(network[1].raw.raft.log.committed, 3)
        self.assertEqual([entry.term for entry in network[3].applied], [1, 2, 3])

    def test_old_responses_commit_nothing(self) -> None:
        """An acknowledgement of an earlier term is not counted for a later one."""
        network = Network.plain()
        network.elect(1)
        network.isolate(1)
        network[1].raw.propose(b"x")
        network.run()
        late = Message(MessageType.APPEND_RESPONSE, 1, 2, 1, index=2)
        network[1].raw.raft.become_follower(2, 0)

        network[1].raw.step(late)

        self.assertEqual(network[1].raw.raft.log.committed, 1)


def _carries(message: Message, term: int) -> bool:
    """Return whether the message holds an entry of a term."""
    return any(entry.term == term for entry in message.entries)


class RandomHistoryTests(SynchronousTestCase):
    """Figure 3: what is true at all times, whatever happens. Network.check compares the replicas after each action."""

    @given(st.integers(0, 1 << 32), st.booleans())
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    def test_properties_hold(self, seed: int, careful: bool) -> None:
        """Elections, proposals, lost messages, partitions and crashes in any order break no property; then it heals."""
        rng = random.Random(seed)
        network = Network(seed=seed, pre_vote=careful, check_quorum=careful)
        for _ in range(60):
            _disturb(network, rng)
            network.check()

        network.heal()
        leader = _await_leader(network)
        network.propose(leader, b"at last")

        acknowledged = network[leader].data
        self.assertEqual(acknowledged[-1], b"at last")
        for member in network.members.values():
            self.assertEqual(member.data, acknowledged)


def _await_leader(network: Network) -> int:
    """Let time pass until one leader is alone; split votes may take some election timeouts."""
    for _ in range(20):
        network.tick(3 * ELECTION_TICKS)
        if len(network.leaders()) == 1:
            return network.leaders()[0]
    raise AssertionError("nobody was elected")


def _disturb(network: Network, rng: random.Random) -> None:
    """Let one thing happen to a random replica."""
    replica_id = rng.choice(list(network.members))
    what = rng.randrange(8)
    if what == 0:
        network[replica_id].raw.campaign()
    elif what == 1:
        network.split([replica_id], [other for other in network.members if other != replica_id])
    elif what == 2:
        network.heal()
    elif what == 3:
        network[replica_id].crash()
    elif what == 4:
        lost = rng.choice(list(MessageType))
        network.loses = lambda message: message.type is lost
    elif what == 5:
        network.tick(rng.randrange(1, 12), replica_id)
    else:
        _propose_to_all(network, rng)
    for _ in range(rng.randrange(4)):
        network.step()


def _propose_to_all(network: Network, rng: random.Random) -> None:
    for leader in network.leaders():
        try:
            network[leader].raw.propose(b"%d" % rng.getrandbits(30))
        except ProposalDropped:
            continue
