"""The controller over real servers in memory: /init is all or nothing, and a restart finds everything again."""

from __future__ import annotations

import random
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.schema import Schema
from lbnode.launchers import ServerSpec
from lbnode.launchers.memory import MemoryLauncher
from lbnode.state import ClusterState
from lbnode.test.balancers import Balancer, Disk, Fuse, pass_time, run
from lbnode.wire import InitRequest, InitShard

SCHEMA = Schema(("Stud_id", "Stud_name"), ("Number", "String"))


def request(servers: dict[str, tuple[str, ...]], *, replace: bool = False, size: int = 10) -> InitRequest:
    """Return a request for two shards of `size` ids."""
    shards = (InitShard(low=0, shard="sh1", size=size), InitShard(low=size, shard="sh2", size=size))
    return InitRequest(schema=SCHEMA, shards=shards, servers=servers, replicas=3, replace=replace)


ONE = request({"A": ("sh1", "sh2"), "B": ("sh1",), "C": ("sh1", "sh2")})
#: Six shards, three replicas of each; every server holds a replica of three.
SIX = InitRequest(
    schema=SCHEMA,
    shards=tuple(InitShard(low=n, shard=f"sh{n}", size=1) for n in range(6)),
    servers={name: tuple(f"sh{(place + n) % 6}" for n in range(3)) for place, name in enumerate("ABCDEF")},
    replicas=3,
    replace=False,
)
OTHER = request({"A": ("sh1",), "D": ("sh1", "sh2")}, replace=True, size=20)


class ControllerTestCase(SynchronousTestCase):
    """A world of servers in memory, and balancers on one disk."""

    def setUp(self) -> None:
        """Make an empty world."""
        self.make_world()

    def make_world(self) -> None:
        """Forget the world that was, and make an empty one."""
        self.clock = Clock()
        self.failures: list[Failure] = []
        self.launcher = MemoryLauncher(self.clock, random.Random(1), self.failures.append)
        self.disk = Disk(Path(self.mktemp()))

    def balancer(self, fuse: Fuse | None = None) -> Balancer:
        """Return a started balancer on the disk."""
        balancer = Balancer(self.clock, self.disk, self.launcher, fuse=fuse)
        balancer.open()
        return balancer

    def state(self, balancer: Balancer) -> ClusterState:
        """Return what the balancer says of the cluster."""
        return run(self.clock, balancer.controller.state())

    def until_ready(self, balancer: Balancer) -> None:
        """Let time pass until every shard has a leader."""
        pass_time(self.clock, until=lambda: self.state(balancer).ready, seconds_max=60)
        self.assertTrue(self.state(balancer).ready)

    def assertFails(self, balancer: Balancer, asked: InitRequest, code: str) -> ApiError:
        """Check that /init fails with a code, and return the error."""
        error: ApiError = self.assertRaises(ApiError, run, self.clock, balancer.controller.init(asked))
        self.assertEqual(error.code, code)
        return error


