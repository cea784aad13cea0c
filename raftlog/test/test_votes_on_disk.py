"""Term and vote are durable before anything that depends on them leaves (RAFT_RULES 1), with the driver's own log."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import GroupMessage, Message, MessageType
from raftlog.state import TRANSFER
from raftlog.test.three import GROUP, Three


class VoteTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers with a leader."""
        self.three = Three()
        self.three.run(2)
        self.leader = self.three.leader()
        self.others = [name for name in "ABC" if name != self.leader]

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def sent(self, type_: MessageType, sender: str) -> list[Message]:
        """Return what a server sent of a kind."""
        items = [item for name, _, _, item in self.three.network.sent if name == sender]
        return [item.message for item in items if isinstance(item, GroupMessage) and item.message.type is type_]

    def ask(self, voter: str, candidate: str, term: int) -> Message:
        """Ask a server for its vote, as an election after a transfer does; return its answer."""
        ids = {name: replica_id for replica_id, name in self.three.peers.items()}
        request = Message(
            MessageType.VOTE, ids[voter], ids[candidate], term, index=1000, log_term=1000, context=TRANSFER
        )
        self.three.network.nodes[voter].receive([GroupMessage(GROUP, request)])
        self.three.run(0.02)
        return self.sent(MessageType.VOTE_RESPONSE, voter)[-1]

    def test_request_waits_for_the_disk(self) -> None:
        """A candidate asks nobody for a vote in a term that its disk does not have yet."""
        candidate = self.others[0]
        before = len(self.sent(MessageType.VOTE, candidate))
        self.three.wals[candidate].auto = False
        self.three.network.nodes[candidate].receive(
            [GroupMessage(GROUP, Message(MessageType.TIMEOUT_NOW, *self.transfer_to(candidate)))]
        )
        self.three.run(0.05)
        self.assertEqual(self.three.network.nodes[candidate].status(GROUP).role, "candidate")
        self.assertEqual(len(self.sent(MessageType.VOTE, candidate)), before)

        self.three.wals[candidate].sync()
        self.three.run(0.02)

        self.assertEqual(len(self.sent(MessageType.VOTE, candidate)), before + 2)

    def transfer_to(self, name: str) -> tuple[int, int, int]:
        """Return to, from and term of the leader's request to take over."""
        status = self.three.network.nodes[name].status(GROUP)
        return status.replica_id, status.leader_id, status.term

    def test_vote_survives_a_restart(self) -> None:
        """Who voted in a term votes for no other candidate in it, restarted or not."""
        voter, candidate = self.others
        term = self.three.network.nodes[voter].status(GROUP).term + 5

        granted = self.ask(voter, candidate, term)
        node = self.three.crash(voter)
        node.open_group(GROUP, dict(self.three.peers), self.three.machines[voter])
        other, again = self.ask(voter, self.leader, term), self.ask(voter, candidate, term)

        self.assertEqual([granted.reject, other.reject, again.reject], [False, True, False])
