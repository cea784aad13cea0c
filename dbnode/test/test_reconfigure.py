"""Membership changed over links, as a balancer does it: learners that are filled, exchanges, lost replicas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.test.server_rig import Server, group_of_all, managed, three_servers
from dbnode.test.test_server import Balancer
from dbnode.wire import (
    NOT_LEADER,
    Applied,
    GroupConfig,
    Reconfigure,
    Refused,
    ReplicaStatus,
    Stored,
)
from raftlog.messages import ConfChangeSingle, ConfChangeType, ConfChangeV2, HardState

ADD, PROMOTE, REMOVE = ConfChangeType.ADD_LEARNER, ConfChangeType.ADD_VOTER, ConfChangeType.REMOVE


class ReconfigureTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start three servers with one group, and a client."""
        self.rig = three_servers()
        self.balancer = Balancer(self.rig)
        self.leader = self.rig.leader().disk.identity.name
        self.other = next(name for name in self.rig.servers if name != self.leader)

    def change(self, server: str, *changes: tuple[ConfChangeType, int]) -> Applied | Refused:
        """Ask a server for a change of membership and return its answer."""
        wanted = ConfChangeV2(changes=tuple(ConfChangeSingle(kind, replica_id) for kind, replica_id in changes))

        async def wait() -> Any:
            return await self.balancer.requests.ask(server, lambda number: Reconfigure(number, 1, wanted), 5)

        return self.rig.wait(wait())  # type: ignore[no-any-return]

    def status(self, server: str) -> ReplicaStatus:
        """Return what a server says of its replica."""
        return self.balancer.statuses(server).replicas[0]

    def own_id(self, server: str) -> int:
        """Return the id of a server's replica."""
        return self.status(server).replica_id

    def replaced(self, old: int, new: int, server: str) -> GroupConfig:
        """Return the group with one replica's place taken by another on the same server."""
        group = group_of_all()
        replicas = {id_: name for id_, name in group.replicas.items() if id_ != str(old)}
        return msgspec.structs.replace(group, replicas={**replicas, str(new): server})

    def tell_all(self, group: GroupConfig, version: int) -> None:
        """Tell every server that runs of the group."""
        for name, server in self.rig.servers.items():
            self.assertEqual(server.configure(managed(name, [group], version=version)).status, 200)

    def test_the_leader_tells_who_takes_part_and_how_far_each_is(self) -> None:
        """Only the leader knows how far the others are; all know the configuration."""
        self.balancer.write(1)
        self.rig.run(0.5)

        leading, following = self.status(self.leader), self.status(self.other)

        self.assertEqual(leading.conf_state.voters, (10, 11, 12))
        self.assertEqual(leading.matched, dict.fromkeys((10, 11, 12), leading.last_index))
        self.assertEqual((following.conf_state, following.matched), (leading.conf_state, {}))

    def test_a_follower_refuses(self) -> None:
        """It names the leader, and nothing is changed."""
        answer = self.change(self.other, (ADD, 13))

        assert isinstance(answer, Refused)
        self.assertEqual((answer.code, answer.leader, answer.maybe_applied), (NOT_LEADER, self.leader, False))
        self.assertEqual(self.status(self.leader).conf_state.learners, ())

    def test_what_cannot_be_is_refused(self) -> None:
        """A group without voters is nobody's wish."""
        answer = self.change(self.leader, (REMOVE, 10), (REMOVE, 11), (REMOVE, 12))

        assert isinstance(answer, Refused)
        self.assertFalse(answer.maybe_applied)
        self.assertEqual(self.status(self.leader).conf_state.voters, (10, 11, 12))

    def test_a_lost_replica_is_replaced_under_a_new_id(self) -> None:
        """It says why it is lost; its successor on the same server begins empty and is exchanged for it."""
        for id_ in range(5):
            self.balancer.write(id_)
        old = self.own_id(self.other)
        self.go_back_in_time(self.rig.servers[self.other])

        (lost,) = self.balancer.statuses(self.other).lost
        self.tell_all(self.replaced(old, 13, self.other), version=2)
        added = self.change(self.leader, (ADD, 13))
        self.rig.until(lambda: self.status(self.leader).matched.get(13) == self.status(self.leader).last_index)
        exchanged = self.change(self.leader, (PROMOTE, 13), (REMOVE, old))
        self.rig.run(0.5)

        self.assertEqual((lost.role, lost.replica_id), ("lost", old))
        self.assertIn("this log ends at 2", lost.reason)
        self.assertIsInstance(added, Applied)
        self.assertIsInstance(exchanged, Applied)
        conf = self.status(self.leader).conf_state
        self.assertEqual((set(conf.voters), conf.voters_outgoing), ({10, 11, 12, 13} - {old}, ()))
        self.assertEqual(self.balancer.write(9), Stored(1))
        self.rig.run(0.5)
        self.assertEqual(len(self.rig.servers[self.other].rows()), 6)
        self.assertEqual(self.balancer.statuses(self.other).lost, ())

    def go_back_in_time(self, server: Server) -> None:
        """Kill a server and start it on a disk that lost what it had acknowledged; wait until that is found out."""
        disk = server.disk
        server.kill()
        found = disk.recovered[1]
        disk.recovered[1] = replace(found, entries=found.entries[:2], hard_state=HardState(found.hard_state.term, 0, 2))
        disk.stores.clear()
        started = self.rig.start(disk.identity.name, disk=disk)
        self.rig.until(lambda: bool(started.database.host.quarantined))
