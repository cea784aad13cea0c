"""A whole cluster in memory whose servers are killed and cut off while clients write and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from lbnode.test.cluster import Cluster
from lbnode.test.conformance import CONFIG, row
from lbnode.test.door import Call, MemoryDoor


class ClusterCase(SynchronousTestCase):
    """A cluster with a table, by default that of the conformance suites: three servers, each with every shard."""

    config = CONFIG

    def setUp(self) -> None:
        """Start it, and make the table."""
        self.cluster = Cluster(Path(self.mktemp()))
        self.addCleanup(self.cluster.stop)
        self.door = MemoryDoor(self.cluster.clock, self.cluster.site(lean=True))
        self.assertEqual(self.begin("POST", "/init", self.config).reply().status, 200)

    def begin(self, method: str, path: str, value: Any = None) -> Call:
        """Send a request."""
        return self.door.begin(method, path, b"" if value is None else msgspec.json.encode(value))

    def begin_write(self, *keys: int) -> Call:
        """Send a write."""
        return self.begin("POST", "/write", {"data": [row(key) for key in keys]})

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.cluster.clock.pump([0.01] * round(seconds * 100))

    def ids(self) -> list[int]:
        """Return the ids in the table."""
        answer = self.begin("POST", "/read", {"Stud_id": {"low": 0, "high": 16_383}}).reply()
        self.assertEqual(answer.status, 200, answer.body)
        return [one["Stud_id"] for one in answer.json["data"]]

    def home_of(self, server: str) -> str:
        """Return the home of a server."""
        home: str = self.begin("GET", "/status").reply().json["server_states"][server]["home"]
        return home

    def leader_of(self, shard: str) -> str:
        """Return the server that leads a shard."""
        leader: str = self.begin("GET", "/primary_elect").reply().json[shard]
        return leader


class Killed(ClusterCase):
    def test_clients_do_not_notice_that_a_leader_is_killed(self) -> None:
        """Writes and reads that run while a leader dies all succeed, and each write is there once."""
        leader = self.leader_of("sh1")
        home = self.home_of(leader)
        writes, reads = [], []
        for key in range(60):
            writes.append(self.begin_write(key, 4096 + key, 8192 + key))
            reads.append(self.begin("POST", "/read", {"Stud_id": {"low": key, "high": key}}))
            if key == 30:
                self.cluster.launcher.kill(home)
            self.pass_time(0.01)

        self.assertEqual({call.reply().status for call in writes}, {200})
        self.assertEqual({call.reply().status for call in reads}, {200})
        self.assertEqual(self.ids(), [first + key for first in (0, 4096, 8192) for key in range(60)])

    def test_reads_see_every_write_acknowledged_before(self) -> None:
        """Right after a write is acknowledged every replica's read has it, also while a server is dead."""
        self.cluster.launcher.kill(self.home_of("Server2"))
        for key in range(20):
            self.assertEqual(self.begin_write(key).reply().status, 200)

            reads = [self.begin("POST", "/read", {"Stud_id": {"low": key, "high": key}}) for _ in range(4)]

            for call in reads:
                self.assertEqual([one["Stud_id"] for one in call.reply().json["data"]], [key])


class WithoutMajority(ClusterCase):
    def test_shards_say_so_and_come_back(self) -> None:
        """With one server of three left a write is 503 or 504, never a success; nothing acknowledged is lost."""
        self.assertEqual(self.begin_write(1).reply().status, 200)
        network = self.cluster.launcher.network
        homes = [self.home_of(server) for server in ("Server0", "Server1", "Server2")]
        pairs = [(one, other) for one in homes for other in homes if one < other]
        for one, other in pairs:
            network.cut(one, other)
        self.pass_time(2)

        write, read = (
            self.begin_write(2).reply(),
            self.begin("POST", "/read", {"Stud_id": {"low": 1, "high": 1}}).reply(),
        )
        for one, other in pairs:
            network.heal(one, other)

        self.assertIn((write.status, write.json["applied"]), {(503, "no"), (504, "unknown")})
        self.assertEqual((read.status, read.json["code"]), (503, "no_quorum"))
        self.assertEqual(self.begin_write(3).reply().status, 200)
        self.assertLessEqual({1, 3}, set(self.ids()))
