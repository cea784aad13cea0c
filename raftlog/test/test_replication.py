"""Log replication, sentence by sentence (Raft §5.3), and RAFT_RULES 6, 7, 9, 10, 35, 38, 39."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.log import CommitBeyondLog
from raftlog.messages import Entry, Message, MessageType, Snapshot
from raftlog.state import ProposalDropped, Role
from raftlog.testing.network import ELECTION_TICKS, Network


class ReplicationTests(SynchronousTestCase):
    """Paper §5.3, log replication."""

    def test_appends_and_sends(self) -> None:
        """'The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel'."""
        network = Network.plain()
        network.elect(1)
        network.sent.clear()

        term, index = network[1].raw.propose(b"x")
        network.send(network[1].handle_ready())

        self.assertEqual((term, index), (1, 2))
        appends = [(m.to, m.index, [e.data for e in m.entries]) for m in network.sent]
        self.assertEqual(appends, [(2, 1, [b"x"]), (3, 1, [b"x"])])

    def test_committed_on_a_majority(self) -> None:
        """'A log entry is committed once the leader ... has replicated it on a majority of the servers'."""
        network = Network.plain((1, 2, 3, 4, 5))
        network.elect(1)
        network.isolate(4, 5)

        network.propose(1, b"x")
        self.assertEqual(network[1].data, [b"x"])
        network.isolate(3)
        network.propose(1, b"y")

        self.assertEqual(network[1].data, [b"x"])

    def test_commits_preceding_entries(self) -> None:
        """'[It] also commits all preceding entries in the leader's log, including entries by previous leaders'."""
        network = Network.plain(logs={1: [1, 1, 2], 2: [1, 1], 3: [1]})

        network.elect(1)

        for member in network.members.values():
            self.assertEqual([entry.term for entry in member.applied], [1, 1, 2, 3])

    def test_followers_learn_of_commits(self) -> None:
        """'Once a follower learns that a log entry is committed, it applies the entry ... (in log order)'."""
        network = Network.plain()
        network.elect(1)

        network.propose(1, b"a", b"b", b"c")

        self.assertEqual(network[3].data, [b"a", b"b", b"c"])

    def test_consistency_check(self) -> None:
        """'If the follower does not find an entry ... with the same index and term, it refuses the new entries'."""
        network = Network.plain(logs={1: [1]})

        network[1].raw.step(Message(MessageType.APPEND, 1, 2, 3, 1, 2, entries=(Entry(3, 3),)))
        network.run()

        (refusal,) = network.sent
        self.assertEqual((refusal.reject, refusal.index), (True, 2))
        self.assertEqual(network[1].terms, [1])

    def test_followers_duplicate_the_leader(self) -> None:
        """'The leader handles inconsistencies by forcing the followers' logs to duplicate its own' (figure 7)."""
        leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
        logs = {
            1: leader,
            2: leader[:9],
            3: leader[:4],
            4: [*leader, 6],
            5: [*leader, 7, 7],
            6: [1, 1, 1, 4, 4, 4, 4],
            7: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        }
        network = Network.plain(tuple(logs), logs=logs)
        network[1].raw.raft.become_follower(7, 0)

        network.elect(1)

        for member in network.members.values():
            self.assertEqual(member.terms, [*leader, 8], f"replica {member.id}")

    def test_leader_append_only(self) -> None:
        """'A leader never overwrites or deletes entries in its own log' (figure 3)."""
        network = Network.plain(logs={1: [1, 1, 2], 2: [1, 1, 1, 1], 3: [1]})

        network.elect(1)

        self.assertEqual(network[1].terms[:3], [1, 1, 2])

    def test_slow_follower_does_not_stop_the_rest(self) -> None:
        """'A single slow follower will not impact performance': it is caught up when it answers again."""
        network = Network.plain()
        network.elect(1)
        network.isolate(3)
        network.propose(1, *(b"%d" % n for n in range(50)))
        self.assertEqual(len(network[1].data), 50)

        network.heal()
        network.tick(2)

        self.assertEqual(network[3].data, network[1].data)

    def test_snapshot_for_who_is_too_far_behind(self) -> None:
        """'The leader uses InstallSnapshot to send snapshots to followers that are too far behind' (§7)."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        network.propose(1, b"a", b"b")
        network[1].compact()

        network.heal()
        network.tick(3)
        network.propose(1, b"c")

        self.assertEqual(network[3].log.first_index(), network[1].log.first_index())
        self.assertEqual(network[3].data, [b"c"])

    def test_snapshot_is_sent_again(self) -> None:
        """A snapshot that did not arrive is sent anew once the driver says so and the follower is alive."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        network.propose(1, b"a")
        network[1].compact()
        network.heal()
        network.loses = lambda message: message.type is MessageType.SNAPSHOT
        network.tick(3)

        network.heal()
        network[1].raw.report_snapshot(3, ok=False)
        network.tick(3)

        snapshots = [m for m in network.sent if m.type is MessageType.SNAPSHOT]
        self.assertEqual(len(snapshots), 2)
        self.assertEqual(network[3].raw.raft.log.committed, network[1].raw.raft.log.committed)

    def test_old_snapshot_is_refused(self) -> None:
        """RAFT_RULES 9: a snapshot at or below the commit index is not installed, even if that part is compacted."""
        network = Network()
        network.elect(1)
        network.propose(1, b"a", b"b")
        network[3].compact()
        old = Snapshot(2, 1, network[3].raw.conf_state())

        network[3].raw.step(Message(MessageType.SNAPSHOT, 3, 1, 1, snapshot=old))
        network.run()

        self.assertEqual((network[3].raw.raft.log.committed, network[3].log.first_index()), (3, 4))
        self.assertEqual(network.sent[-1].index, 3)

    def test_log_is_reset_to_a_snapshot(self) -> None:
        """RAFT_RULES 9: what a follower had in its log besides is gone with the snapshot it installs."""
        network = Network.plain(logs={3: [1, 1, 1, 1, 1, 1]})
        network.isolate(3)
        network[1].raw.raft.become_follower(1, 0)
        network.elect(1)
        network[1].compact()

        network.heal()
        network.tick(3)

        self.assertEqual(network[3].terms, [])
        self.assertEqual(network[3].log.last_index(), 1)


