"""Elections, sentence by sentence: terms (Raft §5.1), elections (§5.2), pre-vote (thesis §9.6), RAFT_RULES 19-24.

"Paper" is Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended version).
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import Message, MessageType
from raftlog.state import Role
from raftlog.test.one_replica import replica, written
from raftlog.testing.network import ELECTION_TICKS, Network


class TermTests(SynchronousTestCase):
    """Paper §5.1, terms."""

    def test_larger_term_is_adopted(self) -> None:
        """'If one server's current term is smaller than the other's, then it updates its current term'."""
        raw = replica(term=1)

        raw.step(Message(MessageType.APPEND, 1, 2, 4))

        self.assertEqual(raw.raft.term, 4)

    def test_outdated_leader_reverts(self) -> None:
        """'If a candidate or leader discovers that its term is out of date, it immediately reverts to follower'."""
        network = Network.plain()
        network.elect(1)

        network[1].raw.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 7))

        self.assertEqual((network[1].raw.raft.role, network[1].raw.raft.term), (Role.FOLLOWER, 7))

    def test_outdated_candidate_reverts(self) -> None:
        """The same for a candidate."""
        raw = replica(pre_vote=False)
        raw.campaign()

        raw.step(Message(MessageType.APPEND, 1, 2, 3))

        self.assertEqual((raw.raft.role, raw.raft.leader_id), (Role.FOLLOWER, 2))

    def test_stale_term_is_rejected(self) -> None:
        """'If a server receives a request with a stale term number, it rejects the request'."""
        raw = replica(term=5)

        raw.step(Message(MessageType.VOTE, 1, 2, 4, index=9, log_term=4))

        self.assertEqual((raw.raft.vote, raw.raft.term), (0, 5))

    def test_term_never_goes_back(self) -> None:
        """'A current term number, which increases monotonically over time', also across a restart."""
        network = Network.plain()
        network.elect(1)
        network.elect(2)

        network[3].crash()

        self.assertEqual(network[3].raw.raft.term, 2)


class ElectionTests(SynchronousTestCase):
    """Paper §5.2, leader election."""

    def test_starts_as_follower(self) -> None:
        """'When servers start up, they begin as followers'."""
        self.assertIs(replica(term=3).raft.role, Role.FOLLOWER)

    def test_election_timeout(self) -> None:
        """'If a follower receives no communication over a period of time ... [it] begins an election'."""
        network = Network.plain()

        network.tick(2 * ELECTION_TICKS, 1)

        self.assertEqual(network.leaders(), [1])

    def test_heartbeats_prevent_elections(self) -> None:
        """'A server remains in follower state as long as it receives valid RPCs from a leader'."""
        network = Network.plain()
        network.elect(1)

        network.tick(20 * ELECTION_TICKS)

        self.assertEqual((network.leaders(), network[1].raw.raft.term), ([1], 1))

    def test_begins_election(self) -> None:
        """'A follower increments its current term and transitions to candidate state. It then votes for itself'."""
        raw = replica(term=2, pre_vote=False)

        raw.campaign()

        raft = raw.raft
        self.assertEqual((raft.term, raft.role, raft.vote), (3, Role.CANDIDATE, 1))
        requests = [m for m in raw.ready().messages if m.type is MessageType.VOTE]
        self.assertEqual([(m.to, m.term) for m in requests], [(2, 3), (3, 3)])

    def test_majority_wins(self) -> None:
        """'A candidate wins an election if it receives votes from a majority of the servers'."""
        network = Network.plain()
        network.isolate(3)

        network.campaign(1)

        self.assertEqual(network.leaders(), [1])

    def test_minority_does_not_win(self) -> None:
        """With less than a majority it goes on asking."""
        network = Network.plain()
        network.isolate(2, 3)

        network.campaign(1)

        self.assertIs(network[1].raw.raft.role, Role.CANDIDATE)

    def test_rejections_end_the_election(self) -> None:
        """A candidate that a majority refused follows again."""
        raw = replica(pre_vote=False)
        raw.campaign()

        for voter in (2, 3):
            raw.step(Message(MessageType.VOTE_RESPONSE, 1, voter, 1, reject=True))

        self.assertIs(raw.raft.role, Role.FOLLOWER)

    def test_one_vote_per_term(self) -> None:
        """'Each server will vote for at most one candidate in a given term, on a first-come-first-served basis'."""
        raw = replica()

        for candidate in (2, 3):
            raw.step(Message(MessageType.VOTE, 1, candidate, 1))

        answers = [(m.to, m.reject) for m in written(raw).responses if m.type is MessageType.VOTE_RESPONSE]
        self.assertEqual(answers, [(2, False), (3, True)])

    def test_votes_are_counted_once(self) -> None:
        """A vote that arrives twice is one vote, and the first answer counts."""
        raw = replica(pre_vote=False)
        raw.campaign()

        for reject in (True, False, False):
            raw.step(Message(MessageType.VOTE_RESPONSE, 1, 2, 1, reject=reject))

        self.assertIs(raw.raft.role, Role.CANDIDATE)

    def test_leader_of_the_same_term_is_recognized(self) -> None:
        """'... the candidate recognizes the leader as legitimate and returns to follower state'."""
        raw = replica(pre_vote=False)
        raw.campaign()

        raw.step(Message(MessageType.HEARTBEAT, 1, 3, raw.raft.term))

        self.assertEqual((raw.raft.role, raw.raft.leader_id), (Role.FOLLOWER, 3))

    def test_split_vote_is_resolved(self) -> None:
        """'Raft uses randomized election timeouts to ensure that split votes are rare and ... resolved quickly'."""
        for seed in range(20):
            network = Network.plain(seed=seed)
            for replica_id in (1, 2, 3):
                network[replica_id].raw.campaign()
            network.run()

            network.tick(6 * ELECTION_TICKS)

            self.assertEqual(len(network.leaders()), 1, f"seed {seed}")

    def test_timeouts_are_random(self) -> None:
        """'Election timeouts are chosen randomly from a fixed interval', anew for each attempt (RAFT_RULES 22)."""
        raw = replica(pre_vote=False)
        drawn = set()

        for _ in range(200):
            raw.campaign()
            drawn.add(raw.raft.randomized_election_ticks)

        self.assertEqual(drawn, set(range(ELECTION_TICKS, 2 * ELECTION_TICKS)))

    def test_learners_do_not_campaign(self) -> None:
        """A learner never starts an election, though it may vote: it may be a voter and not know it yet."""
        network = Network.plain(learners=[4])

        network.tick(5 * ELECTION_TICKS, 4)
        network[4].raw.step(Message(MessageType.VOTE, 4, 1, 1))

        self.assertEqual((network[4].raw.raft.role, network[4].raw.raft.vote), (Role.FOLLOWER, 1))


class PreVoteTests(SynchronousTestCase):
    """Thesis §9.6 and RAFT_RULES 19, 20."""

    def test_asking_changes_nothing(self) -> None:
        """Rule 19: neither who asks nor who is asked changes term or vote."""
        network = Network()
        network[1].raw.campaign()

        network[2].raw.step(Message(MessageType.PRE_VOTE, 2, 1, 1))

        for replica_id in (1, 2):
            raft = network[replica_id].raw.raft
            self.assertEqual((raft.term, raft.vote), (0, 0))

    def test_isolated_replica_keeps_its_term(self) -> None:
        """Rule 19: 'pre-vote solves the issue of a partitioned server disrupting the cluster when it rejoins'."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        network.tick(10 * ELECTION_TICKS)
        self.assertEqual(network[3].raw.raft.term, 1)

        network.heal()
        network.tick(2 * ELECTION_TICKS)

        self.assertEqual((network.leaders(), network[1].raw.raft.term), ([1], 1))

    def test_lower_term_is_told_ours(self) -> None:
        """Rule 19: a pre-vote request, a heartbeat or an append of a lower term is answered with our term."""
        for type_, answer in (
            (MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESPONSE),
            (MessageType.HEARTBEAT, MessageType.APPEND_RESPONSE),
            (MessageType.APPEND, MessageType.APPEND_RESPONSE),
        ):
            raw = replica(term=5)

            raw.step(Message(type_, 1, 2, 3))

            (response,) = written(raw).responses
            self.assertEqual((response.type, response.to, response.term), (answer, 2, 5))
            self.assertEqual(response.reject, type_ is MessageType.PRE_VOTE)

    def test_higher_term_of_a_rejection_is_adopted(self) -> None:
        """Rule 19: a pre-candidate that is refused with a higher term takes that term."""
        raw = replica(term=1)
        raw.campaign()

        raw.step(Message(MessageType.PRE_VOTE_RESPONSE, 1, 2, 6, reject=True))

        self.assertEqual((raw.raft.term, raw.raft.role), (6, Role.FOLLOWER))

    def test_replica_with_a_higher_term_rejoins(self) -> None:
        """Rule 19: one that got ahead in terms is not locked out; the leader learns of the term and all go on."""
        network = Network()
        network.elect(1)
        network[3].raw.raft.become_follower(9, 0)

        network.tick(4 * ELECTION_TICKS)

        self.assertEqual(len(network.leaders()), 1)
        self.assertEqual({member.raw.raft.leader_id for member in network.members.values()}, set(network.leaders()))

    def test_vote_is_refused_while_a_leader_lives(self) -> None:
        """Rule 20: whoever heard from a leader within an election timeout answers no candidate of a higher term."""
        network = Network()
        network.elect(1)

        for type_ in (MessageType.VOTE, MessageType.PRE_VOTE):
            network[2].raw.step(Message(type_, 2, 3, 7, index=9, log_term=7))

        self.assertEqual(network[2].raw.raft.term, 1)
        self.assertFalse(network[2].raw.has_ready())

    def test_vote_is_refused_in_the_leaders_own_term(self) -> None:
        """Rule 20: a replica that has not voted in a term but knows its leader votes for nobody else in it."""
        raw = replica()
        raw.step(Message(MessageType.HEARTBEAT, 1, 3, 1))

        raw.step(Message(MessageType.VOTE, 1, 2, 1, index=9, log_term=1))

        self.assertEqual(raw.raft.vote, 0)

    def test_vote_is_given_for_a_transfer(self) -> None:
        """Rule 20: except to a candidate that the leader itself asked to campaign."""
        network = Network()
        network.elect(1)

        network[2].raw.step(Message(MessageType.VOTE, 2, 3, 7, index=9, log_term=7, context=b"transfer"))

        self.assertEqual((network[2].raw.raft.term, network[2].raw.raft.vote), (7, 3))

    def test_vote_is_given_once_the_leader_is_silent(self) -> None:
        """Rule 20: after an election timeout without a sign of life another may win."""
        network = Network()
        network.elect(1)
        network.isolate(1)

        network.tick(ELECTION_TICKS, 2, 3)
        network.campaign(2)

        self.assertIn(2, network.leaders())


