"""The router: held and retried, bounded, spread, and what a change of the layout does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import chain
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import NotApplied, OutcomeUnknown, SessionOptions
from dbnode.client.batches import BATCHED_MAX
from dbnode.client.departures import FEW_CHANGES, HELD_SECONDS, RETURN_SECONDS
from dbnode.errors import ApiError
from dbnode.wire import LINEARIZABLE, STALE, Delete, NotFound, Propose, Read, Rows, Stored, Tour, Write
from lbnode.layout import Layout, ShardLayout
from lbnode.router import SMALL_READ_ROWS, Router, RouterOptions
from lbnode.test.shards import STUDENTS, MemoryDirectory, MemoryShards, layout, router_over
from raftlog.testimony import NOWHERE

SERVERS = {"Server0", "Server1", "Server2"}


class RouterCase(SynchronousTestCase):
    """A router over two shards of ten ids on three servers."""

    options = RouterOptions()

    def setUp(self) -> None:
        """Make the router, and tell it the layout."""
        self.clock = Clock()
        self.shards = MemoryShards(self.clock)
        self.router: Router = router_over(self.shards, self.options)
        self.layout = layout(10, 10)
        self.router.configure(self.layout)

    def write(self, key: int) -> Deferred[Any]:
        """Begin to store one row."""
        route = self.router.routes().find_row(key)
        return self.router.change(route, Write(((key, "x", 1),)))

    def read(self, key: int, consistency: int = LINEARIZABLE) -> Deferred[Rows]:
        """Begin to read one row."""
        route = self.router.routes().find_row(key)
        return self.router.read(route, key, key, 0, consistency)

    def begin_reads(self, count: int) -> list[Deferred[Rows]]:
        """Begin so many reads of one shard, each after the one before was answered."""
        pages = []
        for _ in range(count):
            pages.append(self.read(7))
            self.clock.advance(0)
        return pages

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps."""
        self.clock.pump([0.01] * int(seconds * 100))

    def asked(self, kind: type[Propose] | type[Read]) -> list[str]:
        """Return whom requests of a kind were sent to."""
        return [server for server, request in self.shards.asked if isinstance(request, kind)]


