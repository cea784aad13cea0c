"""A follower of a real balancer over real servers, all in memory: what it does by itself, and what when left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from lbnode.forwarding import HOPS_HEADER
from lbnode.test.balancers import pass_time
from lbnode.test.door import Call, MemoryDoor, Reply
from lbnode.test.followed_cluster import FollowedCluster

TABLE: dict[str, Any] = {
    "N": 6,
    "schema": {"columns": ["Stud_id", "Stud_name", "Stud_marks"], "dtypes": ["Number", "String", "String"]},
    "shards": [{"Stud_id_low": 100 * n, "Shard_id": f"sh{n + 1}", "Shard_size": 100} for n in range(2)],
    "servers": {f"Server{n}": ["sh1"] if n < 3 else ["sh2"] for n in range(6)},
}
FIRST_HALF = ["Server0", "Server1", "Server2"]
ALL = {"Stud_id": {"low": 0, "high": 99}}


class FollowerCase(SynchronousTestCase):
    connected = True

    def setUp(self) -> None:
        """Have a cluster without a table, and a follower of its balancer."""
        self.cluster = FollowedCluster(Path(self.mktemp()), connected=self.connected)
        self.addCleanup(self.cluster.stop)
        self.follower = MemoryDoor(self.cluster.clock, self.cluster.follower_site())
        self.balancer = MemoryDoor(self.cluster.clock, self.cluster.site(lean=True))

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        pass_time(self.cluster.clock, until=lambda: False, seconds_max=seconds)

    def begin(self, method: str, path: str, value: Any = None, *, at: MemoryDoor | None = None, hops: int = 0) -> Call:
        """Send a request to the follower, or to another door."""
        headers = {HOPS_HEADER.decode(): str(hops)} if hops else None
        body = b"" if value is None else msgspec.json.encode(value)
        return (at or self.follower).begin(method, path, body, headers)

    def ask(self, method: str, path: str, value: Any = None, *, at: MemoryDoor | None = None) -> Reply:
        """Send a request and wait for the answer."""
        return self.begin(method, path, value, at=at).reply()

    def write(self, id_: int) -> Call:
        """Begin to write a row through the follower."""
        return self.begin("POST", "/write", {"data": [{"Stud_id": id_, "Stud_name": "Ada", "Stud_marks": 27}]})

    def ids(self) -> list[int]:
        """Return the ids of all rows, read through the follower."""
        return [row["Stud_id"] for row in self.ask("POST", "/read", ALL).json["data"]]

    def check_refused(self, reply: Reply, status: int, code: str) -> dict[str, Any]:
        """Check the code of an error, and return its JSON."""
        self.assertEqual((reply.status, reply.json["code"]), (status, code), reply.body)
        told: dict[str, Any] = reply.json
        return told


class UnknowingTests(FollowerCase):
    connected = False

    def test_says_so(self) -> None:
        """Whatever takes the catalog is refused with when to try again; that the process lives can be told."""
        for method, path, value in (
            ("POST", "/read", ALL),
            ("PUT", "/update", {"Stud_id": 1, "data": {}}),
            ("GET", "/read/Server0", None),
            ("GET", "/readyz", None),
            ("GET", "/status", None),
            ("GET", "/rep", None),
        ):
            reply = self.ask(method, path, value)
            error = self.check_refused(reply, 503, "no_catalog")
            self.assertEqual(reply.headers["retry-after"], "1")
            self.assertIn("connection refused", error["message"])
            self.assertEqual(error.get("applied"), "no" if path == "/update" else None)
        self.assertEqual(self.ask("GET", "/healthz").status, 200)

    def test_changes_of_the_cluster(self) -> None:
        """There is nobody to pass them on to."""
        error = self.check_refused(self.ask("POST", "/init", TABLE), 503, "no_controller")
        self.assertEqual(error["applied"], "no")

    def test_once_it_knows(self) -> None:
        """As soon as the balancer answers, so does the follower."""
        self.cluster.reconnect()
        self.pass_time(6)

        self.check_refused(self.ask("POST", "/read", ALL), 409, "not_initialised")


class LeftAloneTests(FollowerCase):
    def setUp(self) -> None:
        """Have a table with one row on three of six servers, and lose the balancer."""
        super().setUp()
        self.pass_time(1)
        self.assertEqual(self.ask("POST", "/init", TABLE).status, 200)
        self.assertEqual(self.write(1).reply().status, 200)
        self.cluster.cut_off()
        self.pass_time(10)

    def test_goes_on_serving(self) -> None:
        """Data requests need no balancer; whoever asks is told that there is none."""
        self.assertEqual(self.write(2).reply().status, 200)

        self.assertEqual(self.ids(), [1, 2])
        self.assertEqual(self.ask("GET", "/rep").json["message"]["N"], 6)
        self.assertIn(self.ask("GET", "/primary_elect").json["sh1"], FIRST_HALF)
        ready = self.ask("GET", "/readyz")
        self.assertEqual((ready.status, ready.json["follower"]["balancer"]), (200, None))
        self.assertGreater(ready.json["follower"]["lost_for_seconds"], 4)
        self.assertIn("connection refused", ready.json["follower"]["reason"])

    def test_status_from_the_servers(self) -> None:
        """Without a balancer the status is what the servers say, those that do not answer included."""
        home = next(home for home in self.cluster.launcher.homes if home.startswith("Server5"))
        self.cluster.launcher.network.cut(home, "follower-1")
        self.pass_time(0.5)

        status = self.ask("GET", "/status").json

        self.assertEqual((status["N"], status["shards"][0]["Shard_id"]), (6, "sh1"))
        states = {name: server["state"] for name, server in status["server_states"].items()}
        self.assertEqual(states, {**dict.fromkeys(states, "up"), "Server5": "down"})
        self.assertEqual([one["state"] for one in status["shards"][0]["replicas"]], ["serving"] * 3)
        self.assertIsNone(status["follower"]["balancer"])

    def test_replicas_that_moved(self) -> None:
        """Where all replicas are gone a request waits, and is served once the follower hears where they are now."""
        self.assertEqual(self.ask("POST", "/rm", {"n": 3, "servers": FIRST_HALF}, at=self.balancer).status, 200)

        read, write = self.begin("POST", "/read", ALL), self.write(2)
        self.pass_time(3)
        self.assertFalse(read.answered or write.answered)
        self.cluster.reconnect()

        self.assertEqual((read.reply().status, write.reply().status), (200, 200))
        self.assertEqual(self.ids(), [1, 2])

    def test_another_table(self) -> None:
        """What is written to a table that was dropped meanwhile is refused as not applied, and not acknowledged."""
        self.assertEqual(self.ask("POST", "/init", {**TABLE, "replace": True}, at=self.balancer).status, 200)

        refused = self.check_refused(self.write(2).reply(), 503, "no_quorum")
        self.cluster.reconnect()
        self.pass_time(6)

        self.assertEqual(refused["applied"], "no")
        self.assertEqual(self.ids(), [])


class PassingOnTests(FollowerCase):
    def setUp(self) -> None:
        """Have a follower that knows its balancer."""
        super().setUp()
        self.pass_time(1)

    def test_what_was_promised_is_there(self) -> None:
        """Whoever made a table at the balancer finds it at the follower, at once."""
        self.assertEqual(self.ask("POST", "/init", TABLE, at=self.balancer).status, 200)

        self.assertEqual(self.write(1).reply().status, 200)

    def test_status(self) -> None:
        """The balancer's word, with who passed it on."""
        status = self.ask("GET", "/status").json

        self.assertEqual((status["N"], status["cluster_id"]), (0, "c1"))
        self.assertEqual(status["follower"]["balancer"], "http://10.0.0.1:5000")
        self.assertEqual(status["follower"]["catalog_version"], status["version"])

    def test_a_balancer_that_hangs(self) -> None:
        """The status is soon told without it; of a change that was passed on nobody knows what will become of it."""
        self.cluster.agent.silent = True
        begun_seconds = self.cluster.clock.seconds()

        status = self.ask("GET", "/status").json

        self.assertEqual(status["N"], 0)
        self.assertLess(self.cluster.clock.seconds() - begun_seconds, 5)
        init = self.begin("POST", "/init", TABLE)
        self.pass_time(601)
        self.assertEqual(self.check_refused(init.reply(), 504, "outcome_unknown")["applied"], "unknown")

    def test_nothing_goes_in_circles(self) -> None:
        """What was passed on too often is passed on no more."""
        reply = self.begin("POST", "/init", TABLE, hops=9).reply()

        self.check_refused(reply, 503, "no_controller")

    def test_nobody_follows_a_follower(self) -> None:
        """It has no catalog of its own to give."""
        self.check_refused(
            self.ask("POST", "/catalog", {"follower": "x", "after": 0, "wait_seconds": 1}), 404, "no_catalog"
        )

    def test_metrics_name_the_process(self) -> None:
        """The figures are those of the process that was asked, and say which that is."""
        text = self.ask("GET", "/metrics").body

        self.assertIn(b'shardlb_process_info{name="follower-1",role="follower"} 1.0', text)
        self.assertIn(b"shardlb_catalog_lost_seconds 0.0", text)
        balancer = self.ask("GET", "/metrics", at=self.balancer).body
        self.assertIn(b'role="balancer"', balancer)
        self.assertIn(b"shardlb_followers 1.0", balancer)
