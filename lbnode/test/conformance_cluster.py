"""POST /init, and what GET tells of the cluster."""

from __future__ import annotations

from typing import Any

import msgspec

from lbnode.test.conformance import CONFIG, ConformanceCase, row

SHARDS = {"sh1", "sh2", "sh3", "sh4"}


class Init(ConformanceCase):
    def test_same_configuration_again(self) -> None:
        """The same /init again is a success that changes nothing."""
        self.stored(row(7))

        reply = self.call("POST", "/init", CONFIG)

        self.assertEqual((reply.status, reply.body), (200, b'{"message":"Configured Database","status":"success"}'))
        self.assertEqual(self.rows(), [row(7)])

    def test_another_configuration(self) -> None:
        """Another configuration is a 409 and changes nothing, unless it says that it replaces the table."""
        self.stored(row(7))
        other = {**CONFIG, "shards": CONFIG["shards"][:3], "servers": {"a": ["sh1", "sh2", "sh3"]}}

        self.refuse(409, "already_initialised", "POST", "/init", other, "replace")
        kept = self.rows()
        self.succeed("POST", "/init", {**other, "replace": True})

        self.assertEqual(kept, [row(7)])
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.succeed("GET", "/rep")["message"], {"N": 1, "replicas": ["a"]})

    def test_other_columns(self) -> None:
        """With another key column its own name stands wherever Stud_id stood."""
        self.succeed(
            "POST",
            "/init",
            {
                "n": 1,
                "SCHEMA": {"columns": ["city", "ünits"], "dtypes": ["Number", "String"]},
                "shards": [{"city_low": -5, "Shard_id": "only", "Shard_size": 10}],
                "replace": True,
            },
        )

        self.succeed("POST", "/write", {"data": [{"city": -5, "ünits": "a"}, {"city": 4, "ünits": None}]})
        updated = self.succeed("PUT", "/update", {"city": -5, "data": {"ünits": 2}})
        removed = self.succeed("DELETE", "/del", {"City": "4"})
        read = self.succeed("POST", "/read", {"city": {"low": -100, "high": 100}})
        status = self.succeed("GET", "/status")

        self.assertEqual(updated["message"], "Data entry for city: -5 updated")
        self.assertEqual(removed["message"], "Data entry with city:4 removed from all replicas")
        self.assertEqual(read["data"], [{"city": -5, "ünits": 2}])
        self.assertEqual(status["shards"][0]["city_low"], -5)
        self.refuse(400, "missing_field", "POST", "/read", {"Stud_id": {"low": 0, "high": 1}}, "city")

    def test_refused_as_a_whole(self) -> None:
        """What cannot be is refused before anything is touched."""
        self.stored(row(7))
        for change, code in (
            ({"schema": {"columns": ["a"], "dtypes": ["String"]}}, "bad_schema"),
            ({"schema": {"columns": ["a", "a"], "dtypes": ["Number", "String"]}}, "bad_schema"),
            ({"shards": []}, "bad_shard"),
            ({"shards": [*CONFIG["shards"], CONFIG["shards"][0]]}, "duplicate_shard"),
            ({"shards": [{"Stud_id_low": 0, "Shard_id": "status", "Shard_size": 1}]}, "bad_name"),
            ({"shards": [{"Stud_id_low": 0, "Shard_id": "sh1", "Shard_size": 0}]}, "bad_count"),
            ({"servers": {"a": ["sh1", "sh2", "sh3"]}}, "unplaced_shard"),
            ({"servers": {"a": ["sh1", "sh2", "sh3", "sh4", "sh5"]}}, "unknown_shard"),
            ({"servers": {"a/b": []}}, "bad_name"),
            ({"servers": None, "N": 0}, "bad_count"),
            ({"servers": None, "N": 2, "replicas": 3}, "too_many_replicas"),
            ({"servers": None, "N": None}, "missing_field"),
        ):
            self.refuse(400, code, "POST", "/init", {**CONFIG, **change, "replace": True})

        self.assertEqual(self.rows(), [row(7)])

    def test_equal_keys_are_no_table(self) -> None:
        """A server named twice in the JSON is refused instead of being lost."""
        body = msgspec.json.encode(CONFIG).replace(b'"Server1"', b'"Server0"')

        self.check_refused(self.door.send("POST", "/init", body), 400, "duplicate_key", "Server0")

    def test_overlapping_shards(self) -> None:
        """Ids that would belong to two shards are refused, and both shards named."""
        shards = [
            {"Stud_id_low": 0, "Shard_id": "a", "Shard_size": 11},
            {"Stud_id_low": 10, "Shard_id": "b", "Shard_size": 5},
        ]

        self.refuse(400, "overlap", "POST", "/init", {"N": 1, "schema": CONFIG["schema"], "shards": shards}, "a", "b")