class Reads(RouterCase):
    def test_spread_over_all_replicas(self) -> None:
        """Reads of one shard go to its three replicas, to none of them more than 40 %."""
        self.begin_reads(300)

        counts = Counter(self.asked(Read))

        self.assertEqual(counts.keys(), SERVERS)
        self.assertLess(max(counts.values()), 120)

    def test_small_reads_travel_together(self) -> None:
        """What comes in one turn for a shard asks one replica; a crowd is spread all the same."""
        few = [self.read(7) for _ in range(5)]
        self.clock.advance(0)
        self.assertEqual(len(set(self.asked(Read))), 1)

        many = [self.read(7) for _ in range(10 * BATCHED_MAX)]
        self.pass_time(0.02)
        self.assertEqual(set(self.asked(Read)), SERVERS)
        for page in (*few, *many):
            self.successResultOf(page)

    def test_large_reads_keep_nobody_waiting(self) -> None:
        """A read of many rows is sent by itself, unless its limit makes it a small one."""
        route = self.router.routes().find_row(7)
        large = [self.router.read(route, 0, SMALL_READ_ROWS, limit, LINEARIZABLE) for limit in (0, SMALL_READ_ROWS + 1)]
        self.assertEqual(len(self.asked(Read)), 2)

        small = self.router.read(route, 0, SMALL_READ_ROWS, SMALL_READ_ROWS, LINEARIZABLE)
        self.assertEqual(len(self.asked(Read)), 2)
        self.clock.advance(0)
        self.assertEqual(len(self.asked(Read)), 3)
        self.pass_time(0.02)

        for page in (*large, small):
            self.successResultOf(page)

    def test_stale_reads_do_not_wait_for_others(self) -> None:
        """Where nothing can be confirmed what needs no confirmation is answered all the same."""
        self.shards.silent = set(SERVERS)
        waiting = self.read(7)
        self.clock.advance(0)
        self.shards.silent = set()

        stale = self.read(7, STALE)
        self.clock.advance(0)

        self.assertNoResult(waiting)
        self.successResultOf(stale)

    def test_replica_that_is_gone(self) -> None:
        """A read moves on to the next server of the ring at once."""
        self.shards.gone = {"Server0", "Server1"}

        pages = self.begin_reads(10)
        self.pass_time(0.02)

        for page in pages:
            self.assertEqual(self.successResultOf(page).count, 0)

    def test_replicas_that_moved(self) -> None:
        """A read that waits goes where the replicas are by a newer layout; of a shard that is gone nobody waits."""
        self.shards.gone = set(SERVERS)
        pages = [self.read(7), self.read(17)]
        self.pass_time(0.5)

        moved = layout(10, 10, servers=("Server3", "Server4", "Server5"))
        self.router.configure(dataclasses.replace(moved, shards=moved.shards[:1]))
        self.pass_time(0.1)

        self.assertEqual(self.successResultOf(pages[0]).count, 0)
        self.assertEqual(self.failureResultOf(pages[1], ApiError).value.code, "no_quorum")

    def test_replica_that_is_silent_costs_one_attempt(self) -> None:
        """After one read waited for a silent server in vain, the next ones ask it last, until it may be well again."""
        self.shards.silent = {"Server1"}
        first = self.begin_reads(10)
        self.pass_time(2.1)
        self.shards.asked.clear()

        self.begin_reads(10)
        asked_meanwhile = set(self.asked(Read))
        self.pass_time(1.1)
        self.begin_reads(10)

        for page in first:
            self.successResultOf(page)
        self.assertEqual(asked_meanwhile, {"Server0", "Server2"})
        self.assertEqual(set(self.asked(Read)), SERVERS)

    def test_held_while_there_is_no_leader(self) -> None:
        """A read waits for a leader and is answered when there is one."""
        self.shards.leaderless = {1}
        page = self.read(7)
        self.pass_time(3)
        self.assertNoResult(page)

        self.shards.leaderless = set()
        self.pass_time(0.2)

        self.assertEqual(self.successResultOf(page).count, 0)

    def test_deadline(self) -> None:
        """A shard without a leader fails its reads at the deadline with 503; the other shard's go on."""
        self.shards.leaderless = {1}
        page, other = self.read(7), self.read(17)

        self.pass_time(10.5)

        error = self.failureResultOf(page, ApiError).value
        self.assertEqual((error.status, error.code, error.retry_after_seconds), (503, "no_quorum", 1))
        self.assertIn("sh1", error.text)
        self.successResultOf(other)
        self.assertEqual(self.router.reads_waiting, 0)

    def test_cancelled_read_is_not_waited_for(self) -> None:
        """A reader who goes away is not counted any more, and nothing is asked for him any more."""
        self.shards.gone = SERVERS
        page = self.read(7)

        page.cancel()
        self.pass_time(0.1)
        asked = len(self.shards.asked)
        self.pass_time(1)

        self.failureResultOf(page, CancelledError)
        self.assertEqual((self.router.reads_waiting, len(self.shards.asked)), (0, asked))


class Tours(RouterCase):
    """Six shards on three servers: more is to be gained by a tour than it costs."""

    def setUp(self) -> None:
        """Tell the router the layout, and let it find out who leads."""
        super().setUp()
        self.layout = layout(*[10] * 6)
        self.router.configure(self.layout)
        self.check_answered(*[self.read(key) for key in range(0, 60, 10)])
        self.shards.asked.clear()

    def tours(self) -> list[Tour]:
        """Return the tours that left."""
        return [request for _, request in self.shards.asked if isinstance(request, Tour)]

    def positions(self) -> set[bool]:
        """Return whether reads that were sent had a position."""
        return {request.position != NOWHERE for _, request in self.shards.asked if isinstance(request, Read)}

    def test_reads_of_all_shards_share_a_tour(self) -> None:
        """What comes in one turn for all shards takes one tour, and then asks one server."""
        self.check_answered(*[self.read(key) for key in range(60)])

        [tour] = self.tours()
        self.assertEqual(len(tour.questions), 6)
        self.assertEqual(len(set(self.asked(Read))), 1)
        self.assertEqual(self.positions(), {True})

    def test_spread_over_all_replicas(self) -> None:
        """One tour after the other, reads go to all servers, to none of them more than half."""
        for number in range(100):
            self.check_answered(*[self.read(key) for key in range(number % 10, 60, 10)])

        counts = Counter(self.asked(Read))

        self.assertEqual(counts.keys(), SERVERS)
        self.assertEqual(counts.total(), 600)
        self.assertLess(max(counts.values()), 300)

    def test_stale_reads_take_none(self) -> None:
        """What needs no confirmation waits for none."""
        self.check_answered(self.read(7, STALE))

        self.assertEqual(self.tours(), [])

    def check_answered(self, *pages: Deferred[Rows]) -> None:
        """Check that reads are answered soon."""
        self.pass_time(0.02)
        for page in pages:
            self.successResultOf(page)

    def test_lone_read_takes_none(self) -> None:
        """One read finds out in fewer messages by itself."""
        self.check_answered(self.read(7))

        self.assertEqual(self.tours(), [])

    def test_few_shards_take_none(self) -> None:
        """Of two shards each confirms its reads by itself, also those that were on six before."""
        waiting = [self.read(key) for key in range(7, 60, 10)]
        self.router.configure(layout(10, 10))
        self.pass_time(0.1)
        for page in waiting[:2]:
            self.successResultOf(page)
        for page in waiting[2:]:
            self.failureResultOf(page, ApiError)
        self.shards.asked.clear()

        self.check_answered(self.read(7))

        self.assertEqual(self.tours(), [])

    def test_same_layout_keeps_what_is_known(self) -> None:
        """A layout that changes nothing for the shards' replicas leaves their tours as they are."""
        waiting = [self.read(key) for key in range(0, 60, 10)]
        self.router.configure(layout(*[10] * 6))
        self.check_answered(*waiting)

        self.assertEqual(len(self.tours()), 1)
        self.assertEqual(self.positions(), {True})

    def test_silent_server(self) -> None:
        """A server that does not answer costs a read no more than a moment, whether it is on the way or asked."""
        self.shards.silent = {"Server1"}
        pages = []
        for _ in range(20):
            pages.append([self.read(key) for key in range(0, 60, 10)])
            self.pass_time(0.1)
        self.pass_time(0.5)

        for page in chain.from_iterable(pages):
            self.successResultOf(page)

    def test_no_service_no_tours(self) -> None:
        """Once the router stops nothing waits for a tour."""
        pages = [self.read(key) for key in range(0, 60, 10)]
        self.router.stopService()
        self.pass_time(1)

        for page in pages:
            self.failureResultOf(page, ApiError)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])


