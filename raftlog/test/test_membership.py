"""Membership changes in a running group: Raft §6, thesis §4, and RAFT_RULES 21, 29 to 31, 34."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.confchange import ConfChangeError
from raftlog.messages import ConfChange, ConfChangeTransition, ConfChangeType, ConfChangeV2, EntryType, MessageType
from raftlog.state import ProposalDropped, Role
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.testing.network import ELECTION_TICKS, Network


def change(text: str, transition: ConfChangeTransition = ConfChangeTransition.AUTO) -> ConfChangeV2:
    """Return a change written as `v1 l2 r3`."""
    return ConfChangeV2(transition, tuple(parse_changes(text)))


def propose(network: Network, leader: int, text: str) -> None:
    """Let a leader change the membership, and wait for what comes of it."""
    network[leader].raw.propose_conf_change(change(text))
    network.run()


class ChangeTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a group of three that replica 1 leads."""
        self.network = Network()
        self.network.elect(1)

    def voters(self, replica_id: int) -> tuple[int, ...]:
        """Return the voters as a replica knows them."""
        return self.network[replica_id].raw.conf_state().voters

    def test_takes_effect_when_applied(self) -> None:
        """RAFT_RULES 30: a change that is in the log is not in effect before it is committed and applied."""
        self.network.isolate(2, 3)

        propose(self.network, 1, "r3")
        self.assertEqual(self.voters(1), (1, 2, 3))
        self.network.heal()
        self.network.tick(3)

        self.assertEqual([self.voters(n) for n in (1, 2)], [(1, 2), (1, 2)])

    def test_old_form(self) -> None:
        """A change of one step may be proposed in the short form."""
        self.network[1].raw.propose_conf_change(ConfChange(ConfChangeType.REMOVE, 3))
        self.network.run()

        self.assertEqual(self.voters(2), (1, 2))

    def test_one_at_a_time(self) -> None:
        """Rule 29: while a change is unapplied another one is refused."""
        self.network.isolate(2, 3)
        propose(self.network, 1, "l4")

        self.assertRaises(ProposalDropped, self.network[1].raw.propose_conf_change, change("l5"))

    def test_again_once_applied(self) -> None:
        """Rule 29: after that the next may follow."""
        propose(self.network, 1, "l4")
        propose(self.network, 1, "l5")

        self.assertEqual(self.network[2].raw.conf_state().learners, (4, 5))

    def test_only_after_a_commit_of_its_own_term(self) -> None:
        """Rule 29: a new leader changes nothing before its no-op is committed and applied.

        'A leader must commit an entry from its current term before it may append a configuration entry' is what the
        single-server algorithm lacked (Ongaro, raft-dev, 2015).
        """
        self.network.isolate(3)
        self.network[1].raw.transfer_leader(2)
        self.network.loses = lambda message: message.type is MessageType.APPEND_RESPONSE and message.term > 1
        self.network.run()
        self.assertIs(self.network[2].raw.raft.role, Role.LEADER)

        self.assertRaises(ProposalDropped, self.network[2].raw.propose_conf_change, change("l4"))
        self.network.heal()
        self.network.tick(3)
        propose(self.network, 2, "l4")

        self.assertEqual(self.network[1].raw.conf_state().learners, (4,))

    def test_inherited_change_counts_as_pending(self) -> None:
        """Rule 29: a change that an older leader left in the log is pending until it is applied."""
        self.network.isolate(3)
        self.network.loses = lambda message: message.type is MessageType.APPEND_RESPONSE
        propose(self.network, 1, "l4")
        self.network.loses = lambda message: message.type is MessageType.APPEND_RESPONSE and message.term > 1
        self.network.split([1], [2, 3])
        self.network.tick(2 * ELECTION_TICKS, 2, 3)
        self.assertIs(self.network[2].raw.raft.role, Role.LEADER)
        self.assertIn(EntryType.CONF_CHANGE_V2, [entry.type for entry in self.network[2].entries])

        self.assertRaises(ProposalDropped, self.network[2].raw.propose_conf_change, change("l5"))
        self.network.heal()
        self.network.tick(3)

        self.assertEqual(self.network[1].raw.conf_state().learners, (4,))

    def test_impossible_change(self) -> None:
        """What could not be applied is refused before it enters the log."""
        last_index = self.network[1].raw.raft.log.last_index()

        self.assertRaises(ConfChangeError, self.network[1].raw.propose_conf_change, ConfChangeV2())

        self.assertEqual(self.network[1].raw.raft.log.last_index(), last_index)

    def test_followers_refuse(self) -> None:
        """Only the leader takes changes."""
        self.assertRaises(ProposalDropped, self.network[2].raw.propose_conf_change, change("l4"))

    def test_survives_a_restart(self) -> None:
        """A replica that restarts is in the configuration it had applied."""
        propose(self.network, 1, "r3")

        self.network[2].crash()

        self.assertEqual(self.voters(2), (1, 2))