class InitTests(ControllerTestCase):
    def test_makes_a_table_that_serves(self) -> None:
        """Once /init returns every shard has a leader and the router knows where everything is."""
        balancer = self.balancer()

        run(self.clock, balancer.controller.init(ONE))

        state = self.state(balancer)
        self.assertTrue(state.ready)
        self.assertEqual([server.name for server in state.servers], ["A", "B", "C"])
        self.assertEqual([len(shard.replicas) for shard in state.shards], [3, 2])
        layout = balancer.layouts[-1]
        assert layout is not None
        self.assertEqual([shard.shard for shard in layout.shards], ["sh1", "sh2"])
        self.assertEqual(set(layout.servers), {"A", "B", "C"})

    def test_leaders_are_spread(self) -> None:
        """No server leads two shards while another could lead one of them."""
        balancer = self.balancer()
        names = "ABCDEF"
        servers = {
            name: tuple(f"sh{n + 1}" for n in range(6) if (n - place) % 6 < 3) for place, name in enumerate(names)
        }
        shards = tuple(InitShard(low=n, shard=f"sh{n + 1}", size=1) for n in range(6))

        run(self.clock, balancer.controller.init(InitRequest(SCHEMA, shards, servers, 3, replace=False)))

        self.assertEqual({shard.primary for shard in self.state(balancer).shards}, set(names))

    def test_the_same_again_is_fine(self) -> None:
        """A second /init of the same configuration changes nothing."""
        balancer = self.balancer()
        run(self.clock, balancer.controller.init(ONE))
        before = balancer.catalog.catalog

        run(self.clock, balancer.controller.init(ONE))

        self.assertEqual(balancer.catalog.catalog.table, before.table)

    def test_another_configuration_is_refused(self) -> None:
        """A table is not dropped by accident."""
        balancer = self.balancer()
        run(self.clock, balancer.controller.init(ONE))

        error = self.assertFails(balancer, request({"A": ("sh1", "sh2")}), "already_initialised")

        self.assertEqual(error.status, 409)

    def test_a_second_one_meanwhile_is_busy(self) -> None:
        """Operations exclude each other; the first goes on although its client went away."""
        balancer = self.balancer()
        first = Deferred.fromCoroutine(balancer.controller.init(ONE))

        self.assertFails(balancer, ONE, "busy")
        first.cancel()
        self.failureResultOf(first)

        self.until_ready(balancer)

    def test_replace_drops_the_old_table(self) -> None:
        """With replace the old rows and servers are gone, and the new ones serve under new ids."""
        balancer = self.balancer()
        run(self.clock, balancer.controller.init(ONE))
        groups = {shard.group_id for shard in self.state(balancer).shards}

        run(self.clock, balancer.controller.init(OTHER))

        self.until_ready(balancer)
        self.assertTrue(groups.isdisjoint(shard.group_id for shard in self.state(balancer).shards))
        self.assertEqual(self.launcher.homes, {"A@2", "D"})

    def test_a_failure_takes_everything_down_again(self) -> None:
        """If a server cannot be started nothing of the attempt is left, and the next one is free to try."""
        balancer = self.balancer()
        self.launcher.refused.add("B")

        error = self.assertFails(balancer, ONE, "start_failed")

        self.assertEqual(error.status, 503)
        self.assertIn("B could not be started", error.text)
        self.assertEqual(self.launcher.homes, set())
        self.launcher.refused.clear()
        run(self.clock, balancer.controller.init(ONE))

    def test_a_failed_replacement_leaves_the_old_table(self) -> None:
        """The old servers are untouched until the new ones serve."""
        balancer = self.balancer()
        run(self.clock, balancer.controller.init(ONE))
        before = balancer.catalog.catalog.table
        self.launcher.refused.add("D")

        self.assertFails(balancer, OTHER, "start_failed")

        self.assertEqual(balancer.catalog.catalog.table, before)
        self.assertEqual(self.launcher.homes, {"A", "B", "C"})
        self.assertTrue(self.state(balancer).ready)

    def test_a_shard_without_leader_ends_it_at_the_deadline(self) -> None:
        """If servers cannot reach each other /init fails in time and takes them down."""
        balancer = self.balancer()
        self.launcher.network.cut("A", "C")
        self.launcher.network.cut("A", "B")
        self.launcher.network.cut("B", "C")

        self.assertFails(balancer, ONE, "deadline")

        self.assertEqual(self.launcher.homes, set())

    def test_stopping_rolls_back(self) -> None:
        """A balancer that is stopped in the middle of /init takes down what it started."""
        balancer = self.balancer()
        self.launcher.network.cut("A", "C")
        init = Deferred.fromCoroutine(balancer.controller.init(request({"A": ("sh1", "sh2"), "C": ("sh1", "sh2")})))
        pass_time(self.clock, until=lambda: len(self.launcher.running) == 2)

        run(self.clock, stopped(balancer))

        self.assertEqual(self.failureResultOf(init, ApiError).value.code, "stopping")
        self.assertEqual(self.launcher.homes, set())