class Bounds(RouterCase):
    options = RouterOptions(
        reads_waiting_max=3, session=SessionOptions(queue_operations_max=3, batches_in_flight_max=1)
    )

    def test_too_many_reads(self) -> None:
        """What would wait beyond the limit is refused at once, and the limit is free again afterwards."""
        waiting = [self.read(7) for _ in range(3)]

        error = self.failureResultOf(self.read(7), ApiError).value
        self.pass_time(0.02)
        later = self.read(7)
        self.pass_time(0.02)

        self.assertEqual((error.status, error.code, error.retry_after_seconds), (503, "overloaded", 1))
        for page in (*waiting, later):
            self.successResultOf(page)

    def test_too_many_changes(self) -> None:
        """A full queue refuses a change at once; nothing of it is applied."""
        waiting = [self.write(key) for key in range(3)]

        error = self.failureResultOf(self.write(3), NotApplied).value
        self.pass_time(0.02)

        self.assertEqual(error.code, "overloaded")
        self.assertEqual([self.successResultOf(one) for one in waiting], [Stored(1)] * 3)


class Changes(RouterCase):
    def test_changes_of_one_turn_travel_together(self) -> None:
        """A hundred clients cost one frame to their shard's leader, not a hundred."""
        outcomes = [self.router.change(self.router.routes().find_row(3), Delete(3)) for _ in range(100)]

        self.pass_time(0.05)

        self.assertEqual([self.successResultOf(one) for one in outcomes], [NotFound()] * 100)
        self.assertLess(len(self.asked(Propose)), 5)

    def test_changes_of_one_turn_leave_at_once(self) -> None:
        """However many they are, and to however many shards."""
        for key in (1, 11):
            self.successResultOf(self.settled(self.write(key)))
        before = len(self.asked(Propose))
        outcomes = [self.write(key) for shard in (0, 10) for key in range(shard, shard + FEW_CHANGES + 1)]

        self.clock.advance(0)

        self.assertEqual(len(self.asked(Propose)), before + 2)
        self.pass_time(0.05)
        for outcome in outcomes:
            self.successResultOf(outcome)

    def test_batches_of_different_shards_leave_together(self) -> None:
        """A small batch waits for one of another shard that is on its way, but only for a moment."""
        self.successResultOf(self.settled(self.write(1)))
        self.shards.forgetful = {1}
        outcomes = [self.write(key) for key in range(FEW_CHANGES + 1)]
        self.clock.advance(0)
        self.clock.advance(RETURN_SECONDS)

        another = self.write(12)
        self.clock.pump([0] * 8)
        self.assertNoResult(another)
        self.clock.pump([HELD_SECONDS / 8] * 8 + [0] * 8)

        self.successResultOf(another)
        for outcome in outcomes:
            self.assertNoResult(outcome)
        self.router.configure(None)
        for outcome in outcomes:
            self.failureResultOf(outcome)

    def test_held_while_there_is_no_leader(self) -> None:
        """A change waits for a leader and is applied once when there is one."""
        self.shards.leaderless = {1}
        outcome = self.write(7)
        self.pass_time(3)
        self.assertNoResult(outcome)

        self.shards.leaderless = set()
        self.pass_time(0.2)

        self.assertEqual(self.successResultOf(outcome), Stored(1))

    def test_deadline_with_certainty(self) -> None:
        """A shard that refused to the end has certainly not applied the change."""
        self.shards.leaderless = {1}
        outcome = self.write(7)

        self.pass_time(10.5)

        self.failureResultOf(outcome, NotApplied)

    def test_deadline_without_certainty(self) -> None:
        """A shard that took the change and never said what became of it leaves its outcome unknown."""
        self.successResultOf(self.settled(self.write(1)))
        self.shards.forgetful = {1}
        outcome = self.write(7)

        self.pass_time(10.5)

        self.failureResultOf(outcome, OutcomeUnknown)

    def test_lost_reply_is_no_second_write(self) -> None:
        """A change whose reply was lost is sent again and answered with its first outcome."""
        self.successResultOf(self.settled(self.write(1)))
        self.shards.forgetful = {1}
        outcome = self.write(7)
        self.pass_time(1)
        self.shards.forgetful = set()

        self.pass_time(2)

        self.assertEqual(self.successResultOf(outcome), Stored(1))

    def settled(self, outcome: Deferred[Any]) -> Deferred[Any]:
        """Let a change come to its end."""
        self.pass_time(0.05)
        return outcome


