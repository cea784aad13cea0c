"""Servers in memory that die, lose their data and stay away, and a controller that is killed while it mends that."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dbnode.wire import Batch, OpenSession, encode_command
from dbnode.wire import Write as WriteRows
from lbnode.state import ReplicaState, ServerState
from lbnode.table import ShardRecord
from lbnode.test.balancers import Balancer, Fuse, pass_time, run
from lbnode.test.test_controller import ControllerTestCase, request
from lbnode.wire import InitRequest

ALL = ("sh1", "sh2")
THREE = request({"A": ALL, "B": ALL, "C": ALL})
FOUR = request({"A": ALL, "B": ALL, "C": ALL, "D": ("sh2",)})


class HealingTestCase(ControllerTestCase):
    def made(self, asked: InitRequest = THREE, fuse: Fuse | None = None) -> Balancer:
        """Return a balancer with a table and ten rows in each shard."""
        self.make_world()
        balancer = self.balancer(fuse)
        run(self.clock, balancer.controller.init(asked))
        for shard in self.shards(balancer):
            self.write(shard.group_id, "s1")
        return balancer

    def shards(self, balancer: Balancer) -> tuple[ShardRecord, ...]:
        """Return the shards as the catalog has them."""
        table = balancer.catalog.catalog.table
        assert table is not None
        return table.shards

    def write(self, group_id: int, session: str) -> None:
        """Store ten rows in a group, through whoever leads it."""
        leader = next(server for server in self.launcher.running.values() if server.serving.leads(group_id))
        low = 0 if group_id == 1 else 10
        rows = tuple((low + place, session) for place in range(10))
        for command in (OpenSession(session, 0), Batch(session, 1, 0, 0, (WriteRows(rows, on_conflict=2),))):
            stored: Deferred[object] = leader.node.propose(group_id, encode_command(command))
            pass_time(self.clock, until=lambda: stored.called, seconds_max=5)  # noqa: B023 - called at once
            self.assertTrue(stored.called)

    def replicas(self, balancer: Balancer) -> list[ReplicaState]:
        """Return all replicas as the balancer sees them."""
        return [replica for shard in self.state(balancer).shards for replica in shard.replicas]

    def is_whole(self, balancer: Balancer) -> bool:
        """Tell whether everything is as it should be, and says so."""
        state = self.state(balancer)
        return (
            all(shard.settled for shard in self.shards(balancer))
            and all(server.state == "up" for server in state.servers)
            and all(replica.state == "serving" for shard in state.shards for replica in shard.replicas)
            and not any(shard.doing for shard in state.shards)
        )

    def until_whole(self, balancer: Balancer, note: object = "") -> None:
        """Let time pass until everything is as it should be, and check that nothing is missing.

        A follower that has just begun to serve hears with the next tick what is committed.
        """
        pass_time(self.clock, until=lambda: self.is_whole(balancer), seconds_max=60)
        pass_time(self.clock, until=lambda: self.has_all_rows(balancer), seconds_max=0.2)
        self.assertTrue(self.is_whole(balancer), (note, self.state(balancer)))
        for replica in self.replicas(balancer):
            self.assertEqual(replica.row_count, 10, note)
        self.assertEqual(self.failures, [])
        for shard in self.shards(balancer):
            for server in shard.replicas.values():
                conf = self.launcher.running[self.home(balancer, server)].node.status(shard.group_id).conf_state
                self.assertEqual((conf.voters, conf.learners), (tuple(sorted(shard.replicas)), ()), note)

    def has_all_rows(self, balancer: Balancer) -> bool:
        """Tell whether every replica has the ten rows of its shard."""
        return all(replica.row_count == 10 for replica in self.replicas(balancer))

    def home(self, balancer: Balancer, server: str) -> str:
        """Return where a server lives."""
        table = balancer.catalog.catalog.table
        assert table is not None
        return table.servers[server].home


class RespawnTests(HealingTestCase):
    def test_a_killed_server_comes_back_at_once(self) -> None:
        """Its death is noticed as it happens, and it catches up from its own data."""
        balancer = self.made()
        before = self.clock.seconds()

        self.launcher.kill("B")
        pass_time(self.clock, until=lambda: "B" in self.launcher.running, seconds_max=5)

        self.assertLess(self.clock.seconds() - before, 0.2)
        self.until_whole(balancer)
        self.assertEqual([set(shard.replicas) for shard in self.shards(balancer)], [{1, 2, 3}, {4, 5, 6}])

    def test_one_that_keeps_dying_is_tried_ever_more_rarely(self) -> None:
        """The pauses grow, the state says how often it was tried and why it failed."""
        balancer = self.made()
        self.launcher.refused.add("B")
        self.launcher.kill("B")

        pass_time(self.clock, until=lambda: self.server(balancer, "B").state == "failed", seconds_max=60)
        self.clock.pump([0.1] * 50)

        failed = self.server(balancer, "B")
        self.assertEqual(failed.state, "failed")
        self.assertIn("B is refused", failed.reason)
        self.assertEqual({replica.state for replica in self.replicas(balancer) if replica.server == "B"}, {"failed"})
        self.launcher.refused.clear()
        self.until_whole(balancer)

    def server(self, balancer: Balancer, name: str) -> ServerState:
        """Return a server's state."""
        return next(server for server in self.state(balancer).servers if server.name == name)

    def test_a_server_that_stays_away_is_replaced_where_there_is_room(self) -> None:
        """A replica moves to a server without one, and stays there when its own returns."""
        balancer = self.made(FOUR)
        self.launcher.refused.add("B")
        self.launcher.kill("B")

        pass_time(self.clock, until=lambda: "B" not in self.on(balancer, 0), seconds_max=90)
        self.assertEqual(self.on(balancer, 0), {"A", "C", "D"})
        self.launcher.refused.clear()

        self.until_whole(balancer)
        self.assertEqual((self.on(balancer, 0), self.on(balancer, 1)), ({"A", "C", "D"}, {"A", "B", "C", "D"}))

    def on(self, balancer: Balancer, place: int) -> set[str]:
        """Return the servers of a shard's replicas."""
        return set(self.shards(balancer)[place].directory.values())


