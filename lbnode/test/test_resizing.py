"""/add and /rm over real servers in memory: filled before they count, all or nothing, even if the balancer dies."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from dbnode.errors import ApiError
from lbnode.test.balancers import Balancer, Fuse, pass_time, run
from lbnode.test.test_healing import HealingTestCase
from lbnode.wire import AddRequest, InitShard, RemoveRequest

#: A server that is filled, one that takes a new shard, and the third copy of what had two.
ADD = AddRequest({"D": ("sh1", "sh3"), "E": ("sh3", "sh2")}, (InitShard(20, "sh3", 10),), None)
#: Of three servers with everything one goes: then a fourth has to take what it had.
REMOVE = RemoveRequest(1, ("A",), rebalance=True)


class ResizingTestCase(HealingTestCase):
    def grown(self, fuse: Fuse | None = None) -> Balancer:
        """Return a balancer with a fourth server that holds nothing of the first shard."""
        balancer = self.made(fuse=fuse)
        run(self.clock, balancer.controller.add(AddRequest({"D": ("sh2",)}, (), None)))
        return balancer

    def held(self, balancer: Balancer) -> dict[str, set[str]]:
        """Return the servers of each shard."""
        return {shard.shard: set(shard.replicas.values()) for shard in self.shards(balancer)}

    def check_whole(self, balancer: Balancer, note: object = "") -> None:
        """Check that in the end exactly the table's servers run, with its replicas as voters and all rows in each."""

        def is_done() -> bool:
            table = balancer.catalog.catalog.table
            names = {server.home for server in table.servers.values()} if table is not None else set()
            return self.launcher.homes == names and self.is_whole(balancer) and self.members_are_right(balancer)

        pass_time(self.clock, until=is_done, seconds_max=60)
        self.assertTrue(is_done(), (note, self.launcher.homes, self.held(balancer)))
        # A follower hears with the next tick what is committed.
        pass_time(self.clock, until=lambda: self.counts(balancer) == {10}, seconds_max=0.2)
        self.assertEqual(self.counts(balancer), {10}, note)

    def counts(self, balancer: Balancer) -> set[int | None]:
        """Return how many rows the replicas of the first two shards have."""
        return {replica.row_count for shard in self.state(balancer).shards[:2] for replica in shard.replicas}

    def members_are_right(self, balancer: Balancer) -> bool:
        """Tell whether the groups' configurations are those that the catalog wants, at every replica."""
        wanted = {shard.group_id: tuple(sorted(shard.replicas)) for shard in self.shards(balancer)}
        statuses = [status for server in self.launcher.running.values() for status in server.serving.statuses()]
        return len(statuses) == sum(map(len, wanted.values())) and all(
            (status.conf_state.voters, status.conf_state.learners) == (wanted.get(status.group_id), ())
            for status in statuses
        )

    def assertFails(self, work: Coroutine[Deferred[Any], Any, Any], code: str, status: int) -> ApiError:  # type: ignore[override]
        """Check that an operation fails with a code and a status, and return the error."""
        error: ApiError = self.assertRaises(ApiError, run, self.clock, work)
        self.assertEqual((error.code, error.status), (code, status), error.text)
        return error


