"""Asking servers over links of one's own, and looking after them by heartbeat."""

from __future__ import annotations

import random
from pathlib import Path

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client.control import ControlFailed
from dbnode.schema import Schema
from dbnode.wire import Endpoint, ManagedConfig
from lbnode.control import LinkWatch
from lbnode.fleet import Fleet, FleetTimes
from lbnode.launchers import ServerSpec
from lbnode.launchers.memory import MemoryControl, MemoryLauncher
from lbnode.leaders import Handover
from lbnode.test.balancers import Balancer, Disk, pass_time, run
from lbnode.wire import InitRequest, InitShard
from raftlog.link import Identity, Receive
from raftlog.link.memory import MemoryLinks

ONE_SHARD = InitRequest(
    schema=Schema(("Stud_id",), ("Number",)),
    shards=(InitShard(low=0, shard="sh1", size=10),),
    servers={"A": ("sh1",), "B": ("sh1",), "C": ("sh1",)},
    replicas=3,
    replace=False,
)


class ClusterTestCase(SynchronousTestCase):
    """A table of one shard on three servers in memory."""

    def setUp(self) -> None:
        """Make the table."""
        self.clock = Clock()
        self.failures: list[Failure] = []
        self.launcher = MemoryLauncher(self.clock, random.Random(1), self.failures.append)
        self.balancer = Balancer(self.clock, Disk(Path(self.mktemp())), self.launcher)
        self.balancer.open()
        run(self.clock, self.balancer.controller.init(ONE_SHARD))

    def primary(self) -> str | None:
        """Return who leads the shard."""
        return run(self.clock, self.balancer.controller.state()).shards[0].primary


class LinkWatchTests(ClusterTestCase):
    def setUp(self) -> None:
        """Watch the servers over links in memory."""
        super().setUp()
        self.watch = LinkWatch(self.clock, self.links_of)
        servers = self.balancer.catalog.catalog.servers().values()
        self.addresses = {server.name: server.link for server in servers if server.link}
        self.watch.set_servers(self.addresses)
        self.clock.pump([0.1] * 5)

    def links_of(self, receive: Receive) -> MemoryLinks:
        """Return links of a balancer's."""
        return MemoryLinks(self.launcher.network, Identity("c1", "balancer", "watch", "i"), receive)

    def asked(self) -> dict[str, str]:
        """Return the role of each server's replica, as the servers themselves tell."""
        asked = self.watch.ask(1.0)
        pass_time(self.clock, until=lambda: asked.called, seconds_max=5)
        return {name: replicas[0].role for name, replicas in self.successResultOf(asked).items()}

    def test_all_servers_answer(self) -> None:
        """Each tells its replica's role."""
        roles = self.asked()

        self.assertEqual(sorted(roles.values()), ["follower", "follower", "leader"])
        self.assertEqual([name for name, role in roles.items() if role == "leader"], [self.primary()])

    def test_a_server_that_is_gone_is_left_out(self) -> None:
        """The others are not held up by it."""
        self.launcher.kill("B")

        self.assertEqual(set(self.asked()), {"A", "C"})

    def test_a_server_that_is_silent_is_left_out(self) -> None:
        """After the timeout there is an answer without it."""
        self.launcher.network.cut("watch", "B", one_way=True)

        self.assertEqual(set(self.asked()), {"A", "C"})

    def test_a_server_no_longer_named_is_not_asked(self) -> None:
        """The set of servers is what was said last."""
        self.watch.set_servers({name: link for name, link in self.addresses.items() if name != "C"})

        self.assertEqual(set(self.asked()), {"A", "B"})

    def test_a_leader_hands_over(self) -> None:
        """The replica named leads soon after."""
        leader = self.primary()
        assert leader is not None
        shard = run(self.clock, self.balancer.controller.state()).shards[0]
        successor = next(replica for replica in shard.replicas if replica.server != leader)

        asked = self.watch.hand_over(Handover(shard.group_id, leader, successor.replica_id))
        pass_time(self.clock, until=lambda: self.primary() == successor.server, seconds_max=2)

        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual(self.primary(), successor.server)

    def test_to_ask_one_that_is_gone_to_hand_over_is_no_failure(self) -> None:
        """Who leads is seen later."""
        self.launcher.kill("B")

        asked = self.watch.hand_over(Handover(1, "B", 1))
        pass_time(self.clock, until=lambda: asked.called, seconds_max=5)

        self.assertIsNone(self.successResultOf(asked))

    def test_closing_before_anything_was_asked(self) -> None:
        """There is nothing to close then."""
        self.assertIsNone(self.successResultOf(LinkWatch(self.clock, self.links_of).close()))
        self.assertIsNone(self.successResultOf(self.watch.close()))