class SilentTests(HealingTestCase):
    def setUp(self) -> None:
        """Make a table whose servers all fall silent on request."""
        super().setUp()
        self.made_ = self.made()
        self.before = dict(self.launcher.running)

    def silence(self, seconds: float) -> set[str]:
        """Let no heartbeat be answered for so long; return the states of the servers at the end."""
        self.made_.control.deaf = True
        self.clock.pump([0.1] * round(seconds * 10))
        states = {server.state for server in self.state(self.made_).servers}
        self.made_.control.deaf = False
        return states

    def test_a_silent_server_is_down_and_left_alone(self) -> None:
        """A paused process is not killed for it, and is up again as soon as it answers."""
        self.assertEqual(self.silence(50), {"down"})

        self.until_whole(self.made_)
        self.assertEqual(self.launcher.running, self.before)

    def test_one_that_hangs_is_started_again(self) -> None:
        """After a long silence it is another process on the same data."""
        self.silence(80)

        self.until_whole(self.made_)
        self.assertFalse(set(self.launcher.running.values()) & set(self.before.values()))
        self.assertEqual(self.launcher.homes, {"A", "B", "C"})


class LostDataTests(HealingTestCase):
    def test_a_wiped_server_begins_anew_under_new_ids(self) -> None:
        """Its replicas are learners first and replace the old ones; everything that was acknowledged is there."""
        balancer = self.made()

        self.launcher.kill("B")
        self.launcher.wipe("B")
        self.clock.pump([0.1] * 100)

        self.until_whole(balancer)
        self.assertEqual(self.launcher.homes, {"A", "B@2", "C"})
        self.assertEqual([max(shard.replicas) for shard in self.shards(balancer)], [7, 8])

    def test_every_server_once(self) -> None:
        """After each in turn began anew none of the first voters is left, and no row is missing."""
        balancer = self.made()
        for name in "ABC":
            home = self.home(balancer, name)
            self.launcher.kill(home)
            self.launcher.wipe(home)
            self.clock.pump([0.1] * 60)
            self.until_whole(balancer, name)

        for shard in self.shards(balancer):
            self.assertFalse(set(shard.founders) & set(shard.replicas))

    def test_a_lost_replica_gets_a_new_id_on_its_server(self) -> None:
        """A log that lost what it had acknowledged is not believed again."""
        balancer = self.made()
        self.launcher.kill("B")
        self.launcher.lose_log("B")

        self.clock.pump([0.1] * 50)

        self.until_whole(balancer)
        self.assertEqual(self.launcher.homes, {"A", "B", "C"})
        self.assertEqual([max(shard.replicas) for shard in self.shards(balancer)], [7, 8])

    def test_without_a_majority_nothing_is_made_anew(self) -> None:
        """Two of three without data: the shards stay without a leader, for good, and say what they need."""
        balancer = self.made()
        for name in "AB":
            self.launcher.kill(name)
            self.launcher.wipe(name)

        self.clock.pump([0.1] * 600)

        state = self.state(balancer)
        self.assertEqual([shard.primary for shard in state.shards], [None, None])
        self.assertEqual([set(shard.replicas) for shard in self.shards(balancer)], [{1, 2, 3}, {4, 5, 6}])
        self.assertEqual(self.launcher.homes, {"C"})
        reasons = {server.name: server.reason for server in state.servers if server.state == "failed"}
        self.assertEqual(set(reasons), {"A", "B"})
        self.assertIn("bring it back", reasons["A"])

    def test_a_second_death_during_the_rebuild(self) -> None:
        """While the new replica is filled another server dies for good: no leader, no lies, until it is back."""
        balancer = self.made()
        self.launcher.refused |= {"C"}
        self.launcher.kill("B")
        self.launcher.wipe("B")
        pass_time(self.clock, until=lambda: "B@2" in self.launcher.homes, seconds_max=30)
        self.launcher.kill("C")
        self.clock.pump([0.1] * 100)

        leaders = [shard.primary for shard in self.state(balancer).shards]
        self.launcher.refused.clear()

        self.assertEqual(leaders, [None, None])
        self.until_whole(balancer)


class KilledWhileHealing(HealingTestCase):
    """kill -9 of the balancer at every step of the replacement of a server's data."""

    def test_every_step(self) -> None:
        """Whenever it dies, its successor brings the cluster to the same end, and uses no id twice."""
        ends = set()
        for step in range(200):
            fuse = Fuse()
            balancer = self.made(fuse=fuse)
            fuse.left = fuse.taken + step
            self.launcher.kill("B")
            self.launcher.wipe("B")
            pass_time(self.clock, until=lambda: fuse.burnt or self.is_done(balancer), seconds_max=60)  # noqa: B023
            if not fuse.burnt:
                break
            balancer.kill()

            successor = self.balancer()
            self.clock.pump([0.1] * 60)
            self.until_whole(successor, step)
            ends.add(tuple(tuple(sorted(shard.replicas)) for shard in self.shards(successor)))
        self.assertGreater(step, 15)
        self.assertEqual(ends, {((1, 3, 7), (4, 6, 8))})

    def is_done(self, balancer: Balancer) -> bool:
        """Tell whether the catalog knows of nothing that is left to do."""
        shards = self.shards(balancer)
        return all(shard.settled for shard in shards) and max(shards[0].replicas) > 6