class AddTests(ResizingTestCase):
    def test_add(self) -> None:
        """Once /add returns everything new serves, and the router knows it."""
        balancer = self.made()

        total, names = run(self.clock, balancer.controller.add(ADD))

        self.assertEqual((total, tuple(names)), (5, ("D", "E")))
        self.assertEqual(self.held(balancer), {"sh1": set("ABCD"), "sh2": set("ABCE"), "sh3": set("DE")})
        layout = balancer.layouts[-1]
        assert layout is not None
        self.assertEqual([set(shard.readers) for shard in layout.shards], [set("ABCD"), set("ABCE"), set("DE")])
        self.assertTrue(all(replica.state == "serving" for replica in self.replicas(balancer)))
        self.check_whole(balancer)

    def test_nobody_reads_before_it_is_filled(self) -> None:
        """Until it is a voter no layout names a new replica."""
        balancer = self.made()
        begin = len(balancer.layouts)

        run(self.clock, balancer.controller.add(ADD))

        for layout in balancer.layouts[begin:]:
            assert layout is not None
            joining = {id_ for shard in layout.shards[:2] for id_ in shard.replicas} - {1, 2, 3, 4, 5, 6}
            self.assertIn(len(joining), (0, 1, 2))
        first = next(layout for layout in balancer.layouts[begin:] if layout and len(layout.shards) == 3)
        self.assertEqual(len(first.shards[0].replicas), 3)

    def test_a_server_that_does_not_start(self) -> None:
        """Nothing of the attempt is left, not even a learner."""
        balancer = self.made()
        before = balancer.catalog.catalog.table
        self.launcher.refused.add("E")

        error = self.assertFails(balancer.controller.add(ADD), "start_failed", 503)

        self.assertIn("E could not be started", error.text)
        self.assertEqual(balancer.catalog.catalog.table, before)
        self.check_whole(balancer)

    def test_a_server_that_dies_meanwhile(self) -> None:
        """It ends the operation at once."""
        balancer = self.made()
        self.launcher.network.cut("D", "E")
        adding = Deferred.fromCoroutine(balancer.controller.add(ADD))
        pass_time(self.clock, until=lambda: len(self.launcher.running) == 5)
        self.clock.pump([0.1] * 20)

        self.launcher.kill("E")
        self.clock.pump([0.1] * 30)

        self.assertIn("E did not stay", self.failureResultOf(adding, ApiError).value.text)
        self.check_whole(balancer)

    def test_deadline(self) -> None:
        """A replica that cannot be filled in time ends it, and the error says what was waited for."""
        balancer = self.made()
        for home in "ABC":
            self.launcher.network.cut(home, "D")

        error = self.assertFails(balancer.controller.add(ADD), "deadline", 503)

        self.assertIn("sh1: waiting: replica 7 must come up", error.text)
        self.check_whole(balancer)

    def test_operations_exclude_each_other(self) -> None:
        """While one runs the others are busy, and the one goes on although its client went away."""
        balancer = self.made()
        adding = Deferred.fromCoroutine(balancer.controller.add(ADD))

        self.assertFails(balancer.controller.add(ADD), "busy", 409)
        self.assertFails(balancer.controller.remove(REMOVE), "busy", 409)
        adding.cancel()
        self.failureResultOf(adding)

        pass_time(self.clock, until=lambda: len(self.held(balancer)) == 3)
        self.check_whole(balancer)

    def test_stopping_rolls_back(self) -> None:
        """A balancer that is stopped in the middle takes down what it started, and leaves the rest."""
        balancer = self.made()
        self.launcher.network.cut("D", "E")
        adding = Deferred.fromCoroutine(balancer.controller.add(ADD))
        pass_time(self.clock, until=lambda: len(self.launcher.running) == 5)

        stopped = balancer.controller.stopService()
        pass_time(self.clock, until=lambda: stopped.called)

        self.assertEqual(self.failureResultOf(adding, ApiError).value.code, "stopping")
        self.assertEqual(self.launcher.homes, set("ABC"))