class Cluster(ConformanceCase):
    def test_status(self) -> None:
        """/status tells the configuration as it was given, with a primary of each shard and its replicas."""
        status = self.succeed("GET", "/status")

        self.assertEqual(status["N"], 3)
        self.assertEqual(status["schema"], CONFIG["schema"])
        shards = [{name: shard[name] for name in CONFIG["shards"][0]} for shard in status["shards"]]
        self.assertEqual(shards, CONFIG["shards"])
        self.assertEqual({name: set(held) for name, held in status["servers"].items()}, self._expected_servers())
        for shard in status["shards"]:
            servers = {replica["server"] for replica in shard["replicas"]}
            self.assertEqual(servers, {"Server0", "Server1", "Server2"})
            self.assertIn(shard["primary"], servers)

    def test_primary_elect(self) -> None:
        """/primary_elect names one of its servers for each shard."""
        answer = self.succeed("GET", "/primary_elect")

        self.assertEqual(answer.pop("status"), "success")
        self.assertEqual(answer.keys(), SHARDS)
        self.assertLessEqual(set(answer.values()), {"Server0", "Server1", "Server2"})

    def test_rep(self) -> None:
        """/rep names the servers."""
        answer = self.succeed("GET", "/rep")

        self.assertEqual(answer["status"], "successful")
        self.assertEqual(
            (answer["message"]["N"], set(answer["message"]["replicas"])), (3, set(self._expected_servers()))
        )

    def test_health(self) -> None:
        """The process is alive and able to serve."""
        self.assertEqual(self.succeed("GET", "/healthz")["status"], "success")
        self.assertEqual(self.succeed("GET", "/readyz")["status"], "success")

    def test_metrics(self) -> None:
        """/metrics is Prometheus' text with a line for the requests of each endpoint."""
        self.stored(row(7))

        reply = self.call("GET", "/metrics")

        self.assertEqual(reply.status, 200)
        self.assertTrue(reply.headers["content-type"].startswith("text/plain"))
        self.assertIn(b'shardlb_requests_total{endpoint="write",status="200"}', reply.body)

    def _expected_servers(self) -> dict[str, Any]:
        return dict.fromkeys(("Server0", "Server1", "Server2"), SHARDS)


class BeforeInit(ConformanceCase):
    """Only for a balancer that has never had a table."""

    def setUp(self) -> None:
        """Open the door, and nothing else."""
        self.door = self.open()

    def test_data_requests(self) -> None:
        """Before /init every data request is a 409, whatever is in it."""
        for method, path, request in (
            ("POST", "/read", {"Stud_id": {"low": 0, "high": 1}}),
            ("GET", "/read/Server0", None),
            ("POST", "/write", {"data": [row(1)]}),
            ("POST", "/write", {"data": []}),
            ("PUT", "/update", {"Stud_id": 1, "data": {}}),
            ("DELETE", "/del", {"Stud_id": 1}),
        ):
            error = self.refuse(409, "not_initialised", method, path, request, "/init")
            self.assertEqual(error.get("applied"), None if "read" in path else "no")

    def test_resizing(self) -> None:
        """There is nothing yet that could grow or shrink, whatever is asked for."""
        for method, path in (("POST", "/add"), ("DELETE", "/rm"), ("POST", "/rm")):
            self.refuse(409, "not_initialised", method, path, {"n": -1}, "/init")

    def test_cluster_requests(self) -> None:
        """/status shows N 0 and empty lists, and nobody is ready."""
        status = self.succeed("GET", "/status")

        self.assertEqual((status["N"], status["shards"], status["servers"]), (0, [], {}))
        self.assertEqual(status["schema"], {"columns": [], "dtypes": []})
        self.assertEqual(self.succeed("GET", "/rep")["message"], {"N": 0, "replicas": []})
        self.assertEqual(self.succeed("GET", "/primary_elect"), {"status": "success"})
        self.succeed("GET", "/healthz")
        self.check_refused(self.call("GET", "/readyz"), 503, "not_ready", "/init")

    def test_init_without_servers(self) -> None:
        """N alone makes Server0 to Server<N-1>, with three copies of each shard."""
        self.succeed("POST", "/init", {**CONFIG, "N": 4, "servers": None})

        status = self.succeed("GET", "/status")
        self.assertEqual(set(status["servers"]), {"Server0", "Server1", "Server2", "Server3"})
        self.assertEqual([len(shard["replicas"]) for shard in status["shards"]], [3, 3, 3, 3])
        self.stored(row(0))