class Layouts(RouterCase):
    def test_without_a_table(self) -> None:
        """Before there is a layout, and after it was taken away, there is no table."""
        router = router_over(self.shards)
        self.router.configure(None)

        for one in (router, self.router):
            error = self.assertRaises(ApiError, one.routes)
            self.assertEqual((error.status, error.code), (409, "not_initialised"))

    def test_servers_are_dialled(self) -> None:
        """The links' directory follows the layout: new addresses are set, servers that went are removed."""
        directory = MemoryDirectory()
        router = router_over(self.shards, directory=directory)

        router.configure(layout(10))
        first = dict(directory.peers)
        router.configure(layout(10, servers=("Server1", "Server5")))

        self.assertEqual(first.keys(), SERVERS)
        self.assertEqual(first["Server1"].port, 7001)
        self.assertEqual(
            {name: endpoint.port for name, endpoint in directory.peers.items()}, {"Server1": 7000, "Server5": 7001}
        )

    def test_shards_that_stay_keep_what_waits(self) -> None:
        """A change that waits when the layout changes is applied if its shard is still there, else it failed."""
        staying, going = self.write(7), self.write(17)

        self.router.configure(layout(10))
        self.pass_time(0.05)

        self.assertEqual(self.successResultOf(staying), Stored(1))
        self.failureResultOf(going, NotApplied)

    def test_reads_follow_the_replicas(self) -> None:
        """After a replica moved, its old server is asked no more and its new one is."""
        first = self.layout.shards[0]
        moved = ShardLayout(
            first.group_id, first.shard, first.low, first.size, {10: "Server0", 11: "Server1", 99: "New"}
        )
        self.router.configure(Layout("cluster", STUDENTS, (moved,), self.layout.servers))

        self.begin_reads(50)

        self.assertEqual(set(self.asked(Read)), {"Server0", "Server1", "New"})

    def test_nobody_reads_where_a_replica_leaves(self) -> None:
        """A server that is about to go is asked for changes, which it may lead, but not for rows, unless all go."""
        one = self.layout.shards[0]
        for leaving, readers in (({"Server1"}, SERVERS - {"Server1"}), (SERVERS, SERVERS)):
            shards = (dataclasses.replace(one, leaving=frozenset(leaving)), self.layout.shards[1])
            self.router.configure(dataclasses.replace(self.layout, shards=shards))
            self.shards.asked.clear()
            self.begin_reads(100)
            self.assertEqual(set(self.asked(Read)), readers)

    def test_stopping_gives_up_what_waits(self) -> None:
        """When the service stops every waiter hears of it, and new requests are refused."""
        self.shards.leaderless = {1}
        outcome = self.write(7)
        self.pass_time(0.1)

        self.router.stopService()

        self.failureResultOf(outcome, NotApplied)
        self.assertEqual(self.assertRaises(ApiError, self.router.routes).code, "stopping")
