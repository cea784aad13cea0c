"""Read indexes from what replicas testify one by one (thesis §6.4), and what followers learn from them."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from raftlog import testimony
from raftlog.messages import ConfChangeTransition, ConfChangeV2, Message, MessageType
from raftlog.rawnode import RawNode
from raftlog.state import Role
from raftlog.test.one_replica import replica
from raftlog.testimony import NOWHERE, Position, Testimony
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.testing.network import Network, entries_of

THREE = (1, 2, 3)


class ReadPositionTests(SynchronousTestCase):
    def position(self, *testimonies: Testimony) -> Position:
        """Return what these testimonies confirm, whatever order they were heard in."""
        found = testimony.read_position(testimonies)
        self.assertEqual(testimony.read_position(testimonies[::-1]), found)
        return found

    def test_majority(self) -> None:
        """The leader and one more of three in its term confirm what the leader has committed."""
        self.assertEqual(self.position(Testimony(1, 4, 9, THREE), Testimony(3, 4)), Position(9, 4))

    def test_alone(self) -> None:
        """The only voter needs nobody else."""
        self.assertEqual(self.position(Testimony(1, 4, 9, (1,))), Position(9, 4))

    def test_leader_alone_of_three(self) -> None:
        """A leader that nobody confirms may have been deposed long ago."""
        self.assertEqual(self.position(Testimony(1, 4, 9, THREE)), NOWHERE)

    def test_no_leader(self) -> None:
        """Where nobody leads there is nothing to read at, whoever was heard."""
        self.assertEqual(self.position(), NOWHERE)
        self.assertEqual(self.position(Testimony(1, 4), Testimony(2, 4), Testimony(3, 4)), NOWHERE)

    def test_heard_twice(self) -> None:
        """Who testifies twice counts once."""
        self.assertEqual(self.position(Testimony(1, 4, 9, THREE), Testimony(1, 4, 9, THREE)), NOWHERE)

    def test_other_terms(self) -> None:
        """Who is in a later term may have elected another leader; who is in an earlier one may yet do so."""
        for other in (3, 5):
            self.assertEqual(self.position(Testimony(1, 4, 9, THREE), Testimony(2, other)), NOWHERE)

    def test_two_leaders(self) -> None:
        """Of two that believe to lead the one of the later term does."""
        old, new = Testimony(1, 4, 9, THREE), Testimony(2, 5, 7, THREE)

        self.assertEqual(self.position(old, new, Testimony(3, 5)), Position(7, 5))

    def test_own_quorum(self) -> None:
        """Those who confirm the leader of another term do not confirm the later one."""
        five = (1, 2, 3, 4, 5)
        old, new = Testimony(1, 4, 9, five), Testimony(2, 5, 7, five)

        self.assertEqual(self.position(old, new, Testimony(3, 4), Testimony(4, 5)), NOWHERE)

    def test_later_leader_without_entry(self) -> None:
        """One that has committed nothing in its term yet gives no position, and takes part of the old one's quorum."""
        self.assertEqual(self.position(Testimony(1, 4, 9, THREE), Testimony(2, 5), Testimony(3, 5)), NOWHERE)

    def test_learners(self) -> None:
        """Learners confirm nothing, nor do replicas that have left."""
        self.assertEqual(self.position(Testimony(1, 4, 9, THREE), Testimony(4, 4), Testimony(5, 4)), NOWHERE)

    def test_joint(self) -> None:
        """In a joint configuration both majorities have to be in the leader's term (Raft §6)."""
        leader = Testimony(1, 4, 9, (1, 4, 5), (1, 2, 3))

        self.assertEqual(self.position(leader, Testimony(4, 4), Testimony(5, 4)), NOWHERE)
        self.assertEqual(self.position(leader, Testimony(2, 4), Testimony(3, 4)), NOWHERE)
        self.assertEqual(self.position(leader, Testimony(2, 4), Testimony(5, 4)), Position(9, 4))

    def test_leader_that_votes_no_more(self) -> None:
        """A leader outside its configuration needs a majority of the others."""
        leader = Testimony(6, 4, 9, THREE)

        self.assertEqual(self.position(leader, Testimony(1, 4)), NOWHERE)
        self.assertEqual(self.position(leader, Testimony(1, 4), Testimony(2, 4)), Position(9, 4))