class CheckQuorumTests(SynchronousTestCase):
    """Thesis §6.2."""

    def test_cut_off_leader_steps_down(self) -> None:
        """'Steps down if an election timeout elapses without a successful round of heartbeats to a majority'."""
        network = Network()
        network.elect(1)
        network.isolate(1)

        network.tick(2 * ELECTION_TICKS, 1)

        self.assertEqual((network.leaders(), network[1].raw.raft.leader_id), ([], 0))

    def test_leader_with_a_majority_stays(self) -> None:
        """A minority that is silent does not depose it."""
        network = Network()
        network.elect(1)
        network.isolate(3)

        network.tick(5 * ELECTION_TICKS)

        self.assertEqual(network.leaders(), [1])


class RoleChangeTests(SynchronousTestCase):
    """RAFT_RULES 24: the driver can tell of each change of role or leader."""

    def test_every_change_is_in_a_ready(self) -> None:
        """Rule 24: role and leader are in the soft state of the Ready after they changed, and only then."""
        raw = replica(pre_vote=False)
        seen = []

        for act in (
            lambda: raw.campaign(),
            lambda: raw.step(Message(MessageType.HEARTBEAT, 1, 3, 1)),
            lambda: raw.step(Message(MessageType.HEARTBEAT, 1, 3, 1)),
            lambda: raw.step(Message(MessageType.HEARTBEAT, 1, 2, 2)),
        ):
            act()
            soft = raw.ready().soft_state
            seen.append((soft.role, soft.leader_id) if soft else None)

        self.assertEqual(seen, [(Role.CANDIDATE, 0), (Role.FOLLOWER, 3), None, (Role.FOLLOWER, 2)])