class UnappliedChangeTests(SynchronousTestCase):
    """RAFT_RULES 30."""

    def test_no_campaign_with_an_unapplied_change(self) -> None:
        """Rule 30: a replica with a committed but unapplied change does not campaign; once it is applied it does."""
        network = Network.plain()
        network.elect(1)
        network[2].disk_is_slow = True
        propose(network, 1, "l4")
        self.assertTrue(network[2].raw.raft.log.has_unapplied_conf_change())

        network.campaign(2)
        self.assertIs(network[2].raw.raft.role, Role.FOLLOWER)
        network[2].disk_is_slow = False
        network.send(network[2].write())
        network.run()
        network.campaign(2)

        self.assertIs(network[2].raw.raft.role, Role.LEADER)


class LearnerTests(SynchronousTestCase):
    """RAFT_RULES 31 and thesis §4.2.1, catching up new servers."""

    def setUp(self) -> None:
        """Make a group of three that replica 1 leads, with some entries."""
        self.network = Network()
        self.network.elect(1)
        self.network.propose(1, b"a", b"b")

    def test_learner_catches_up(self) -> None:
        """A learner gets the whole log, here by a snapshot as the log was compacted, and what comes later."""
        self.network[1].compact()
        self.network.join(4)

        propose(self.network, 1, "l4")
        self.network.propose(1, b"c")

        self.assertEqual(self.network[4].data, [b"c"])
        self.assertTrue(self.network[4].raw.raft.is_learner)

    def test_learner_does_not_count(self) -> None:
        """'The new server ... is not yet counted towards majorities': with two of three voters gone nothing commits."""
        self.network.join(4)
        propose(self.network, 1, "l4")
        self.network.isolate(2, 3)

        self.network.propose(1, b"c")

        self.assertEqual(self.network[1].data, [b"a", b"b"])
        self.assertEqual(self.network[4].raw.raft.log.last_index(), self.network[1].raw.raft.log.last_index())

    def test_learner_is_promoted(self) -> None:
        """Promoted, it votes and counts."""
        self.network.join(4)
        propose(self.network, 1, "l4")
        propose(self.network, 1, "v4")
        self.network.isolate(2)

        self.network.propose(1, b"c")

        self.assertEqual(self.network[1].data, [b"a", b"b", b"c"])
        self.assertTrue(self.network[4].raw.raft.promotable)

    def test_replacing_a_dead_voter(self) -> None:
        """Rule 31: promoting and removing in ONE joint change never needs more votes than two of three."""
        self.network.isolate(3)
        self.network.join(4)
        propose(self.network, 1, "l4")

        propose(self.network, 1, "v4 r3")

        self.assertEqual(self.network[1].raw.conf_state().voters, (1, 2, 4))
        self.network.isolate(2)
        self.network.propose(1, b"c")
        self.assertEqual(self.network[4].data[-1:], [b"c"])


