"""Small reads of several groups whose position one tour finds out: what leaves when, and where to."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

from twisted.internet.defer import Deferred

from dbnode.client import tours
from dbnode.client.batches import BATCHED_MAX, HELD_SECONDS
from dbnode.test.client_rig import SERVERS
from dbnode.test.tours_rig import GROUPS, ReadToursCase
from dbnode.wire import Question, Read, Rows, Tour


class ReadToursTests(ReadToursCase):
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
        self.assertEqual(len(self.rig.requests), 0)

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
            reads = self.read_everywhere(id_)
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

    # ---- where a tour does not pay ------------------------------------------------------------------------------

    def test_lone_read(self) -> None:
        """Where a tour takes too many messages for what is in it the replica that is asked finds out by itself."""
        self.learn()
        self.patch(tours, "SAVING_MIN", 2)

        self.check_soon(self.read(1), 1)
        self.assertEqual(self.asked_tours(), [])
        self.assertEqual([index for *_, index in self.asked_reads()], [0])

        reads = self.read_everywhere(2)
        self.check_soon(reads, 2, 2, 2)
        self.assertEqual(len(self.asked_tours()), 1)

    def test_what_comes_during_lone_reads_gathers(self) -> None:
        """While two are on their way others wait and share a tour; without them each would go by itself, for ever."""
        alone = self.two_lone_reads()
        reads = self.read_everywhere(3)
        self.rig.settle()
        self.assertEqual((len(self.asked_reads()), self.asked_tours()), (2, []))

        self.answer_reads()

        self.check(alone, 1, 2)
        self.check(reads, 3, 3, 3)
        self.assertEqual(len(self.asked_tours()), 1)

    def test_lone_reads_without_an_answer(self) -> None:
        """Nobody waits for them longer than a moment, and no pause follows."""
        alone = self.two_lone_reads()
        reads = self.read_everywhere(3)
        self.assertEqual(self.asked_tours(), [])

        self.rig.run(HELD_SECONDS + 0.004)
        self.assertEqual(len(self.asked_tours()), 1)
        self.answer_reads()

        self.check([*alone, *reads], 1, 2, 3, 3, 3)

    def test_pays(self) -> None:
        """A tour has to take at most half of the messages of the groups' own rounds: one for each of a majority."""
        self.patch(tours, "SAVING_MIN", 2)

        self.assertTrue(tours.tour_pays(7, [7] * 4))
        self.assertFalse(tours.tour_pays(7, [7] * 3))
        self.assertTrue(tours.tour_pays(3, [3] * 3))
        self.assertFalse(tours.tour_pays(1, [1] * 100))

    def two_lone_reads(self) -> list[Deferred[Rows]]:
        """Let two reads be on their way, by themselves and unanswered."""
        self.learn()
        self.patch(tours, "SAVING_MIN", 2)
        self.ignore_reads()
        alone = []
        for id_ in (1, 2):
            alone += self.read(id_)
            self.rig.settle()
        return alone
