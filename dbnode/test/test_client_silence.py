"""Leaders and replicas that leave a client without an answer: paused, cut off from it, or only slow."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import ReadChannel
from dbnode.client.proposals import RESENT_BYTES_MAX
from dbnode.client.reads import SECONDS_MIN
from dbnode.test.client_rig import GROUP, SERVERS, ClientRig, delete
from dbnode.wire import NOT_LEADER, UNAVAILABLE, Applied, Done, Propose, Read, Refused, Reply, Rows, Write


class SilentLeaderTests(SynchronousTestCase):
    """A, which led, takes batches and answers none; a session is open there."""

    def setUp(self) -> None:
        """Connect a client, and let its leader fall silent."""
        self.rig = ClientRig()
        self.session = self.rig.session()
        self.a, self.b, self.c = self.rig.servers.values()
        opened = self.session.submit(delete(0), 10)
        self.rig.settle()
        self.successResultOf(opened)
        self.a.ignore()
        for server in (self.b, self.c):
            server.refuse(NOT_LEADER, "A")

    def proposals_at(self, server: str) -> list[Propose]:
        """Return what was proposed to a server."""
        return [item for item in self.rig.servers[server].requests if isinstance(item, Propose)]

    def test_command_goes_to_the_new_leader_at_once(self) -> None:
        """An election timeout later the others are asked, and whom they name gets the same batch."""
        self.a.leader = None
        self.c.answer = self.c.accept
        outcome = self.session.submit(delete(1), 10)
        self.rig.run(0.5)
        self.assertNoResult(outcome)

        self.b.leader = ("C", 2)
        self.rig.run(0.15)

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(self.c.batches, [self.a.batches[-1]])
        self.assertEqual(self.session.leader, "C")

    def test_slow_leader_is_not_burdened(self) -> None:
        """A leader that says that it leads keeps its batch to itself, however long it takes for it."""
        for server in (self.a, self.b, self.c):
            server.leader = ("A", 1)
        outcome = self.session.submit(delete(1), 10)

        self.rig.run(1.5)

        self.assertEqual([len(self.proposals_at(name)) for name in SERVERS], [3, 0, 0])
        self.a.reply(self.a.accept(self.proposals_at("A")[-1]))
        self.rig.settle()
        self.assertEqual(self.successResultOf(outcome), Done())

    def test_quick_answers_cost_no_question(self) -> None:
        """As long as the leader answers nobody is asked who leads."""
        self.a.answer = self.a.accept
        for key in range(20):
            _ = self.session.submit(delete(key), 10)
            self.rig.run(0.05)

        self.assertEqual([server.inquiries for server in self.rig.servers.values()], [0, 0, 0])

    def test_leader_that_only_others_reach_is_asked_through_them(self) -> None:
        """If others know a leader that does not answer even a question, they pass the batch on, and the next ones."""
        self.a.leader = None
        self.b.leader = self.c.leader = ("A", 1)
        self.b.answer = self.b.accept
        self.c.answer = self.c.accept

        first = self.session.submit(delete(1), 10)
        self.rig.run(0.9)
        second = self.session.submit(delete(2), 10)
        self.rig.settle()

        passed_on = [*self.proposals_at("B"), *self.proposals_at("C")]
        self.assertEqual([item.relay for item in passed_on], ["A", "A"])
        self.assertEqual([self.successResultOf(outcome) for outcome in (first, second)], [Done(), Done()])
        self.assertEqual(self.session.leader, "A")

    def test_leader_without_connection_is_asked_through_others(self) -> None:
        """A leader that is not connected here, but leads for others, costs no time."""
        self.rig.network.cut("balancer", "A")

        def answer(item: Propose) -> Reply:
            if item.relay == "A":
                return self.b.accept(item)
            return Refused(item.request_id, NOT_LEADER, "A leads", "A")

        self.b.answer = answer
        outcomes = [self.session.submit(delete(1), 10)]
        self.rig.settle()
        outcomes.append(self.session.submit(delete(2), 10))
        self.rig.settle()

        self.assertEqual([self.successResultOf(outcome) for outcome in outcomes], [Done(), Done()])
        self.assertEqual([item.relay for item in self.proposals_at("B")], ["", "A", "A"])

    def test_older_terms_are_not_believed(self) -> None:
        """Who still names a leader of an earlier term is not listened to."""
        self.a.leader = ("A", 3)
        outcome = self.session.submit(delete(1), 10)
        self.rig.run(0.5)

        self.b.leader = ("C", 2)
        self.rig.run(1)

        self.assertEqual(self.proposals_at("C"), [])
        self.assertNoResult(outcome)

    def test_late_answer_counts(self) -> None:
        """What the old leader did after all is done, and what the new one says later changes nothing."""
        self.b.leader = ("C", 2)
        self.c.ignore()
        outcome = self.session.submit(delete(1), 10)
        self.rig.run(0.6)
        asked = self.proposals_at("A")[-1], self.proposals_at("C")[-1]

        self.a.reply(Applied(asked[0].request_id, (Done(),)))
        self.rig.settle()
        self.assertEqual(self.successResultOf(outcome), Done())
        self.c.reply(Applied(asked[1].request_id, (Done(),)))
        self.rig.settle()

        self.assertEqual(asked[0].command, asked[1].command)
        self.assertEqual(self.session.waiting, 0)

    def test_late_answer_counts_between_attempts(self) -> None:
        """What turns out to be done while its command waits for the next attempt is not attempted again."""
        self.b.leader = ("C", 2)
        self.c.refuse(UNAVAILABLE)
        outcome = self.session.submit(delete(1), 10)
        while not self.proposals_at("C"):
            self.rig.run(0.002)

        self.a.reply(self.a.accept(self.proposals_at("A")[-1]))
        self.rig.run(0.5)

        self.assertEqual(self.successResultOf(outcome), Done())
        self.assertEqual(len(self.proposals_at("C")), 1)

    def test_long_command_follows_a_new_leader_only(self) -> None:
        """A long command keeps a leader from answering; it is sent again if another one leads, not around it."""
        self.a.leader = None
        self.b.leader = self.c.leader = ("A", 1)
        outcome = self.session.submit(Write(((1, "x" * RESENT_BYTES_MAX),)), 10)
        self.rig.run(1.5)
        around = len(self.proposals_at("B")) + len(self.proposals_at("C"))

        self.b.leader = self.c.leader = ("C", 2)
        self.c.answer = self.c.accept
        self.rig.run(0.5)

        self.assertEqual(around, 0)
        self.assertEqual(self.successResultOf(outcome), Done())


class SilentReplicaTests(SynchronousTestCase):
    """Reads that first ask A, which does not answer."""

    def setUp(self) -> None:
        """Connect a client."""
        self.rig = ClientRig()
        self.a, self.b, self.c = self.rig.servers.values()
        self.a.ignore()
        self.b.answer = self.c.answer = self.rows
        self.overdue: list[str] = []
        self.reads = ReadChannel(self.rig.clock, self.rig.requests, Random(1), self.overdue.append)

    def rows(self, item: Read) -> Reply:
        """Answer with nothing but who asks."""
        return Rows(item.request_id, 0, b"%d" % item.request_id, None)

    def test_first_answer_is_taken(self) -> None:
        """Another replica is asked as well after an election timeout; whoever answers first is heard, once."""
        first, second = (self.reads.read(GROUP, SERVERS, 1, 1, timeout_seconds=10) for _ in range(2))
        self.rig.run(0.25)
        self.b.ignore()
        self.rig.run(0.2)

        for item in self.a.requests + self.b.requests:
            server = self.a if item in self.a.requests else self.b
            server.reply(Rows(item.request_id, 0, b"%d" % item.request_id, None))
        self.rig.settle()

        self.assertEqual([self.successResultOf(read).data for read in (first, second)], [b"1", b"2"])
        self.assertEqual((self.overdue, len(self.b.requests)), (["A", "A"], 2))

    def test_refusal_lets_a_third_be_asked(self) -> None:
        """If the second replica can't say, the third is asked while the first is still waited for."""
        self.b.refuse(UNAVAILABLE)
        read = self.reads.read(GROUP, SERVERS, 1, 1, timeout_seconds=10)

        self.rig.run(0.6)

        self.successResultOf(read)
        self.assertEqual(len(self.c.requests), 1)

    def test_few_ask_twice_at_once(self) -> None:
        """When everybody is slow, few reads are asked twice."""
        self.b.ignore()
        self.c.ignore()
        for _ in range(50):
            _ = self.reads.read(GROUP, SERVERS, 1, 1, timeout_seconds=10).addErrback(lambda _: None)

        self.rig.run(1.5)

        self.assertEqual(len(self.a.requests), 50)
        self.assertEqual(len(self.b.requests) + len(self.c.requests), SECONDS_MIN)