async def stopped(balancer: Balancer) -> None:
    """Stop a balancer's controller."""
    await balancer.controller.stopService()


class KillTests(ControllerTestCase):
    """kill -9 of the balancer at every step of /init; the next balancer brings it to an end, one way or the other."""

    def steps(self, prepare: InitRequest | None, asked: InitRequest) -> int:
        """Return how many steps an /init takes."""
        self.make_world()
        fuse = Fuse()
        balancer = self.balancer(fuse)
        if prepare is not None:
            run(self.clock, balancer.controller.init(prepare))
        begin = fuse.taken
        run(self.clock, balancer.controller.init(asked))
        return fuse.taken - begin

    def killed_at(self, step: int, prepare: InitRequest | None, asked: InitRequest) -> tuple[Balancer, bool]:
        """Kill a balancer at a step of /init; return its successor, settled, and whether /init had returned."""
        self.make_world()
        fuse = Fuse()
        balancer = self.balancer(fuse)
        if prepare is not None:
            run(self.clock, balancer.controller.init(prepare))
        fuse.left = fuse.taken + step
        init = Deferred.fromCoroutine(balancer.controller.init(asked))
        pass_time(self.clock, until=lambda: fuse.burnt, seconds_max=30)
        self.clock.advance(0.1)
        balancer.kill()
        successor = self.balancer()
        pass_time(self.clock, until=lambda: successor.catalog.catalog.operation is None, seconds_max=30)
        return successor, init.called

    def test_first_table(self) -> None:
        """Either there is nothing at all, or the whole table; and if /init had returned, the table."""
        outcomes = set()
        for step in range(self.steps(None, ONE)):
            successor, returned = self.killed_at(step, None, ONE)

            made = successor.catalog.catalog.table is not None
            outcomes.add(made)
            self.assertIsNone(successor.catalog.catalog.operation, step)
            self.assertEqual(self.launcher.homes, {"A", "B", "C"} if made else set(), step)
            self.assertTrue(made or not returned, step)
            run(self.clock, successor.controller.init(ONE))
            self.until_ready(successor)
        self.assertEqual(outcomes, {False, True})

    def test_replacement(self) -> None:
        """Either the old table serves as before, or the new one does and nothing of the old is left."""
        outcomes = set()
        for step in range(self.steps(ONE, OTHER)):
            successor, _ = self.killed_at(step, ONE, OTHER)

            self.until_ready(successor)
            sizes = {shard.size for shard in self.state(successor).shards}
            outcomes.update(sizes)
            self.assertEqual(self.launcher.homes, {"A", "B", "C"} if sizes == {10} else {"A@2", "D"}, step)
            self.assertEqual(set(self.launcher.running), self.launcher.homes, step)
        self.assertEqual(outcomes, {10, 20})


class RestartTests(ControllerTestCase):
    def setUp(self) -> None:
        """Make a table."""
        super().setUp()
        self.first = self.balancer()
        run(self.clock, self.first.controller.init(ONE))

    def test_running_servers_are_adopted(self) -> None:
        """A killed balancer's successor finds the servers as they are and restarts none."""
        running = dict(self.launcher.running)
        self.first.kill()

        successor = self.balancer()

        self.assertEqual(successor.layouts, [self.first.layouts[-1]])
        self.until_ready(successor)
        self.assertEqual(self.launcher.running, running)

    def test_dead_servers_are_started(self) -> None:
        """After everything was killed at once everything comes back, at its new addresses."""
        self.first.kill()
        for home in list(self.launcher.running):
            self.launcher.kill(home)

        successor = self.balancer()

        self.until_ready(successor)
        self.assertEqual(set(self.launcher.running), {"A", "B", "C"})
        self.assertNotEqual(successor.layouts[-1], self.first.layouts[-1])

    def test_a_server_that_stays_down_is_reported(self) -> None:
        """The others serve, and the state says which server is not there and why."""
        self.first.kill()
        self.launcher.kill("B")
        self.launcher.refused.add("B")

        successor = self.balancer()
        self.until_ready(successor)

        states = {server.name: (server.state, server.reason) for server in self.state(successor).servers}
        self.assertEqual({name: state for name, (state, _) in states.items()}, {"A": "up", "B": "down", "C": "up"})
        self.assertIn("refused", states["B"][1])

    def test_stopping_stops_all_servers(self) -> None:
        """Ctrl-C leaves no server running; their data stays."""
        run(self.clock, stopped(self.first))

        self.assertEqual(self.launcher.running, {})
        self.assertEqual(self.launcher.homes, {"A", "B", "C"})