class AppendTests(SynchronousTestCase):
    """RAFT_RULES 6, 7 and 10."""

    def setUp(self) -> None:
        """Make a follower with entries of terms 1, 1, 2, 2."""
        self.network = Network.plain(logs={1: [1, 1, 2, 2]})
        self.raft = self.network[1].raw.raft

    def append(self, index: int, term: int, terms: list[int], commit: int = 0) -> Message:
        """Give it an append in term 2 behind (index, term); return its answer."""
        self.network.sent.clear()
        entries = tuple(Entry(t, index + place, f"{t}.{index + place}".encode()) for place, t in enumerate(terms, 1))
        self.network[1].raw.step(Message(MessageType.APPEND, 1, 2, 2, term, index, commit, entries))
        self.network.run()
        return self.network.sent[-1]

    def test_short_append_keeps_the_rest(self) -> None:
        """Rule 6: an append that ends before our log does not shorten it."""
        answer = self.append(1, 1, [1])

        self.assertEqual((answer.reject, answer.index), (False, 2))
        self.assertEqual(self.network[1].terms, [1, 1, 2, 2])

    def test_empty_append_keeps_the_rest(self) -> None:
        """Rule 6: nor does one without entries."""
        self.append(2, 1, [])

        self.assertEqual(self.network[1].terms, [1, 1, 2, 2])

    def test_removes_from_the_first_conflict(self) -> None:
        """Rule 6: 'if an existing entry conflicts with a new one, delete the existing entry and all that follow it'."""
        self.append(1, 1, [2, 2])

        self.assertEqual(self.network[1].terms, [1, 2, 2])

    def test_commit_is_capped_by_the_message(self) -> None:
        """Rule 7: 'commitIndex = min(leaderCommit, index of last new entry)': the rest of our log is not proven."""
        self.append(1, 1, [1], commit=4)

        self.assertEqual(self.raft.log.committed, 2)

    def test_commit_is_capped_by_the_leader(self) -> None:
        """Rule 7: and not beyond what the leader has committed."""
        self.append(1, 1, [1, 2, 2], commit=3)

        self.assertEqual(self.raft.log.committed, 3)

    def test_commit_never_goes_back(self) -> None:
        """An old message with a lower commit index changes nothing."""
        self.append(4, 2, [], commit=4)

        answer = self.append(2, 1, [2], commit=1)

        self.assertEqual((self.raft.log.committed, answer.index), (4, 4))

    def test_commit_beyond_the_log(self) -> None:
        """Rule 10: a heartbeat that knows of more committed entries than we have shows that we lost some."""
        heartbeat = Message(MessageType.HEARTBEAT, 1, 2, 2, commit=9)

        self.assertRaises(CommitBeyondLog, self.network[1].raw.step, heartbeat)


