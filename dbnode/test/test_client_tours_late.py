"""Tours that are late, lost or refused, and servers that had better not be visited: no read waits long for them."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import CancelledError

from dbnode.client import Unavailable
from dbnode.client.tours import (
    LATE_SECONDS_MAX,
    LATE_SECONDS_MIN,
    LATE_TIMES,
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_MIN,
)
from dbnode.test.client_rig import SERVERS
from dbnode.test.tours_rig import GROUPS, ReadToursCase
from dbnode.wire import UNAVAILABLE, ReadPositions, Refused


class LateToursTests(ReadToursCase):
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
