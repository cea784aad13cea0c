"""Tours through three servers over memory: what they find out, and what becomes of them when servers are missing."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import Unanswered
from dbnode.client.requests import SWEEP_SECONDS
from dbnode.serving import Serving
from dbnode.test.server_rig import NAMES, group_of_all, three_servers
from dbnode.test.test_server import Balancer, Replies
from dbnode.tours import RETURN_SECONDS_MAX
from dbnode.wire import (
    LINEARIZABLE,
    NO_REPLICA,
    STALE,
    UNAVAILABLE,
    Answer,
    Question,
    Read,
    ReadPositions,
    Refused,
    Request,
    Rows,
    Tour,
)
from raftlog.testimony import NOWHERE, Position


class ToursTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Configure three servers with two groups, store a row, and let everything settle."""
        self.rig = three_servers([group_of_all(), group_of_all(group_id=2, shard="sh2")])
        self.balancer = Balancer(self.rig)
        self.leader = self.rig.leader().disk.identity.name
        self.rig.leader(2)
        self.balancer.write(1)
        self.rig.run(1)
        self.others = [name for name in NAMES if name != self.leader]

    def tour(self, entry: str, *route: str, groups: tuple[int, ...] = (1,)) -> Any:
        """Send a tour and return its answer."""

        def build(request_id: int) -> Request:
            return Tour(request_id, route, tuple(map(Question, groups)))

        async def wait() -> Any:
            return await self.balancer.requests.ask(entry, build, 5)

        return self.rig.wait(wait())

    def answers(self, entry: str, *route: str, groups: tuple[int, ...] = (1,)) -> list[Answer]:
        """Return what a tour found out."""
        reply = self.tour(entry, *route, groups=groups)
        assert isinstance(reply, ReadPositions), reply
        return list(reply.answers)

    def commit(self, group_id: int = 1) -> Position:
        """Return the last committed entry of a group."""
        status = self.rig.leader(group_id).database.node.status(group_id)
        return Position(status.commit_index, status.term)

    def read(self, server: str, position: Position, consistency: int = LINEARIZABLE) -> Any:
        """Read everything of group 1 at a position; return the reply."""

        def build(request_id: int) -> Request:
            return Read(request_id, 1, 0, 100, 0, 1 << 20, consistency, 400, position=position)

        async def wait() -> Any:
            return await self.balancer.requests.ask(server, build, 5)

        return self.rig.wait(wait())

    def test_leader_and_one_more(self) -> None:
        """Two of three are enough, in whatever order, if the leader is among them."""
        expected = [Answer(1, self.commit(), self.leader)]

        self.assertEqual(self.answers(self.leader, self.others[0]), expected)
        self.assertEqual(self.answers(self.others[1], self.leader), expected)
        self.assertEqual(self.answers(self.others[0], self.others[1], self.leader), expected)

    def test_too_few(self) -> None:
        """The leader alone confirms nothing, and the others do not know what is committed, but who leads."""
        for way in ([self.leader], self.others):
            self.assertEqual(self.answers(*way), [Answer(1, NOWHERE, self.leader)])

    def test_several_groups(self) -> None:
        """Each group is answered for itself, in the order of the questions; one that nobody has is not found."""
        second = self.rig.leader(2).disk.identity.name

        found = self.answers(*NAMES, groups=(2, 9, 1))

        self.assertEqual(
            found, [Answer(2, self.commit(2), second), Answer(9, NOWHERE, ""), Answer(1, self.commit(), self.leader)]
        )

    def test_server_that_is_gone_is_passed_over(self) -> None:
        """Behind the entry and further on the way; the rest finds out what it can."""
        gone = self.others[0]
        self.rig.servers[gone].kill()
        self.rig.run(0.1)

        self.assertEqual(self.answers(self.leader, gone, self.others[1]), [Answer(1, self.commit(), self.leader)])
        self.assertEqual(self.answers(self.others[1], self.leader, gone), [Answer(1, self.commit(), self.leader)])
        self.assertEqual(self.answers(self.leader, gone), [Answer(1, NOWHERE, self.leader)])

    def test_tour_that_gets_lost(self) -> None:
        """If a server dies that has the tour, the entry says so."""
        lost = self.others[0]
        self.rig.servers[lost].database.serving.receive = lambda path, items: []  # type: ignore[method-assign]
        waiting = self.balancer.requests.ask(
            self.leader, lambda request_id: Tour(request_id, (lost, self.others[1]), (Question(1),)), 5
        )
        self.rig.run(0.1)
        self.rig.servers[lost].kill()
        self.rig.run(0.1)

        reply = self.successResultOf(waiting)

        assert isinstance(reply, Refused)
        self.assertEqual(reply.code, UNAVAILABLE)

    def test_tour_that_does_not_come_back(self) -> None:
        """The entry waits for it only so long, and says so before it would be taken for dead itself."""
        lost = self.others[0]
        self.rig.servers[lost].database.serving.receive = lambda path, items: []  # type: ignore[method-assign]
        waiting = self.balancer.requests.ask(
            self.leader, lambda request_id: Tour(request_id, (lost,), (Question(1),)), 5
        )
        self.rig.run(RETURN_SECONDS_MAX - 0.01)
        self.assertNoResult(waiting)
        self.rig.run(2 * SWEEP_SECONDS)

        reply = self.successResultOf(waiting)

        assert isinstance(reply, Refused)
        self.assertEqual(reply.code, UNAVAILABLE)

    def test_sign_of_life(self) -> None:
        """A tour tells who sends it on that its process lives, and spares those two a greeting."""
        told: list[tuple[str, str, str]] = []
        for name, server in self.rig.servers.items():
            node = server.database.node
            self.patch(node, "heard_of", partial(lambda name, other: told.append((name, "heard of", other)), name))
            self.patch(node, "sent_to", partial(lambda name, other: told.append((name, "sent to", other)), name))

        self.answers("Server0", "Server1", "Server2")

        expected = [("Server0", "sent to", "Server1"), ("Server1", "heard of", "Server0")]
        expected += [("Server1", "sent to", "Server2"), ("Server2", "heard of", "Server1")]
        self.assertEqual(told, expected)

    def test_another_term(self) -> None:
        """After a change of office tours find the new leader, and its position in the new term."""
        before = self.commit()
        following = self.rig.servers[self.others[0]]
        node = self.rig.servers[self.leader].database.node
        node.transfer_leader(1, following.database.node.status(1).replica_id)
        self.rig.until(lambda: following.role() == "leader")
        self.rig.run(0.2)

        [found] = self.answers(*NAMES)

        self.assertEqual(found, Answer(1, self.commit_of(self.others[0]), self.others[0]))
        self.assertGreater(found.position.term, before.term)

    def test_read_at_a_position(self) -> None:
        """A replica answers as soon as it has applied that much, without asking anybody, and stale reads as well."""
        follower = self.others[0]
        for name in NAMES:
            if name != follower:
                self.rig.servers[name].kill()

        for consistency in (LINEARIZABLE, STALE):
            reply = self.read(follower, self.commit_of(follower), consistency)
            assert isinstance(reply, Rows)
            self.assertEqual(reply.count, 1)

    def commit_of(self, name: str) -> Position:
        """Return how far a server knows group 1 to be committed."""
        status = self.rig.servers[name].database.node.status(1)
        return Position(status.commit_index, status.term)

    def test_position_says_nothing_of_what_was_acknowledged_since(self) -> None:
        """A replica that was opened again and reads at an old position does not take itself for caught up."""
        follower = self.others[0]
        old = self.commit_of(follower)
        self.rig.servers[follower].kill()
        self.balancer.write(2)
        for name in NAMES:
            if name != follower:
                self.rig.servers[name].kill()
        self.rig.restart(follower)
        self.rig.run(0.2)

        self.assertIsInstance(self.read(follower, old), Rows)

        self.assertIsInstance(self.read(follower, NOWHERE, STALE), Refused)

    def test_answer_to_the_process_before(self) -> None:
        """A tour of a process that has ended since is not taken for one of the process that runs there now."""
        entry, other = self.others
        serving = self.rig.servers[other].database.serving
        held: list[tuple[Any, list[Any]]] = []
        receive = serving.receive

        def hold(path: Any, items: Any) -> list[Any]:
            held.append((path, list(items)))
            return []

        serving.receive = hold  # type: ignore[method-assign]
        waiting = self.balancer.requests.ask(
            entry, lambda request_id: Tour(request_id, (other, self.leader), (Question(1),)), 5
        )
        self.rig.run(0.1)
        [(path, items)] = [(path, items) for path, items in held if any(isinstance(item, Tour) for item in items)]
        self.rig.servers[entry].kill()
        self.rig.restart(entry)
        self.rig.run(0.1)
        self.failureResultOf(waiting, Unanswered)

        following = self.balancer.requests.ask(
            entry, lambda request_id: Tour(request_id, (other, self.leader), (Question(2),)), 5
        )
        self.rig.run(0.1)
        receive(path, items)
        self.rig.run(0.1)

        self.assertNoResult(following)

    def test_read_ahead(self) -> None:
        """A replica that does not come to a position in time refuses the read."""
        ahead = Position(self.commit().index + 1, self.commit().term)

        reply = self.read(self.others[0], ahead)

        assert isinstance(reply, Refused)
        self.assertEqual((reply.code, reply.maybe_applied), (UNAVAILABLE, False))

    def test_read_waits_for_its_position(self) -> None:
        """A read that comes before the entry it waits for is answered when that is applied, and has it."""
        follower = self.others[0]
        ahead = Position(self.commit().index + 1, self.commit().term)
        waiting = self.balancer.requests.ask(
            follower,
            lambda request_id: Read(request_id, 1, 0, 100, 0, 1 << 20, LINEARIZABLE, 400, position=ahead),
            5,
        )
        self.rig.run(0.1)
        self.assertNoResult(waiting)

        self.balancer.write(2)
        self.rig.run(0.005)

        reply = self.successResultOf(waiting)
        assert isinstance(reply, Rows)
        self.assertEqual(reply.count, 2)

    def test_read_of_no_replica(self) -> None:
        """Where there is no replica a position changes nothing."""
        found: list[Any] = []
        read = Read(1, 9, 0, 100, 0, 1 << 20, LINEARIZABLE, 400, position=Position(1, 1))

        self.rig.servers[self.leader].database.serving.receive(Replies(found), [read])

        [reply] = found
        self.assertEqual(reply.code, NO_REPLICA)

    def test_server_without_tours(self) -> None:
        """A Serving that was given none refuses them."""
        found: list[Any] = []
        database = self.rig.servers[self.leader].database
        serving = Serving(database.node, self.rig.clock)

        serving.receive(Replies(found), [Tour(7, (), (Question(1),))])

        [reply] = found
        self.assertEqual((reply.request_id, reply.code), (7, UNAVAILABLE))
