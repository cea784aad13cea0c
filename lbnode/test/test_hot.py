"""The data requests when shards do not do what they should; what they do otherwise is in the conformance suites."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from lbnode.router import RouterOptions
from lbnode.test.conformance import CONFIG, row
from lbnode.test.door import Call, MemoryDoor, Reply
from lbnode.test.memory_balancer import MemoryBalancer


class FaultCase(SynchronousTestCase):
    """A balancer with the table of the conformance suites, whose deadline is two seconds."""

    def setUp(self) -> None:
        """Make the table."""
        self.balancer = MemoryBalancer(RouterOptions(deadline_seconds=2.0))
        self.shards = self.balancer.shards
        self.door = MemoryDoor(self.balancer.clock, self.balancer.site(lean=True))
        self.assertEqual(self.call("POST", "/init", CONFIG).status, 200)

    def begin(self, method: str, path: str, value: Any) -> Call:
        """Send a request; its answer is waited for later."""
        return self.door.begin(method, path, msgspec.json.encode(value))

    def call(self, method: str, path: str, value: Any) -> Reply:
        """Send a request and wait for its answer."""
        return self.begin(method, path, value).reply()

    def stored(self) -> list[int]:
        """Return the ids in the table."""
        answer = self.call("POST", "/read", {"Stud_id": {"low": 0, "high": 20_000}})
        return [one["Stud_id"] for one in answer.json["data"]]


class Unavailable(FaultCase):
    def test_shard_without_a_leader(self) -> None:
        """At the deadline a change that was certainly not made is 503 with Retry-After and applied no."""
        self.shards.leaderless = {1}
        for method, path, request in (
            ("POST", "/write", {"data": [row(1)]}),
            ("PUT", "/update", {"Stud_id": 1, "data": {"Stud_name": "x"}}),
            ("DELETE", "/del", {"Stud_id": 1}),
        ):
            reply = self.call(method, path, request)

            self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "1"))
            self.assertEqual((reply.json["code"], reply.json["applied"]), ("no_quorum", "no"))
            self.assertIn("sh1", reply.json["message"])

    def test_read_of_a_shard_without_a_leader(self) -> None:
        """At the deadline a read is 503 with Retry-After."""
        self.shards.leaderless = {1}

        reply = self.call("POST", "/read", {"Stud_id": {"low": 0, "high": 9000}})

        self.assertEqual((reply.status, reply.json["code"], reply.headers["retry-after"]), (503, "no_quorum", "1"))

    def test_stale_read_needs_no_leader(self) -> None:
        """Whoever asks for a stale read gets it from any replica."""
        self.shards.leaderless = {1}

        reply = self.call("POST", "/read", {"Stud_id": {"low": 0, "high": 9}, "consistency": "stale"})

        self.assertEqual((reply.status, reply.json["data"]), (200, []))

    def test_requests_are_held_until_there_is_a_leader(self) -> None:
        """Within the deadline nobody notices that there was no leader for a while."""
        self.shards.leaderless = {1}
        write = self.begin("POST", "/write", {"data": [row(1)]})
        read = self.begin("POST", "/read", {"Stud_id": {"low": 1, "high": 1}})
        self.balancer.clock.pump([0.01] * 100)

        self.shards.leaderless = set()

        self.assertEqual((write.reply().status, read.reply().status), (200, 200))
        self.assertEqual(self.stored(), [1])

    def test_some_shards_without_a_leader(self) -> None:
        """A write over several shards tells what was stored and what was not."""
        self.shards.leaderless = {2}

        reply = self.call("POST", "/write", {"data": [row(1), row(5000)]})

        self.assertEqual((reply.status, reply.json["applied"]), (503, "partial"))
        self.assertEqual(reply.json["shards"], {"sh1": {"stored": [1]}, "sh2": {"refused": [5000]}})


class OneServer(FaultCase):
    def read_server(self, server: str) -> Reply:
        """Return the answer of GET /read/<server>."""
        return self.door.send("GET", f"/read/{server}")

    def test_server_that_is_gone(self) -> None:
        """What a dead server holds cannot be told, though all other servers would know it."""
        self.shards.gone = {"Server1"}

        dead, other = self.read_server("Server1"), self.read_server("Server0")

        self.assertEqual(
            (dead.status, dead.json["code"], dead.headers["retry-after"]), (503, "server_unavailable", "1")
        )
        self.assertIn("Server1", dead.json["message"])
        self.assertEqual(other.status, 200)

    def test_server_that_is_asked_is_the_only_one(self) -> None:
        """Nothing is read from another server than the one named."""
        self.shards.asked.clear()

        self.read_server("Server2")

        self.assertEqual({server for server, _ in self.shards.asked}, {"Server2"})

    def test_server_without_a_leader_tells_what_it_has(self) -> None:
        """A replica that cannot catch up with its leader still shows its rows."""
        self.assertEqual(self.call("POST", "/write", {"data": [row(7)]}).status, 200)
        self.shards.leaderless = {1}

        reply = self.read_server("Server0")

        self.assertEqual(reply.json["sh1"], [row(7)])


class Unknown(FaultCase):
    def setUp(self) -> None:
        """Let shard 1 have a session already, and then answer no change any more."""
        super().setUp()
        self.assertEqual(self.call("POST", "/write", {"data": [row(0)]}).status, 200)
        self.shards.forgetful = {1}

    def test_outcome_unknown(self) -> None:
        """A change whose shard never said what became of it is 504 and applied unknown, never success or failure."""
        for method, path, request in (
            ("POST", "/write", {"data": [row(1)]}),
            ("PUT", "/update", {"Stud_id": 0, "data": {"Stud_name": "x"}}),
            ("DELETE", "/del", {"Stud_id": 0}),
        ):
            reply = self.call(method, path, request)

            self.assertEqual((reply.status, reply.headers["retry-after"]), (504, "1"))
            self.assertEqual((reply.json["code"], reply.json["applied"]), ("outcome_unknown", "unknown"))

    def test_one_of_several_shards_unknown(self) -> None:
        """One unknown part makes the whole answer 504, and each shard's part is told."""
        reply = self.call("POST", "/write", {"data": [row(1), row(5000)]})

        self.assertEqual((reply.status, reply.json["applied"]), (504, "unknown"))
        self.assertEqual(reply.json["shards"], {"sh1": {"unknown": [1]}, "sh2": {"stored": [5000]}})

    def test_retry_under_an_idempotency_key_tells_what_became_of_it(self) -> None:
        """After a 504 the same request under the same key gets the outcome that the first one had."""
        request, headers = msgspec.json.encode({"data": [row(1)]}), {"Idempotency-Key": "k"}

        first = self.door.send("POST", "/write", request, headers)
        self.shards.forgetful = set()
        again = self.door.send("POST", "/write", request, headers)

        self.assertEqual((first.status, again.status), (504, 200))
        self.assertEqual(again.json["message"], "1 Data entries added")


