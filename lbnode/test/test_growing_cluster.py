"""A whole cluster in memory that grows to ten servers and shrinks to six again while clients write and read."""

from __future__ import annotations

from typing import Any

from lbnode.test.door import Call
from lbnode.test.test_cluster import ClusterCase

#: The default table: six servers, four shards, three copies of each.
A_1: dict[str, Any] = {
    "N": 6,
    "schema": {"columns": ["Stud_id", "Stud_name", "Stud_marks"], "dtypes": ["Number", "String", "String"]},
    "shards": [{"Stud_id_low": 4096 * n, "Shard_id": f"sh{n + 1}", "Shard_size": 4096} for n in range(4)],
    "servers": {
        "Server0": ["sh1", "sh2"],
        "Server1": ["sh3", "sh4"],
        "Server3": ["sh1", "sh3"],
        "Server4": ["sh4", "sh2"],
        "Server5": ["sh1", "sh4"],
        "Server6": ["sh3", "sh2"],
    },
}


class Growing(ClusterCase):
    config = A_1

    def under_load(self, method: str, path: str, request: dict[str, Any]) -> Any:
        """Send a request that takes a while, with clients that write and read until it is answered."""
        operation = self.begin(method, path, request)
        while not operation.answered:
            self.load.append(self.begin_write(*(self.next_id + 4096 * n for n in range(4))))
            self.load.append(self.begin("POST", "/read", {"Stud_id": {"low": 0, "high": self.next_id}}))
            self.next_id += 1
            self.pass_time(0.05)
        reply = operation.reply()
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json

    def test_to_ten_and_back(self) -> None:
        """No client sees an error, no write is lost, every replica holds everything, and all is even, three times."""
        self.load: list[Call] = []
        self.next_id = 0
        for _ in range(3):
            self.under_load("POST", "/add", {"n": 4, "servers": {f"New{n}$": [] for n in range(4)}})
            self.check_even(servers=10)
            self.under_load("DELETE", "/rm", {"n": 4})
            self.check_even(servers=6)

        self.assertEqual({call.reply().status for call in self.load}, {200})
        expected = [first + 4096 * n for n in range(4) for first in range(self.next_id)]
        self.assertGreater(len(expected), 100)
        self.assertEqual(self.ids(), expected)
        self.check_replicas(self.next_id)

    def check_even(self, *, servers: int) -> None:
        """Check that replicas and leaders are spread evenly, three copies of each shard, once leaders were moved."""
        self.pass_time(12)
        status = self.begin("GET", "/status").reply().json
        self.assertEqual((status["N"], status["operation"]), (servers, None))
        counts = [len(shards) for shards in status["servers"].values()]
        self.assertLessEqual(max(counts) - min(counts), 1, status["servers"])
        self.assertEqual([len(shard["replicas"]) for shard in status["shards"]], [3] * 4)
        self.assertEqual(len({shard["primary"] for shard in status["shards"]}), 4)
        self.assertEqual(self.cluster.launcher.homes, {one["home"] for one in status["server_states"].values()})

    def check_replicas(self, rows: int) -> None:
        """Check that each replica on each server holds so many rows."""
        for server, shards in self.begin("GET", "/status").reply().json["servers"].items():
            held = self.begin("GET", f"/read/{server}").reply().json
            self.assertEqual({shard: len(held[shard]) for shard in shards}, dict.fromkeys(shards, rows), server)
