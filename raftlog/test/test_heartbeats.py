"""Heartbeats go to whoever was not both sent something else and heard of meanwhile (Raft figure 2)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.log import CommitBeyondLog
from raftlog.messages import Message, MessageType
from raftlog.testing.network import Network

HEARTBEAT_TICKS = 3


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a group of five, whose first replica leads and has just heard of everybody."""
        self.network = Network((1, 2, 3, 4, 5), heartbeat_ticks=HEARTBEAT_TICKS)
        self.network.elect(1)
        self.network.tick(2 * HEARTBEAT_TICKS)
        self.network.sent.clear()

    def heartbeats(self) -> list[int]:
        """Return to whom heartbeats were sent so far, and forget all that was sent."""
        to = [message.to for message in self.network.sent if message.type is MessageType.HEARTBEAT]
        self.network.sent.clear()
        return to

    def test_idle(self) -> None:
        """Where nothing else happens everybody gets one in each interval."""
        self.network.tick(2 * HEARTBEAT_TICKS)

        self.assertEqual(self.heartbeats(), [2, 3, 4, 5] * 2)

    def test_appends_are_enough(self) -> None:
        """Followers that are sent entries and answer need none, and go on following."""
        for number in range(50):
            self.network.propose(1, b"%d" % number)
            self.network.tick()

        self.assertEqual(self.heartbeats(), [])
        self.assertEqual({member.raw.raft.leader_id for member in self.network.members.values()}, {1})

    def test_who_does_not_answer(self) -> None:
        """A follower from which nothing comes back gets all of them, so that it is found again."""
        self.network.isolate(5)
        for number in range(2 * HEARTBEAT_TICKS):
            self.network.propose(1, b"%d" % number)
            self.network.tick()

        self.assertEqual(self.heartbeats(), [5, 5])

        self.network.heal()
        self.network.tick(2 * HEARTBEAT_TICKS)
        self.assertEqual(self.network[5].data, self.network[1].data)

    def test_late_answers_are_no_messages(self) -> None:
        """A follower that was sent nothing for an interval gets a heartbeat, though an old answer of it just came."""
        late: list[Message] = []

        def is_held(message: Message) -> bool:
            if message.type is MessageType.APPEND_RESPONSE:
                late.append(message)
            return message.type is MessageType.APPEND_RESPONSE

        self.network.loses = is_held
        self.network.propose(1, b"line")
        self.network.heal()
        self.network.tick(HEARTBEAT_TICKS + 1)
        self.network.sent.clear()

        for message in late:
            self.network[1].raw.step(message)
        self.network.run()
        self.network.tick(HEARTBEAT_TICKS - 1)

        self.assertEqual(self.heartbeats(), [2, 3, 4, 5])

    def test_who_owes_an_answer(self) -> None:
        """A follower that was asked and did not say anything is asked again, though it takes entries."""
        self.network.loses = lambda message: message.type is MessageType.HEARTBEAT_RESPONSE and message.from_ == 5
        self.network.tick(HEARTBEAT_TICKS)
        self.network.heal()
        self.network.sent.clear()
        for number in range(2 * HEARTBEAT_TICKS):
            self.network.propose(1, b"%d" % number)
            self.network.tick()

        self.assertEqual(self.heartbeats(), [5])

    def test_silence_is_shorter_than_two_intervals(self) -> None:
        """Whenever the last append was, a heartbeat follows before two intervals have passed."""
        for _ in range(HEARTBEAT_TICKS):
            self.network.propose(1, b"last")
            self.network.sent.clear()
            self.network.tick(2 * HEARTBEAT_TICKS - 1)

            self.assertEqual(self.heartbeats()[:4], [2, 3, 4, 5])
            self.network.tick(HEARTBEAT_TICKS + 2)

    def test_lost_question_of_a_read(self) -> None:
        """A read whose questions got lost asks everybody with the next heartbeats, busy as they are."""

        def is_question(message: Message) -> bool:
            return message.type is MessageType.HEARTBEAT and message.context == b"r"

        self.network.loses = is_question
        self.network[1].raw.read_index(b"r")
        self.network.run()
        self.assertEqual(self.heartbeats(), [2, 3])
        self.network.heal()
        for number in range(HEARTBEAT_TICKS + 1):
            self.network.propose(1, b"%d" % number)
            self.network.tick()

        self.assertEqual(self.heartbeats(), [2, 3, 4, 5])
        self.assertEqual([state.context for state in self.network[1].read_states], [b"r"])

    def test_read_of_this_moment_asks_nobody_else(self) -> None:
        """A read that has not waited for a whole tick yet leaves those in touch alone."""
        for number in range(2 * HEARTBEAT_TICKS):
            self.network.propose(1, b"%d" % number)
            self.network[1].raw.read_index(b"r%d" % number)
            self.network.send(self.network[1].handle_ready())
            self.network[1].raw.tick()
            self.network.run()

        self.assertEqual(len(self.heartbeats()), 2 * 2 * HEARTBEAT_TICKS)


class LostLogTests(SynchronousTestCase):
    def test_found_while_entries_are_sent(self) -> None:
        """A follower that lost what it had acknowledged rejects all it is sent; a heartbeat tells (RAFT_RULES 10)."""
        network = Network(heartbeat_ticks=HEARTBEAT_TICKS)
        network.elect(1)
        network.propose(1, b"1", b"2")
        network.tick(HEARTBEAT_TICKS)
        network.join(3)

        def go_on() -> None:
            for number in range(2 * HEARTBEAT_TICKS):
                network[1].raw.propose(b"%d" % number)
                for _ in range(5):
                    network.step()
                for member in network.members.values():
                    member.raw.tick()

        self.assertRaises(CommitBeyondLog, go_on)