class Bounds(FaultCase):
    def setUp(self) -> None:
        """Allow two reads to wait."""
        super().setUp()
        self.router = self.balancer.router
        self.router.options = RouterOptions(deadline_seconds=2.0, reads_waiting_max=2)

    def test_full_queue(self) -> None:
        """A read beyond the limit is 503 at once, while the others still wait."""
        self.shards.leaderless = {1}
        request = {"Stud_id": {"low": 1, "high": 1}}
        waiting = [self.begin("POST", "/read", request) for _ in range(2)]

        before_seconds = self.balancer.clock.seconds()
        refused = self.call("POST", "/read", request)
        elapsed_seconds = self.balancer.clock.seconds() - before_seconds

        self.assertEqual((refused.status, refused.json["code"]), (503, "overloaded"))
        self.assertLess(elapsed_seconds, 0.1)
        self.assertEqual([call.reply().json["code"] for call in waiting], ["no_quorum", "no_quorum"])


class Clients(FaultCase):
    def test_client_that_goes_away_does_not_cancel_a_write(self) -> None:
        """A write is carried out though nobody waits for its answer."""
        for key, lean in enumerate((False, True)):
            door = MemoryDoor(self.balancer.clock, self.balancer.site(lean=lean))
            door.begin("POST", "/write", msgspec.json.encode({"data": [row(key)]})).hang_up()
        self.balancer.clock.pump([0.01] * 10)

        self.assertEqual(self.stored(), [0, 1])