class ProposalTests(SynchronousTestCase):
    """RAFT_RULES 35 and 38."""

    def test_messages_are_addressed(self) -> None:
        """Rule 35: every message carries who sends it, to whom, and the sender's term."""
        network = Network()
        network.elect(1)
        network.propose(1, b"x")
        network.tick(2)

        for message in network.sent:
            self.assertIn(message.from_, (1, 2, 3))
            self.assertIn(message.to, (1, 2, 3))
            self.assertGreater(message.term, 0)

    def test_followers_do_not_forward(self) -> None:
        """Rule 35: a follower refuses proposals, it does not pass them on."""
        network = Network()
        network.elect(1)

        self.assertRaises(ProposalDropped, network[2].raw.propose, b"x")
        self.assertFalse(network[2].raw.has_ready())

    def test_candidates_refuse(self) -> None:
        """So does a candidate."""
        network = Network()
        network[1].raw.campaign()

        self.assertRaises(ProposalDropped, network[1].raw.propose, b"x")

    def test_strangers_are_ignored(self) -> None:
        """Rule 35: an acknowledgement of somebody outside the configuration counts for nothing."""
        network = Network()
        network.elect(1)
        network.isolate(2, 3)
        network.propose(1, b"x")

        network[1].raw.step(Message(MessageType.APPEND_RESPONSE, 1, 9, 1, index=2))

        self.assertEqual(network[1].raw.raft.log.committed, 1)

    def test_uncommitted_bytes_are_bounded(self) -> None:
        """Rule 38: beyond the bound a proposal fails at once, and again succeeds once some are applied."""
        network = Network(max_uncommitted_size=100)
        network.elect(1)
        network.isolate(2, 3)
        network.propose(1, b"x" * 60)

        error = self.assertRaises(ProposalDropped, network[1].raw.propose, b"y" * 60)
        self.assertIn("60 bytes", str(error))
        network.heal()
        network.tick(2)
        network.propose(1, b"y" * 60)

        self.assertEqual([data[:1] for data in network[2].data], [b"x", b"y"])

    def test_one_large_proposal_passes(self) -> None:
        """Rule 38: with nothing uncommitted even one larger than the bound is taken, else it could never be."""
        network = Network(max_uncommitted_size=10)
        network.elect(1)

        network.propose(1, b"x" * 100)

        self.assertEqual(len(network[1].data), 1)

    def test_new_leader_counts_anew(self) -> None:
        """Rule 38: what a leader had in flight when it was deposed does not count when it leads again."""
        network = Network(max_uncommitted_size=10)
        network.elect(1)
        network.isolate(1)
        network.propose(1, b"x" * 8)
        network.tick(2 * ELECTION_TICKS)
        network.heal()
        network.tick(2)

        network[network.leaders()[0]].raw.transfer_leader(1)
        network.run()
        network.propose(1, b"y" * 8)

        self.assertEqual(network[1].data, [b"y" * 8])


class DivergenceTests(SynchronousTestCase):
    """RAFT_RULES 39: long divergent logs are reconciled by terms."""

    def probes(self, leader: list[int], follower: list[int]) -> int:
        """Return how many refusals it takes until the follower's log is the leader's."""
        network = Network.plain(logs={1: leader, 2: leader, 3: follower})
        network[1].raw.raft.become_follower(max(*leader, *follower), 0)
        network.elect(1)
        self.assertEqual(network[3].terms[: len(leader)], leader)
        return sum(m.reject for m in network.sent if m.type is MessageType.APPEND_RESPONSE)

    def test_follower_with_many_entries_of_an_old_term(self) -> None:
        """Rule 39: the leader skips in one step what the follower has of a term it does not know."""
        self.assertLessEqual(self.probes([1] + [5] * 3000, [1] + [2] * 3000), 2)

    def test_leader_with_many_entries_of_an_old_term(self) -> None:
        """Rule 39: the follower skips in one step what the leader can't have."""
        self.assertLessEqual(self.probes([1] + [2] * 3000 + [7], [1] + [4] * 2000), 2)

    def test_follower_that_is_only_short(self) -> None:
        """Rule 39: a follower without the entries is found at the end of its log."""
        self.assertLessEqual(self.probes([3] * 4000, [3] * 10), 1)

    def test_cut_off_leader_with_a_long_tail(self) -> None:
        """Rule 39: a leader that appended alone comes back within a few messages."""
        network = Network(max_size_per_message=1 << 30)
        network.elect(1)
        network.isolate(1)
        for n in range(3000):
            network[1].raw.propose(b"%d" % n)
        network.tick(3 * ELECTION_TICKS)
        network.propose(network.leaders()[-1], b"kept")
        network.sent.clear()

        network.heal()
        network.tick(2)

        self.assertIs(network[1].raw.raft.role, Role.FOLLOWER)
        self.assertEqual(network[1].data, [b"kept"])
        self.assertLess(sum(m.type is MessageType.APPEND for m in network.sent), 10)
