"""The news of a commit travels with other messages, or with the next tick, and never keeps a reader waiting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfChange, ConfChangeType, GroupMessage, Message, MessageType
from raftlog.options import Times
from raftlog.test.three import GROUP, Three

LINE = b"line"


class NewsTests(SynchronousTestCase):
    times = Times()

    def setUp(self) -> None:
        """Three servers with a leader, and nothing under way."""
        self.three = Three(times=self.times)
        self.three.run(2)
        self.leader = self.three.leader()
        self.followers = [name for name in "ABC" if name != self.leader]

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def instant(self) -> None:
        """Let everything that can happen now happen, without a tick."""
        for _ in range(20):
            self.three.clock.advance(0)

    def write(self) -> None:
        """Have a line acknowledged, in an instant."""
        write = self.three.network.nodes[self.leader].propose(GROUP, LINE)
        self.instant()
        self.successResultOf(write)

    def appends(self) -> list[Message]:
        """Return the appends sent so far, and forget them."""
        sent, self.three.network.sent = self.three.network.sent, []
        messages = [item.message for _, _, _, item in sent if isinstance(item, GroupMessage)]
        return [message for message in messages if message.type is MessageType.APPEND]

    def test_next_append_brings_the_news(self) -> None:
        """Writes one after the other cost one append to each follower, and each applies all but the newest."""
        self.write()
        self.appends()

        for _ in range(5):
            self.write()

        self.assertEqual([len(message.entries) for message in self.appends()], [1] * 10)
        for name in self.followers:
            self.assertEqual(len(self.three.machines[name].lines), 5)

    def test_tick_brings_the_news(self) -> None:
        """Where nothing follows, the followers know within a tick."""
        self.write()

        self.three.run(0.03)

        self.assertEqual([len(self.three.machines[name].lines) for name in self.followers], [1, 1])

    def test_read_does_not_wait_for_a_tick(self) -> None:
        """A read at a follower that begins after a write has seen it at once."""
        for lines in range(1, 4):
            self.write()
            for name in self.followers:
                read = self.three.network.nodes[name].read_index(GROUP, 1)
                self.instant()

                self.successResultOf(read)
                self.assertEqual(len(self.three.machines[name].lines), lines)

    def test_follower_that_lost_entries_is_found(self) -> None:
        """What a follower did not get is sent again, as soon as its answers show that it is behind."""
        lost = self.followers[0]
        self.three.network.cut.add(lost)
        self.write()
        self.three.network.cut.clear()

        self.three.run(0.2)

        self.assertEqual(len(self.three.machines[lost].lines), 1)

    def test_news_of_a_leader_that_was_deposed_are_dropped(self) -> None:
        """After a change of leader everybody comes to the same lines."""
        self.write()
        self.three.network.cut.add(self.leader)
        self.three.run(1)
        new_leader = self.three.leader()
        write = self.three.network.nodes[new_leader].propose(GROUP, LINE)
        self.three.run(0.1)
        self.three.network.cut.clear()
        self.three.run(1)

        self.successResultOf(write)
        self.assertEqual([len(machine.lines) for machine in self.three.machines.values()], [2, 2, 2])


class GatheredNewsTests(NewsTests):
    """Where followers gather what they apply, the news of commits waits longer, and the rest is as before."""

    times = Times(gathering_ticks=4)

    def test_next_append_brings_the_news(self) -> None:
        """Writes one after the other cost one append to each follower."""
        for _ in range(5):
            self.write()

        self.assertEqual([len(message.entries) for message in self.appends()][-10:], [1] * 10)

    def test_tick_brings_the_news(self) -> None:
        """Where nothing follows for longer than followers gather, an append of its own does."""
        self.write()
        self.appends()

        self.three.run(0.2)

        self.assertEqual([len(message.entries) for message in self.appends()], [0, 0])
        self.assertEqual([len(self.three.machines[name].lines) for name in self.followers], [1, 1])

    def test_change_of_membership(self) -> None:
        """Who takes part is told at once."""
        self.three.run(0.2)
        self.appends()
        change = ConfChange(ConfChangeType.ADD_LEARNER, 4)

        proposal = self.three.network.nodes[self.leader].propose_conf_change(GROUP, change)
        self.instant()

        self.successResultOf(proposal)
        told = [message for message in self.appends() if not message.entries]
        self.assertEqual(len([message for message in told if message.to in (1, 2, 3)]), 2)