class DeafControl(MemoryControl):
    """A control plane that does not reach some servers, or whose servers refuse what they are told."""

    deaf = False

    async def heartbeat(self, server: Endpoint, timeout_seconds: float) -> None:
        """Fail while the servers are deaf."""
        if self.deaf:
            raise ControlFailed("unreachable", "no answer")
        await super().heartbeat(server, timeout_seconds)

    async def configure(
        self, server: Endpoint, schema: dict[str, list[str]], cluster: ManagedConfig, timeout_seconds: float
    ) -> None:
        """Fail while the servers are deaf."""
        if self.deaf:
            raise ControlFailed("unreachable", "no answer")
        await super().configure(server, schema, cluster, timeout_seconds)


class FleetTests(ClusterTestCase):
    def setUp(self) -> None:
        """Have a second fleet look at the same servers, which nobody keeps."""
        super().setUp()
        run(self.clock, self.balancer.upkeep.stop())
        self.control = DeafControl(self.launcher)
        catalog = self.balancer.catalog
        self.fleet = Fleet(self.clock, self.launcher, self.control, catalog, FleetTimes(heartbeats_missed_max=3))
        table = self.balancer.catalog.catalog.table
        assert table is not None
        self.table = table

    def looked(self) -> dict[str, str]:
        """Return each server's state after a look."""
        for server in self.table.servers.values():
            run(self.clock, self.fleet.look(server))
        return {home: state.state for home, state in self.fleet.states().items()}

    def test_one_missed_heartbeat_is_no_death(self) -> None:
        """A server counts as down after three in a row, and is up again with the next answer."""
        states = [self.looked()["A"]]
        self.control.deaf = True
        states += [self.looked()["A"] for _ in range(3)]
        self.control.deaf = False
        states.append(self.looked()["A"])

        self.assertEqual(states, ["up", "up", "up", "down", "up"])

    def test_a_server_is_told_once(self) -> None:
        """What a server knows already it is not told again, until it was restarted."""
        self.looked()
        self.assertEqual(run(self.clock, self.fleet.tell(self.table)), {})
        self.control.deaf = True

        self.assertEqual(run(self.clock, self.fleet.tell(self.table)), {})
        self.launcher.kill("B")
        run(self.clock, self.fleet.start(self.table.servers.values()))
        failures = run(self.clock, self.fleet.tell(self.table))

        self.assertEqual(list(failures), ["B"])
        self.assertIn("no answer", failures["B"])
        self.assertIn("no answer", self.fleet.states()["B"].reason)
        self.control.deaf = False
        self.assertEqual(run(self.clock, self.fleet.tell(self.table)), {})
        self.assertEqual(self.fleet.states()["B"].reason, "")

    def test_a_server_with_other_data_is_told_nothing(self) -> None:
        """It is failed, with the reason, and left alone."""
        self.launcher.kill("B")
        self.launcher.wipe("B")
        new = run(self.clock, started(self.launcher))

        self.assertEqual(self.looked()["B"], "failed")
        self.assertIn(new, self.fleet.states()["B"].reason)
        self.assertIn("B", run(self.clock, self.fleet.tell(self.table)))


async def started(launcher: MemoryLauncher) -> str:
    """Start B on an empty home; return its incarnation."""
    return (await launcher.start(ServerSpec("B", "B", "c1"))).incarnation
