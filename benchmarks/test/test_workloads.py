"""Tests of benchmarks.workloads."""

from __future__ import annotations

from random import Random

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.workloads import (
    A_1,
    A_2,
    A_3,
    LayoutError,
    Record,
    TableFullError,
    check_layout,
    delete_requests,
    draw_records,
    read_requests,
    write_requests,
)


class Layouts(SynchronousTestCase):
    def test_replicas(self) -> None:
        """A-1 has three replicas of each shard on six servers, A-2 seven on seven."""
        for workload, servers, replicas in ((A_1, 6, 3), (A_2, 7, 7)):
            held = [shard for shards in workload.servers.values() for shard in shards]

            self.assertEqual(len(workload.servers), servers)
            self.assertEqual({held.count(shard.name) for shard in workload.shards}, {replicas})

    def test_shards_cover_their_ids(self) -> None:
        """Every id up to the capacity is in one shard."""
        found = {A_1.shard_of(row_id) for row_id in (0, 4095, 4096, 8192, 16383)}

        self.assertEqual(A_1.capacity(), 16384)
        self.assertEqual(found, {"sh1", "sh2", "sh3", "sh4"})

    def test_status_of_the_same_cluster(self) -> None:
        """A status with the workload's layout passes, whatever else it tells and whoever the servers are."""
        status = A_1.init_request()
        status["shards"] = [{**shard, "primary": "Server0"} for shard in reversed(status["shards"])]
        status["servers"] = {f"Db{number}": shards for number, shards in enumerate(A_1.servers.values())}

        check_layout(status, A_1)

    def test_growth(self) -> None:
        """A-3 is A-1, four open servers, two shards after its own, and eight copies of each shard."""
        growth = A_3.add_request()

        assert growth is not None
        self.assertEqual(A_3.init_request(), A_1.init_request())
        self.assertEqual((growth["n"], growth["replicas"], list(growth["servers"].values())), (4, 8, [()] * 4))
        self.assertEqual([shard["Stud_id_low"] for shard in growth["new_shards"]], [16384, 20480])
        self.assertIsNone(A_1.add_request())

    def test_status_of_a_grown_cluster(self) -> None:
        """Wherever the balancer placed the copies, their number must be right."""
        names = [shard.name for shard in A_3.shards]
        shards = [{"Stud_id_low": s.low, "Shard_id": s.name, "Shard_size": s.size} for s in A_3.shards]
        servers = {f"Server{number}": list(names) if number < 8 else [] for number in range(10)}
        status = {**A_1.init_request(), "shards": shards, "servers": servers}

        check_layout(status, A_3)
        servers["Server9"] = ["sh1"]

        self.assertRaises(LayoutError, check_layout, status, A_3)

    def test_status_of_another_cluster(self) -> None:
        """Another placement is refused by its name, and so is a balancer without a table."""
        other = self.assertRaises(LayoutError, check_layout, A_2.init_request(), A_1)
        empty = self.assertRaises(LayoutError, check_layout, {"N": 0, "shards": [], "servers": {}}, A_1)

        self.assertIn("other servers", str(other))
        self.assertIn("/init", str(empty))


class Draws(SynchronousTestCase):
    def test_distinct_free_ids(self) -> None:
        """Ids are distinct and in range, and not among the taken ones."""
        taken = set(range(100, 16384))

        records = draw_records(A_1, 100, 5, Random(1), taken)

        self.assertEqual(sorted(record.Stud_id for record in records), list(range(100)))
        self.assertEqual({len(record.Stud_name) for record in records}, {5})

    def test_seed(self) -> None:
        """The same seed gives the same records, another one others."""
        first, again, other = (draw_records(A_1, 50, 8, Random(seed)) for seed in (1, 1, 2))

        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_full(self) -> None:
        """More rows than free ids is an error that says how many there are."""
        failure = self.assertRaises(TableFullError, draw_records, A_1, 11, 8, Random(1), set(range(16374)))

        self.assertIn("10 are free", str(failure))


class Requests(SynchronousTestCase):
    def test_bodies(self) -> None:
        """Requests are those of the contract, with the length of their body."""
        record = Record(7, "Ada", 99)

        texts = [
            make([record], "h:1")[0].decode().split("\r\n") for make in (write_requests, read_requests, delete_requests)
        ]

        self.assertEqual([text[0] for text in texts], [f"{what} HTTP/1.1" for what in ROUTES])
        self.assertEqual([msgspec.json.decode(text[-1]) for text in texts], list(ROUTES.values()))
        self.assertEqual([text[3] for text in texts], [f"Content-Length: {len(text[-1])}" for text in texts])


ROUTES = {
    "POST /write": {"data": [{"Stud_id": 7, "Stud_name": "Ada", "Stud_marks": 99}]},
    "POST /read": {"Stud_id": {"low": 7, "high": 7}},
    "DELETE /del": {"Stud_id": 7},
}