class TestifyTests(SynchronousTestCase):
    """What is testified in a group of three that replica 1 leads."""

    def setUp(self) -> None:
        """Elect it in the term after that of the only entry there was."""
        self.network = Network.plain(logs=dict.fromkeys(THREE, (1,)))
        self.network.elect(1)

    def said_by(self, *replica_ids: int) -> Sequence[Testimony]:
        """Return what these replicas testify."""
        return [self.network[replica_id].raw.testify() for replica_id in replica_ids]

    def test_leader(self) -> None:
        """The leader names the last committed entry and those who vote."""
        self.assertEqual(self.said_by(1), [Testimony(1, 2, 2, THREE)])

    def test_uncommitted(self) -> None:
        """What is in the leader's log only is not in its testimony."""
        self.network.isolate(1)
        self.network.propose(1, b"x")

        self.assertEqual(self.said_by(1), [Testimony(1, 2, 2, THREE)])

    def test_followers(self) -> None:
        """A follower says which term it is in, however much it knows to be committed."""
        self.assertEqual(self.said_by(2, 3), [Testimony(2, 2), Testimony(3, 2)])

    def test_candidate(self) -> None:
        """So does a candidate, of the term that it wants to lead."""
        self.network.isolate(2)
        self.network.campaign(2)

        self.assertEqual(self.said_by(2), [Testimony(2, 3)])

    def test_nothing_committed_in_its_term(self) -> None:
        """RAFT_RULES 25: a leader does not know what is committed before it has committed something itself."""
        self.network.loses = lambda message: message.type is MessageType.APPEND
        self.network.campaign(2)
        self.assertEqual(self.said_by(2), [Testimony(2, 3)])

        self.network.heal()
        self.network.tick()

        self.assertEqual(self.said_by(2), [Testimony(2, 3, 3, THREE)])

    def test_deposed(self) -> None:
        """A leader that does not know of the next one is confirmed by nobody who voted for that one."""
        self.network.isolate(1)
        self.network.campaign(2)
        self.network.propose(2, b"newer")

        self.assertEqual(testimony.read_position(self.said_by(1, 3)), NOWHERE)
        self.assertEqual(testimony.read_position(self.said_by(1, 2, 3)), Position(4, 3))

    def test_joint(self) -> None:
        """In a joint configuration a leader names both halves."""
        for replica_id in (4, 5):
            self.network.join(replica_id)
        changes = tuple(parse_changes("v4 v5 r2 r3"))
        self.network[1].raw.propose_conf_change(ConfChangeV2(ConfChangeTransition.EXPLICIT, changes))
        self.network.run()

        (leader,) = self.said_by(1)

        self.assertEqual((sorted(leader.voters), sorted(leader.outgoing)), ([1, 4, 5], [1, 2, 3]))


class LearnCommittedTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a follower that got three entries from its leader and knows none of them to be committed."""
        self.raw = replica(term=2, pre_vote=False)
        self.append((1, 2, 2))

    def append(self, terms: Sequence[int], behind: int = 0, behind_term: int = 0, term: int = 2) -> None:
        """Send entries of these terms as the leader of `term` does, behind an entry; none is said to be committed."""
        entries = tuple(entries_of((0,) * behind + tuple(terms))[behind:])
        self.raw.step(
            Message(MessageType.APPEND, 1, 2, term, index=behind, log_term=behind_term, entries=entries, commit=0)
        )

    def committed(self, raw: RawNode | None = None) -> int:
        """Return the commit index."""
        return (raw or self.raw).raft.log.committed

    def test_entry_that_is_here(self) -> None:
        """An entry that is here is committed at once, with all before it and no more."""
        self.raw.learn_committed(Position(2, 2))

        self.assertEqual(self.committed(), 2)

    def test_entry_of_another_term(self) -> None:
        """The entry at that index may be one that was never committed: its term tells."""
        self.raw.learn_committed(Position(3, 3))

        self.assertEqual(self.committed(), 0)

    def test_entry_to_come(self) -> None:
        """An entry that is not here yet is committed when it comes, though its leader does not say so."""
        self.raw.learn_committed(Position(5, 2))
        self.append((2,), 3, 2)
        self.assertEqual(self.committed(), 0)

        self.append((2, 2), 4, 2)

        self.assertEqual(self.committed(), 5)

    def test_another_entry_comes(self) -> None:
        """An entry with that index but of another term is not the one, until it is replaced by that."""
        self.raw.learn_committed(Position(4, 3))
        self.append((2,), 3, 2)
        self.assertEqual(self.committed(), 0)

        self.append((3,), 3, 2, term=3)

        self.assertEqual(self.committed(), 4)

    def test_older(self) -> None:
        """What was known already, or is older than what is waited for, changes nothing."""
        self.raw.learn_committed(Position(3, 2))
        self.raw.learn_committed(Position(1, 1))
        self.assertEqual(self.committed(), 3)

        self.raw.learn_committed(Position(5, 2))
        self.raw.learn_committed(Position(4, 2))
        self.append((2, 2), 3, 2)

        self.assertEqual(self.committed(), 5)

    def test_nowhere(self) -> None:
        """No position is none to learn."""
        self.raw.learn_committed(NOWHERE)

        self.assertEqual(self.committed(), 0)

    def test_candidate(self) -> None:
        """A candidate commits nothing, for that might change who votes; once it follows somebody it does."""
        self.raw.campaign()
        self.raw.learn_committed(Position(3, 2))
        self.assertEqual((self.raw.raft.role, self.committed()), (Role.CANDIDATE, 0))

        self.append((3,), 3, 2, term=3)

        self.assertEqual(self.committed(), 3)

    def test_leader(self) -> None:
        """A leader counts for itself: nobody knows more, so what it is told is not true."""
        network = Network()
        network.elect(1)
        network.isolate(1)
        network.propose(1, b"x")

        network[1].raw.learn_committed(Position(2, 1))

        self.assertEqual(self.committed(network[1].raw), 1)

    def test_applied(self) -> None:
        """What a follower learned it applies like anything committed, without its leader."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        network.propose(1, b"x")
        network.heal()
        network.loses = lambda message: message.to == 3 and message.commit > 1
        network[3].raw.step(
            Message(MessageType.APPEND, 3, 1, 1, index=1, log_term=1, entries=tuple(network[1].entries[1:]), commit=1)
        )
        network.run()
        self.assertEqual(network[3].data, [])

        network[3].raw.learn_committed(testimony.read_position([network[n].raw.testify() for n in (1, 2)]))
        network.run()

        self.assertEqual(network[3].data, [b"x"])