class WatchTests(ControllerTestCase):
    def setUp(self) -> None:
        """Make a table."""
        super().setUp()
        self.balancer_ = self.balancer()
        run(self.clock, self.balancer_.controller.init(ONE))

    def server_state(self, name: str) -> str:
        """Return what the balancer says of a server."""
        return {server.name: server.state for server in self.state(self.balancer_).servers}[name]

    def test_a_dead_server_is_seen(self) -> None:
        """A server whose process is gone is down within a round or two, and its replicas too."""
        self.launcher.refused.add("B")
        self.launcher.kill("B")

        pass_time(self.clock, until=lambda: self.server_state("B") == "down", seconds_max=5)

        self.assertEqual(self.server_state("B"), "down")
        replicas = [replica for shard in self.state(self.balancer_).shards for replica in shard.replicas]
        self.assertEqual({replica.server for replica in replicas if replica.state == "down"}, {"B"})

    def test_a_server_started_by_hand_is_told_and_told_of(self) -> None:
        """Its new address goes to the router and to all other servers, so that it takes part again."""
        self.launcher.refused.add("B")
        self.launcher.kill("B")
        pass_time(self.clock, until=lambda: self.server_state("B") == "down", seconds_max=5)
        record = self.balancer_.catalog.catalog.servers()["B"]
        self.launcher.refused.clear()

        run(self.clock, started_by_hand(self.launcher, "B", record.incarnation))
        pass_time(self.clock, until=lambda: self.server_state("B") == "up", seconds_max=5)
        self.clock.pump([0.1] * 50)

        layout = self.balancer_.layouts[-1]
        assert layout is not None
        self.assertEqual(layout.servers["B"].link, self.balancer_.catalog.catalog.servers()["B"].link)
        told = self.launcher.running["A"].host.config
        assert told is not None
        self.assertEqual(told.cluster.servers["B"], layout.servers["B"].link)
        replicas = [replica for shard in self.state(self.balancer_).shards for replica in shard.replicas]
        self.assertEqual({replica.state for replica in replicas}, {"serving"})

    def test_leaders_are_spread_again(self) -> None:
        """After a death and a return the leaders are even again, without anybody's hand."""
        self.make_world()
        balancer = self.balancer_ = self.balancer()
        run(self.clock, balancer.controller.init(SIX))
        record = balancer.catalog.catalog.servers()["B"]

        self.launcher.refused.add("B")
        self.launcher.kill("B")
        pass_time(self.clock, until=lambda: self.state(balancer).ready, seconds_max=10)
        self.assertNotIn("B", {shard.primary for shard in self.state(balancer).shards})
        self.launcher.refused.clear()
        run(self.clock, started_by_hand(self.launcher, "B", record.incarnation))
        self.clock.pump([0.025] * 1000)

        self.assertEqual({shard.primary for shard in self.state(balancer).shards}, set("ABCDEF"))

    def test_roles_are_timed(self) -> None:
        """The state tells for how long each replica has had its role."""
        before = self.state(self.balancer_).shards[0].replicas[0].for_seconds

        self.clock.pump([0.025] * 400)

        self.assertAlmostEqual(self.state(self.balancer_).shards[0].replicas[0].for_seconds, before + 10, delta=0.1)


async def started_by_hand(launcher: MemoryLauncher, home: str, incarnation: str) -> None:
    """Start a server without the balancer's knowledge."""
    await launcher.start(ServerSpec(home, home, "c1", incarnation))