class JointTests(SynchronousTestCase):
    """Paper §6 and RAFT_RULES 34."""

    def setUp(self) -> None:
        """Make a group of three that is about to become {1, 4, 5}."""
        self.network = Network()
        self.network.elect(1)
        for replica_id in (4, 5):
            self.network.join(replica_id)
            propose(self.network, 1, f"l{replica_id}")

    def enter(self, transition: ConfChangeTransition = ConfChangeTransition.EXPLICIT) -> None:
        """Enter the joint configuration {1, 4, 5} and {1, 2, 3}."""
        self.network[1].raw.propose_conf_change(change("v4 v5 r2 r3", transition))
        self.network.run()

    def test_both_majorities(self) -> None:
        """'Agreement requires separate majorities from both the old and new configurations'."""
        self.enter()
        applied = len(self.network[1].data)

        self.network.isolate(2, 3)
        self.network.propose(1, b"new only")
        self.assertEqual(len(self.network[1].data), applied)
        self.network.heal()
        self.network.isolate(4, 5)
        self.network.tick(2)
        self.network.propose(1, b"old only")
        self.assertNotIn(b"old only", self.network[1].data)
        self.network.heal()
        self.network.tick(2)

        self.assertIn(b"old only", self.network[1].data)

    def test_election_needs_both(self) -> None:
        """So do elections: the new majority alone can't elect a leader."""
        self.enter()
        self.network.isolate(1, 2, 3)
        for replica_id in (4, 5):
            self.network[replica_id].raw.raft.become_follower(1, 0)

        self.network.tick(4 * ELECTION_TICKS, 4, 5)

        self.assertNotIn(4, self.network.leaders())
        self.assertNotIn(5, self.network.leaders())

    def test_left_automatically(self) -> None:
        """Asked to, the leader leaves the joint configuration by an entry of its own."""
        self.enter(ConfChangeTransition.IMPLICIT)

        self.assertEqual(self.network[4].raw.conf_state().voters, (1, 4, 5))
        self.assertEqual(self.network[4].raw.conf_state().voters_outgoing, ())
        self.assertEqual((self.network[1].entries[-1].data, self.network[1].entries[-1].type.value), (b"", 2))

    def test_left_after_a_crash_only_by_an_entry(self) -> None:
        """Rule 34: a new leader that finds itself in a joint configuration leaves it by a newly committed entry."""
        self.network.loses = lambda message: any(entry.type and not entry.data for entry in message.entries)
        self.enter(ConfChangeTransition.IMPLICIT)
        self.assertEqual(self.network[1].raw.conf_state().voters_outgoing, (1, 2, 3))
        for member in self.network.members.values():
            member.crash()
            self.assertEqual(member.raw.conf_state().voters_outgoing, (1, 2, 3), f"replica {member.id}")

        self.network.tick(3 * ELECTION_TICKS)
        self.assertEqual(self.network[4].raw.conf_state().voters_outgoing, (1, 2, 3))
        self.network.heal()
        self.network.tick(4 * ELECTION_TICKS)

        (leader,) = self.network.leaders()
        self.assertEqual(self.network[leader].raw.conf_state().voters, (1, 4, 5))
        leaving = [e for e in self.network[leader].applied if e.type is EntryType.CONF_CHANGE_V2 and not e.data]
        self.assertEqual(len(leaving), 1)


class RemovalTests(SynchronousTestCase):
    """RAFT_RULES 21."""

    def test_removed_leader_steps_down_when_applied(self) -> None:
        """Rule 21: 'a leader that is removed from the configuration steps down once C_new is committed' (§4.2.2)."""
        network = Network()
        network.elect(1)

        propose(network, 1, "r1")
        self.assertEqual(network.leaders(), [])
        network.tick(3 * ELECTION_TICKS)

        (leader,) = network.leaders()
        self.assertIn(leader, (2, 3))

    def test_demoted_leader_steps_down(self) -> None:
        """Rule 21: so does one that becomes a learner."""
        network = Network()
        network.elect(1)

        propose(network, 1, "l1")

        self.assertEqual((network.leaders(), network[1].raw.raft.is_learner), ([], True))

    def test_removed_leader_does_not_count_itself(self) -> None:
        """'It does not include itself in majorities' (§6): its entry is committed by the two others only."""
        network = Network(step_down_on_removal=False)
        network.elect(1)
        propose(network, 1, "r1")
        network.isolate(3)

        self.assertRaises(ProposalDropped, network[1].raw.propose, b"x")
        self.assertFalse(network[1].raw.raft.tracker.has_quorum({1, 2}))

    def test_removed_replica_does_not_disturb(self) -> None:
        """A replica that was removed and does not know it can't depose the leader (§6, third issue)."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        propose(network, 1, "r3")
        network.heal()

        network.tick(6 * ELECTION_TICKS)

        self.assertEqual((network.leaders(), network[1].raw.raft.term), ([1], 1))
