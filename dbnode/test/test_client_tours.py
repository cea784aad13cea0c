"""Small reads of several groups whose position one tour finds out: what leaves when, where to, and what if it fails."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import ReadBatches, ReadChannel, ReadTours, Unavailable, tours
from dbnode.client.batches import BATCHED_MAX, HELD_SECONDS
from dbnode.client.tours import (
    LATE_SECONDS_MAX,
    LATE_SECONDS_MIN,
    LATE_TIMES,
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_MIN,
)
from dbnode.test.client_rig import SERVERS, ClientRig, FakeServer
from dbnode.wire import LINEARIZABLE, UNAVAILABLE, Answer, Question, Read, ReadPositions, Refused, Reply, Rows, Tour
from raftlog.testimony import NOWHERE, Position

GROUPS = (1, 2, 3)
LEADERS = dict(zip(GROUPS, SERVERS, strict=True))


def position(group_id: int) -> Position:
    """Return where a group is."""
    return Position(10 * group_id, 1)


class ReadToursTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect a client to three servers with a replica of three groups each, of which each leads one."""
        # A tour pays for whatever is in it, but where a test says otherwise.
        self.patch(tours, "SAVING_MIN", 0)
        self.rig = ClientRig()
        self.servers = list(self.rig.servers.values())
        self.channel = ReadChannel(self.rig.clock, self.rig.requests, Random(1))
        self.suspects: frozenset[str] = frozenset()
        self.chosen: Counter[int] = Counter()
        #: The read positions that servers find out, and whether they answer tours.
        self.leaders: dict[int, str] = dict(LEADERS)
        self.answers_tours = True
        for server in self.servers:
            server.answer = self.answer
        self.tours = self.new_tours()

    def new_tours(self, replicas: dict[int, tuple[str, ...]] | None = None) -> ReadTours:
        """Return the tours of groups that are on these servers, by default all on all."""
        self.replicas = replicas or dict.fromkeys(GROUPS, SERVERS)
        self.batches = {
            group_id: ReadBatches(
                self.rig.clock, self.channel, group_id, LINEARIZABLE, self.next_servers, self.next_servers
            )
            for group_id in self.replicas
        }
        names = {group_id: frozenset(servers) for group_id, servers in self.replicas.items()}
        return ReadTours(
            self.rig.clock, self.rig.requests, Random(2), names, self.batches, self.next_servers, lambda: self.suspects
        )

    def next_servers(self, group_id: int) -> tuple[str, ...]:
        """Return the servers of a group, beginning with another one each time."""
        servers = self.replicas[group_id]
        first = self.chosen[group_id] % len(servers)
        self.chosen[group_id] += 1
        return servers[first:] + servers[:first]

    def answer(self, item: Any) -> Reply | None:
        """Answer as servers do where nothing goes wrong: a tour that comes by the leader finds the position."""
        if isinstance(item, Tour):
            return self.found(item) if self.answers_tours else None
        assert isinstance(item, Read)
        return Rows(item.request_id, 1, b"%d" % item.low, None)

    def found(self, tour: Tour) -> Reply:
        """Return what a tour finds out."""
        entry = next(server.name for server in self.servers if tour in server.requests)
        visited = {entry, *tour.route}
        answers = [
            Answer(question.group_id, position(question.group_id) if leader in visited else NOWHERE, leader)
            for question in tour.questions
            for leader in [self.leaders[question.group_id]]
        ]
        return ReadPositions(tour.request_id, tuple(answers))

    def read(self, *ids: int, group_id: int = 1, timeout_seconds: float = 10) -> list[Deferred[Rows]]:
        """Read single rows."""
        batches = self.batches[group_id]
        reads = [batches.attempts(id_, id_, timeout_seconds=timeout_seconds, as_lines=False) for id_ in ids]
        for read in reads:
            self.tours.take(read)
        return [read.rows for read in reads]

    def learn(self) -> None:
        """Let a first tour find out who leads which group."""
        reads = [read for group_id in self.replicas for read in self.read(0, group_id=group_id)]
        self.rig.run(0.02)
        for read in reads:
            self.successResultOf(read)
        for server in self.servers:
            server.requests.clear()

    def asked_tours(self) -> list[tuple[str, Tour]]:
        """Return the tours that left, and where they entered, in order of their numbers."""
        tours = [(server.name, item) for server in self.servers for item in server.requests if isinstance(item, Tour)]
        return sorted(tours, key=lambda asked: asked[1].request_id)

    def asked_reads(self) -> list[tuple[str, int, int, int]]:
        """Return the reads that were sent: server, group, id and the index that must be applied."""
        return [
            (server.name, item.group_id, item.low, item.position.index)
            for server in self.servers
            for item in server.requests
            if isinstance(item, Read)
        ]

    def way_of(self, reads: list[Deferred[Rows]]) -> set[str]:
        """Let reads be answered; return the servers that their tour visited."""
        self.rig.run(0.02)
        for read in reads:
            self.successResultOf(read)
        entry, tour = self.asked_tours()[-1]
        return {entry, *tour.route}

    def let_tours_return(self) -> None:
        """Answer the tours that were left unanswered, and those to come."""
        self.answers_tours = True
        for name, tour in self.asked_tours():
            self.server(name).reply(self.found(tour))
        self.rig.settle()

    def server(self, name: str) -> FakeServer:
        """Return a server."""
        return self.rig.servers[name]

    def check(self, reads: list[Deferred[Rows]], *ids: int) -> None:
        """Check that reads were answered with these rows."""
        self.assertEqual([self.successResultOf(read).data for read in reads], [b"%d" % id_ for id_ in ids])

    # ---- as it should be ----------------------------------------------------------------------------------------

    def test_one_tour_for_all_groups(self) -> None:
        """What comes in one turn leaves in one tour by all leaders; its reads go to one server."""
        self.learn()

        reads = [*self.read(5, 6, group_id=1), *self.read(7, group_id=2), *self.read(8, group_id=3)]
        self.assertEqual(self.asked_tours(), [])
        self.rig.settle()

        [(entry, tour)] = self.asked_tours()
        self.assertEqual({entry, *tour.route}, set(SERVERS))
        self.assertEqual(tour.questions, (Question(1), Question(2), Question(3)))
        self.assertEqual(tour.entry, "")
        asked = self.asked_reads()
        self.assertEqual(len({server for server, *_ in asked}), 1)
        self.assertEqual(sorted(rest for _, *rest in asked), [[1, 5, 10], [1, 6, 10], [2, 7, 20], [3, 8, 30]])
        self.check(reads, 5, 6, 7, 8)
        self.assertEqual(self.rig.requests.__len__(), 0)

    def test_as_few_servers_as_possible(self) -> None:
        """A tour for one group visits its leader and as many others as make a majority, not all."""
        self.learn()

        self.read(5, group_id=3)
        self.rig.settle()

        [(entry, tour)] = self.asked_tours()
        self.assertEqual(len(tour.route), 1)
        self.assertIn("C", (entry, *tour.route))

    def test_all_take_part(self) -> None:
        """Where a majority can be made of any others than the leader, all of them are visited sooner or later."""
        self.leaders = dict.fromkeys(GROUPS, "A")
        self.learn()

        visited: Counter[str] = Counter()
        for id_ in range(100):
            visited.update(self.way_of(self.read(id_)))

        self.assertEqual(visited["A"], 100)
        self.assertGreater(min(visited["B"], visited["C"]), 20)

    def test_entries_take_turns(self) -> None:
        """Tours begin at all servers and go from each to each, and the reads after them go to all."""
        self.learn()

        for id_ in range(30):
            reads = [read for group_id in GROUPS for read in self.read(id_, group_id=group_id)]
            self.rig.settle()
            self.check(reads, id_, id_, id_)

        ways = [(entry, *tour.route) for entry, tour in self.asked_tours()]
        self.assertEqual({way[:2] for way in ways}, set(permutations(SERVERS, 2)))
        self.assertEqual({server for server, *_ in self.asked_reads()}, set(SERVERS))

    def test_what_comes_meanwhile_waits(self) -> None:
        """A read that comes when a tour has left can't rely on it: it leaves with the next one."""
        self.learn()
        self.answers_tours = False
        first = self.read(1, 2, 3)
        self.rig.settle()

        second = self.read(4, 5)
        self.rig.settle()
        self.assertEqual(len(self.asked_tours()), 1)
        self.let_tours_return()

        self.assertEqual(len(self.asked_tours()), 2)
        self.check(first, 1, 2, 3)
        self.check(second, 4, 5)

    def test_what_comes_before_the_answers_waits(self) -> None:
        """The next tour waits for the reads of the one before, too, but no longer than a moment."""
        self.learn()
        self.ignore_reads()
        first = self.read(1, 2, 3)
        self.rig.settle()
        second = self.read(4, 5)
        self.rig.settle()
        self.assertEqual((len(self.asked_tours()), len(self.asked_reads())), (1, 3))

        self.answer_reads()
        self.check(first, 1, 2, 3)
        self.check(second, 4, 5)

        self.ignore_reads()
        self.read(6, 7)
        self.rig.settle()
        self.read(8)
        self.rig.run(HELD_SECONDS - 0.002)
        self.assertEqual(len(self.asked_tours()), 3)
        self.rig.run(0.006)
        self.assertEqual(len(self.asked_tours()), 4)

    def test_second_tour(self) -> None:
        """With as many reads as the first one took a second tour leaves beside it, but never a third."""
        self.learn()
        self.answers_tours = False
        self.read(1, 2)
        self.rig.settle()
        self.read(3)
        self.rig.settle()
        self.assertEqual(len(self.asked_tours()), 1)

        self.read(4)
        self.rig.settle()
        self.assertEqual(len(self.asked_tours()), 2)

        self.read(*range(5, 50))
        self.rig.settle()
        self.assertEqual(len(self.asked_tours()), 2)

    def test_slow_server(self) -> None:
        """While a server owes an answer reads go to others, by a tour or not, and come back to it afterwards."""
        self.learn()
        slow = self.server("B")
        slow.answer = lambda item: self.answer(item) if isinstance(item, Tour) else None
        waiting = []
        while not (owed := [item for item in slow.requests if isinstance(item, Read)]):
            waiting += self.read(0)
            self.rig.settle()

        for minimum in (0, 2):
            self.patch(tours, "SAVING_MIN", minimum)
            for id_ in range(10):
                self.rig.run(HELD_SECONDS)
                self.check_soon(self.read(id_), id_)
        self.assertEqual([item for item in slow.requests if isinstance(item, Read)], owed)

        self.answer_reads()
        self.check(waiting, *[0] * len(waiting))
        before = len(slow.requests)
        for id_ in range(10):
            self.check_soon(self.read(id_), id_)
        self.assertGreater(len(slow.requests), before)

    def test_crowd_is_spread(self) -> None:
        """Not more than so many reads go to one server after one tour."""
        self.learn()

        reads = self.read(*range(2 * BATCHED_MAX))
        self.rig.settle()

        self.check(reads, *range(2 * BATCHED_MAX))
        loads = [sum(server == name for server, *_ in self.asked_reads()) for name in SERVERS]
        self.assertEqual(sorted(loads), [0, BATCHED_MAX, BATCHED_MAX])

    def test_no_server_has_all_groups(self) -> None:
        """Reads go to a second server only for groups that the first one does not have."""
        self.tours = self.new_tours({1: ("A", "B"), 2: ("A", "B"), 3: ("B", "C")})
        self.leaders = {1: "A", 2: "B", 3: "C"}
        self.learn()

        reads = [*self.read(1, 1, 1, group_id=1), *self.read(2, 2, group_id=2), *self.read(3, group_id=3)]
        self.rig.settle()

        self.check(reads, 1, 1, 1, 2, 2, 3)
        served = {group_id: server for server, group_id, *_ in self.asked_reads()}
        self.assertEqual(served[1], served[2])
        self.assertIn(served[3], ("B", "C"))

    # ---- who leads ----------------------------------------------------------------------------------------------

    def test_nobody_knows_who_leads(self) -> None:
        """The first reads of a group find out who leads, and go by themselves if the tour has missed it."""
        self.leaders = dict.fromkeys(GROUPS, "C")

        reads = self.read(5)
        self.rig.run(0.02)

        self.check(reads, 5)
        [(entry, tour)] = self.asked_tours()
        self.assertNotIn("C", (entry, *tour.route))
        self.assertEqual([index for *_, index in self.asked_reads()], [0])
        more = self.read(6)
        self.rig.settle()
        self.check(more, 6)
        self.assertEqual([index for *_, index in self.asked_reads() if index], [10])

    def test_another_one_leads(self) -> None:
        """A tour that finds another leader sends its reads by themselves, and the next one goes there."""
        self.learn()
        way = self.way_of(self.read(0))
        [self.leaders[1]] = set(SERVERS) - way

        self.assertEqual(self.way_of(self.read(1)), way)
        self.assertIn(self.leaders[1], self.way_of(self.read(2)))

        self.assertEqual({id_: index for _, _, id_, index in self.asked_reads()}, {0: 10, 1: 0, 2: 10})

    # ---- what may go wrong --------------------------------------------------------------------------------------

    def test_late_tour(self) -> None:
        """Reads wait for a tour only so long; then they go by themselves, and so do all others for a while."""
        self.learn()
        self.answers_tours = False
        first = self.read(1)
        self.rig.settle()
        second = self.read(2, group_id=2)
        second += self.read(3, group_id=2)
        self.rig.run(LATE_SECONDS_MIN / 2)
        for read in (*first, *second):
            self.assertNoResult(read)

        self.rig.run(LATE_SECONDS_MIN / 2 + 0.02)
        self.check(first, 1)
        self.check(second, 2, 3)
        third = self.read(4)
        self.rig.run(0.02)
        self.check(third, 4)
        self.assertEqual({index for *_, index in self.asked_reads()}, {0})

    def test_pause_is_twice_as_long_each_time(self) -> None:
        """While tours are late, one leaves now and then; once one comes back in time, all do."""
        self.learn()
        self.answers_tours = False
        left = []
        for _ in range(2000):
            before = len(self.asked_tours())
            self.read(1)
            self.rig.run(0.02)
            if len(self.asked_tours()) > before:
                left.append(self.rig.clock.seconds())
        # Two leave each time, the second one beside the first.
        gaps = [later - earlier for earlier, later in pairwise(left) if later - earlier > LATE_SECONDS_MIN]
        pauses = [gap - LATE_SECONDS_MIN for gap in gaps]

        expected = PAUSE_SECONDS_MIN
        for pause in pauses:
            self.assertLess(abs(pause - expected), 0.05)
            expected = min(2 * expected, PAUSE_SECONDS_MAX)
        self.assertEqual(expected, PAUSE_SECONDS_MAX)

        self.answers_tours = True
        self.rig.run(PAUSE_SECONDS_MAX)
        before = len(self.asked_tours())
        for id_ in range(5):
            self.check_soon(self.read(id_), id_)
        self.assertEqual(len(self.asked_tours()), before + 5)

    def check_soon(self, reads: list[Deferred[Rows]], *ids: int) -> None:
        """Check that reads are answered without any time passing."""
        self.rig.settle()
        self.check(reads, *ids)

    def test_answer_that_comes_too_late(self) -> None:
        """What a late tour finds out is of no use any more: its reads were sent already, and are sent once."""
        self.learn()
        self.answers_tours = False
        reads = self.read(1)
        self.rig.run(LATE_SECONDS_MIN + 0.02)
        self.check(reads, 1)

        self.let_tours_return()

        self.assertEqual(len(self.asked_reads()), 1)

    def test_patience_follows_how_long_tours_take(self) -> None:
        """Where tours take long they are waited for longer, up to a bound, and shorter again when they do not."""
        self.learn()
        taking_seconds = LATE_SECONDS_MIN * 0.8
        self.answers_tours = False
        self.read(1)
        self.rig.run(taking_seconds)
        self.let_tours_return()
        self.answers_tours = False

        reads = self.read(2)
        self.rig.run(min(LATE_TIMES * taking_seconds, LATE_SECONDS_MAX) - 0.01)
        self.assertNoResult(reads[0])
        self.rig.run(0.03)
        self.check(reads, 2)

        self.rig.run(PAUSE_SECONDS_MIN)
        self.answers_tours = True
        for id_ in range(40):
            self.check_soon(self.read(id_), id_)
        self.answers_tours = False
        reads = self.read(3)
        self.rig.run(LATE_SECONDS_MIN + 0.02)
        self.check(reads, 3)

    def test_entry_is_not_connected(self) -> None:
        """Reads whose tour can't be sent go by themselves at once, and the next ones try another server."""
        self.learn()
        self.rig.links.remove_peer("A")
        self.rig.settle()

        for id_ in range(4):
            reads = self.read(id_, group_id=2)
            self.rig.run(0.02)
            self.check(reads, id_)

        self.assertGreater(len(self.asked_tours()), 0)

    def test_entry_dies(self) -> None:
        """Reads go by themselves as soon as the connection drops that took their tour."""
        self.learn()
        self.answers_tours = False
        reads = self.read(1)
        self.rig.settle()
        [(entry, _)] = self.asked_tours()

        self.rig.links.remove_peer(entry)
        self.rig.run(0.02)

        self.check(reads, 1)

    def test_refusal(self) -> None:
        """Reads of a tour that is refused go by themselves."""
        self.learn()
        self.answers_tours = False
        reads = self.read(1)
        self.rig.settle()
        [(entry, tour)] = self.asked_tours()

        self.server(entry).reply(Refused(tour.request_id, UNAVAILABLE, "no"))
        self.rig.run(0.02)

        self.check(reads, 1)

    def test_answer_of_another_length(self) -> None:
        """Reads of a tour that did not answer all its questions go by themselves."""
        self.learn()
        self.answers_tours = False
        reads = self.read(1)
        self.rig.settle()
        [(entry, tour)] = self.asked_tours()

        self.server(entry).reply(ReadPositions(tour.request_id, ()))
        self.rig.run(0.02)

        self.check(reads, 1)

    def test_suspects_are_not_visited(self) -> None:
        """A tour makes its majority without those that left others without an answer."""
        self.learn()
        self.suspects = frozenset("B")

        for id_ in range(4):
            self.check_soon(self.read(id_), id_)

        for entry, tour in self.asked_tours():
            self.assertEqual({entry, *tour.route}, {"A", "C"})

    def test_leader_is_a_suspect(self) -> None:
        """A group whose leader may not be visited goes by itself at once; the others share a tour."""
        self.learn()
        self.suspects = frozenset("B")

        reads = [read for group_id in GROUPS for read in self.read(group_id, group_id=group_id)]
        self.check_soon(reads, *GROUPS)

        [(_, tour)] = self.asked_tours()
        self.assertEqual([question.group_id for question in tour.questions], [1, 3])
        self.assertEqual({group_id: index for _, group_id, _, index in self.asked_reads()}, {1: 10, 2: 0, 3: 30})

    def test_all_are_suspects(self) -> None:
        """Where nobody may be visited reads go by themselves."""
        self.suspects = frozenset(SERVERS)

        reads = self.read(1)
        self.rig.run(0.02)

        self.check(reads, 1)
        self.assertEqual(self.asked_tours(), [])

    def test_deadline(self) -> None:
        """What a read waits for its tour counts; a read whose time is over fails and asks nobody."""
        self.learn()
        self.answers_tours = False
        reads = self.read(1, timeout_seconds=LATE_SECONDS_MIN / 2)
        self.rig.run(LATE_SECONDS_MIN + 0.02)

        self.failureResultOf(reads[0], Unavailable)
        self.assertEqual(self.asked_reads(), [])

    def test_cancelled_read(self) -> None:
        """A read that nobody waits for any more asks nobody; the others of its tour are answered."""
        self.learn()
        self.answers_tours = False
        cancelled, other = self.read(1, 2)
        self.rig.settle()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)

        self.let_tours_return()

        self.check([other], 2)
        self.assertEqual([id_ for _, _, id_, _ in self.asked_reads()], [2])

    def test_stop(self) -> None:
        """What waits when the tours end, and what still comes, goes by itself; nothing is left to happen later."""
        self.learn()
        self.answers_tours = False
        away = self.read(1)
        self.rig.settle()
        waiting = self.read(2, group_id=2)

        self.tours.stop()
        after = self.read(3, group_id=3)
        self.rig.run(0.02)

        self.check([*away, *waiting, *after], 1, 2, 3)
        self.let_tours_return()
        self.assertEqual({index for *_, index in self.asked_reads()}, {0})
        self.rig.run(1.1)
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])

    # ---- where a tour does not pay ------------------------------------------------------------------------------

    def test_lone_read(self) -> None:
        """Where a tour takes too many messages for what is in it the replica that is asked finds out by itself."""
        self.learn()
        self.patch(tours, "SAVING_MIN", 2)

        self.check_soon(self.read(1), 1)
        self.assertEqual(self.asked_tours(), [])
        self.assertEqual([index for *_, index in self.asked_reads()], [0])

        reads = [read for group_id in GROUPS for read in self.read(2, group_id=group_id)]
        self.check_soon(reads, 2, 2, 2)
        self.assertEqual(len(self.asked_tours()), 1)

    def test_what_comes_during_lone_reads_gathers(self) -> None:
        """While two are on their way others wait and share a tour; without them each would go by itself, for ever."""
        self.learn()
        self.patch(tours, "SAVING_MIN", 2)
        self.ignore_reads()
        alone = []
        for id_ in (1, 2):
            alone += self.read(id_)
            self.rig.settle()
        reads = [read for group_id in GROUPS for read in self.read(3, group_id=group_id)]
        self.rig.settle()
        self.assertEqual((len(self.asked_reads()), self.asked_tours()), (2, []))

        self.answer_reads()

        self.check(alone, 1, 2)
        self.check(reads, 3, 3, 3)
        self.assertEqual(len(self.asked_tours()), 1)

    def test_lone_reads_without_an_answer(self) -> None:
        """Nobody waits for them longer than a moment, and no pause follows."""
        self.learn()
        self.patch(tours, "SAVING_MIN", 2)
        self.ignore_reads()
        alone = []
        for id_ in (1, 2):
            alone += self.read(id_)
            self.rig.settle()
        reads = [read for group_id in GROUPS for read in self.read(3, group_id=group_id)]
        self.assertEqual(self.asked_tours(), [])

        self.rig.run(HELD_SECONDS + 0.004)
        self.assertEqual(len(self.asked_tours()), 1)
        self.answer_reads()

        self.check([*alone, *reads], 1, 2, 3, 3, 3)

    def ignore_reads(self) -> None:
        """Answer no reads, but tours."""
        for server in self.servers:
            server.answer = lambda item: self.answer(item) if isinstance(item, Tour) else None

    def answer_reads(self) -> None:
        """Answer the reads that were left unanswered, and those to come."""
        for server in self.servers:
            server.answer = self.answer
            for item in list(server.requests):
                if isinstance(item, Read):
                    server.reply(Rows(item.request_id, 1, b"%d" % item.low, None))
        self.rig.settle()

    def test_pays(self) -> None:
        """A tour has to take at most half of the messages of the groups' own rounds: one for each of a majority."""
        self.patch(tours, "SAVING_MIN", 2)

        self.assertTrue(tours.tour_pays(7, [7] * 4))
        self.assertFalse(tours.tour_pays(7, [7] * 3))
        self.assertTrue(tours.tour_pays(3, [3] * 3))
        self.assertFalse(tours.tour_pays(1, [1] * 100))
