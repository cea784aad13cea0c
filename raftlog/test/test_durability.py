"""What must be durable before it is promised: RAFT_RULES 1 to 5."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import APPEND_THREAD, Entry, HardState, Message, MessageType
from raftlog.state import Role
from raftlog.test.one_replica import replica, written
from raftlog.testing.network import Network


def acknowledgements(message: Message) -> list[tuple[int, int]]:
    """Return addressee and index of the append responses that a storage append holds back."""
    return [(r.to, r.index) for r in message.responses if r.type is MessageType.APPEND_RESPONSE]


class VoteTests(SynchronousTestCase):
    """RAFT_RULES 1 and 5."""

    def test_vote_requests_come_with_the_term(self) -> None:
        """Rule 1: the Ready with a candidate's requests holds its term and vote, and says that they must be synced."""
        raw = replica(pre_vote=False)
        raw.campaign()

        ready = raw.ready()

        self.assertEqual(ready.hard_state, HardState(1, 1, 0))
        self.assertTrue(ready.must_sync)

    def test_own_vote_counts_once_durable(self) -> None:
        """Rule 1: a candidate alone in its group does not win before its own vote is on disk."""
        network = Network((1,), pre_vote=False)
        network[1].disk_is_slow = True

        network.campaign(1)
        self.assertIs(network[1].raw.raft.role, Role.CANDIDATE)
        network[1].write()

        self.assertIs(network[1].raw.raft.role, Role.LEADER)

    def test_vote_is_promised_after_the_write(self) -> None:
        """Rule 1: the answer to a candidate is among the responses of the write that holds the vote."""
        raw = replica()
        raw.step(Message(MessageType.VOTE, 1, 2, 1))

        ready = raw.ready()

        (append,) = ready.messages
        self.assertEqual((append.to, append.vote), (APPEND_THREAD, 2))
        self.assertEqual([m.type for m in append.responses], [MessageType.VOTE_RESPONSE])

    def test_vote_survives_a_crash(self) -> None:
        """Rule 5: after a restart another candidate of the same term is refused, the same one granted again."""
        network = Network.plain()
        network[3].raw.step(Message(MessageType.VOTE, 3, 1, 1))
        network.run()

        network[3].crash()
        for candidate in (2, 1):
            network[3].raw.step(Message(MessageType.VOTE, 3, candidate, 1))

        answers = [(m.to, m.reject) for m in written(network[3].raw).responses]
        self.assertEqual(answers, [(2, True), (1, False)])

    def test_unwritten_vote_was_never_told(self) -> None:
        """Rule 5: a vote that is lost in a crash has not left, so it may be given to another."""
        network = Network.plain()
        network[3].disk_is_slow = True
        network[3].raw.step(Message(MessageType.VOTE, 3, 1, 1))
        network.run()

        network[3].crash()

        self.assertEqual(network[3].raw.raft.vote, 0)
        self.assertEqual(network.sent, [])

    def test_term_stays_when_a_leader_is_found(self) -> None:
        """Rule 5: a vote is cleared by a higher term only, not by following a leader of the same term."""
        raw = replica()
        raw.step(Message(MessageType.VOTE, 1, 2, 1))

        raw.step(Message(MessageType.APPEND, 1, 3, 1))

        self.assertEqual((raw.raft.vote, raw.raft.leader_id), (2, 3))


class AcknowledgementTests(SynchronousTestCase):
    """RAFT_RULES 2 to 4."""

    def test_promises_wait_for_the_disk(self) -> None:
        """Rule 2: a follower's acknowledgement leaves with the write that covers it, not before."""
        network = Network()
        network.elect(1)
        network[2].disk_is_slow = network[3].disk_is_slow = True

        network.propose(1, b"x")
        self.assertEqual(network[1].data, [])
        network.send(network[2].write())
        network.run()

        self.assertEqual(network[1].data, [b"x"])

    def test_refusals_wait_for_the_disk(self) -> None:
        """Rule 2: a refusal promises a term, so it waits as well."""
        network = Network()
        network[2].disk_is_slow = True

        network[2].raw.step(Message(MessageType.APPEND, 2, 1, 4, 3, 9))
        network.run()
        self.assertEqual(network.sent, [])

        (refusal,) = network[2].write()
        self.assertTrue(refusal.reject)

    def test_leader_acknowledges_itself(self) -> None:
        """Rule 2: the leader's own disk counts like everybody's, and it sends before it has written."""
        network = Network()
        network.elect(1)
        network.isolate(3)
        network[1].disk_is_slow = True

        network.propose(1, b"x")
        self.assertEqual(network[2].terms, [1, 1])
        self.assertEqual(network[1].data, [])
        network[1].write()
        network.run()

        self.assertEqual(network[1].data, [b"x"])

    def test_no_shortcut_for_a_group_of_one(self) -> None:
        """Rule 2: alone in its group a leader commits only what it has written."""
        network = Network((1,))
        network.elect(1)
        network[1].disk_is_slow = True

        network.propose(1, b"x")
        self.assertEqual(network[1].raw.raft.log.committed, 1)
        network[1].write()
        network.run()

        self.assertEqual(network[1].data, [b"x"])

    def test_followers_commit_without_the_leaders_disk(self) -> None:
        """Two followers are a majority: an entry commits although the leader's own disk is stuck, not applied there."""
        network = Network()
        network.elect(1)
        network[1].disk_is_slow = True

        network.propose(1, b"x")

        self.assertEqual((network[2].data, network[1].data), ([b"x"], []))

    def test_late_confirmation_of_an_overwritten_entry(self) -> None:
        """Rule 3: confirming a write of an older term does not make a newer entry of the same index durable."""
        network = Network()
        follower = network[1]
        follower.disk_is_slow = True
        follower.raw.step(Message(MessageType.APPEND, 1, 2, 1, entries=(Entry(1, 1, b"old"),)))
        follower.handle_ready()
        late = follower.writes.pop()
        follower.raw.step(Message(MessageType.APPEND, 1, 3, 2, entries=(Entry(2, 1, b"new"),), commit=1))

        for response in late.responses:
            if response.to == 1:
                follower.raw.step(response)

        self.assertEqual([e.data for e in follower.raw.raft.log.unstable.entries], [b"new"])
        self.assertFalse(follower.raw.raft.log.has_next_committed(allow_unstable=False))

    def test_truncation_is_an_append(self) -> None:
        """Rule 4: overwritten entries are replaced by appending from their index, within the stream of writes."""
        network = Network.plain(logs={1: [1, 1, 1]})

        network[1].raw.step(Message(MessageType.APPEND, 1, 2, 2, 1, 1, entries=(Entry(2, 2),)))
        (append,) = [m for m in network[1].raw.ready().messages if m.to == APPEND_THREAD]
        network[1].log.store(append)

        self.assertEqual([(e.term, e.index) for e in append.entries], [(2, 2)])
        self.assertEqual(network[1].log.last_index(), 2)
        self.assertEqual(acknowledgements(append), [(2, 2)])