class RemoveTests(ResizingTestCase):
    def test_remove(self) -> None:
        """Its replicas are elsewhere once /rm returns, and its data is gone."""
        balancer = self.grown()

        total, names = run(self.clock, balancer.controller.remove(REMOVE))

        self.assertEqual((total, tuple(names)), (3, ("A",)))
        self.assertEqual(self.held(balancer), {"sh1": set("BCD"), "sh2": set("BCD")})
        self.assertEqual(self.launcher.homes, set("BCD"))
        self.check_whole(balancer)

    def test_leaders_hand_over_first(self) -> None:
        """A server that goes leads nothing any more when its replicas leave."""
        balancer = self.grown()
        leaders = {shard.primary for shard in self.state(balancer).shards}
        going = next(iter(leaders - {"D", None}))
        removing = Deferred.fromCoroutine(balancer.controller.remove(RemoveRequest(1, (str(going),), True)))

        pass_time(self.clock, until=lambda: going not in {shard.primary for shard in self.state(balancer).shards})

        table = balancer.catalog.catalog.table
        assert table is not None
        self.assertIn(going, table.servers)
        pass_time(self.clock, until=lambda: removing.called)
        self.check_whole(balancer)

    def test_most_of_a_shard(self) -> None:
        """Servers that hold most of a shard, or the only copy, may go at once."""
        balancer = self.made()
        run(self.clock, balancer.controller.add(ADD))

        run(self.clock, balancer.controller.remove(RemoveRequest(3, ("A", "D", "E"), rebalance=True)))

        self.assertEqual(self.held(balancer), {"sh1": set("BC"), "sh2": set("BC"), "sh3": set("BC")})
        self.check_whole(balancer)

    def test_a_dead_server(self) -> None:
        """A server that does not come back can be removed like any other."""
        balancer = self.grown()
        self.launcher.refused.add("A")
        self.launcher.kill("A")

        run(self.clock, balancer.controller.remove(REMOVE))

        self.assertEqual(self.held(balancer), {"sh1": set("BCD"), "sh2": set("BCD")})
        self.check_whole(balancer)

    def test_all_servers(self) -> None:
        """Nothing is left, and a new table can be made."""
        balancer = self.made()

        run(self.clock, balancer.controller.remove(RemoveRequest(3, ("A", "B", "C"), rebalance=True)))

        self.assertEqual((self.launcher.homes, balancer.layouts[-1]), (set(), None))


class KillTests(ResizingTestCase):
    """kill -9 of the balancer at every step; the next one brings it to an end, one way or the other."""

    def begin(self, fuse: Fuse, *, grows: bool) -> tuple[Coroutine[Deferred[Any], Any, Any], Balancer]:
        """Return an operation that is about to begin, and the balancer that is to carry it out."""
        balancer = self.made(fuse=fuse) if grows else self.grown(fuse)
        self.check_whole(balancer)
        return (balancer.controller.add(ADD) if grows else balancer.controller.remove(REMOVE)), balancer

    def steps(self, *, grows: bool) -> int:
        """Return how many steps an operation takes."""
        fuse = Fuse()
        operation, _ = self.begin(fuse, grows=grows)
        before = fuse.taken
        run(self.clock, operation)
        return fuse.taken - before

    def killed_at(self, step: int, *, grows: bool) -> str:
        """Kill a balancer at a step; return what its successor makes of it, as the names of the servers then."""
        fuse = Fuse()
        operation, balancer = self.begin(fuse, grows=grows)
        fuse.left = fuse.taken + step
        running = Deferred.fromCoroutine(operation)
        pass_time(self.clock, until=lambda: fuse.burnt, seconds_max=30)
        self.clock.advance(0.1)
        balancer.kill()
        successor = self.balancer()
        pass_time(self.clock, until=lambda: successor.catalog.catalog.operation is None, seconds_max=30)
        self.check_whole(successor, step)
        homes = "".join(sorted(self.launcher.homes))
        if running.called:
            self.successResultOf(running)
            self.assertIn(homes, ("ABCDE", "BCD"), step)
        return homes

    def test_add(self) -> None:
        """Either all of it or nothing."""
        outcomes = {self.killed_at(step, grows=True) for step in range(self.steps(grows=True))}

        self.assertEqual(outcomes, {"ABC", "ABCDE"})

    def test_remove(self) -> None:
        """Either the server is there as before, or its replicas are elsewhere and it is gone."""
        outcomes = {self.killed_at(step, grows=False) for step in range(self.steps(grows=False))}

        self.assertEqual(outcomes, {"ABCD", "BCD"})
