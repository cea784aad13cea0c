"""A server's HTTP endpoints: the exact texts and codes of HTTP_API.md, on a server alone."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dbnode.test.server_rig import SCHEMA, Server, ServerRig, group_of_all, managed, row
from dbnode.test.web_rig import Reply

CONFIG = {"schema": SCHEMA.to_json(), "shards": ["sh1", "sh2"]}


class EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start a server alone with two shards."""
        self.rig = ServerRig()
        self.server: Server = self.rig.start("Server0", cluster_id="")
        self.configured = self.server.ask("POST", "/config", CONFIG)
        self.rig.leader()

    def write(self, *rows: dict[str, Any], shard: str = "sh1", **more: Any) -> Reply:
        """Write rows."""
        return self.server.ask("POST", "/write", {"shard": shard, "data": list(rows), **more})

    def read(self, low: Any, high: Any, shard: str = "sh1") -> Reply:
        """Read a range."""
        return self.server.ask("POST", "/read", {"shard": shard, "Stud_id": {"low": low, "high": high}})

    def check(self, reply: Reply, status: int, body: dict[str, Any]) -> None:
        """Check status and body; the body is exactly this."""
        self.assertEqual((reply.status, reply.json), (status, body))

    def check_refused(self, reply: Reply, status: int, code: str, part: str = "") -> None:
        """Check a failure: status, code, and what its message mentions."""
        self.assertEqual((reply.status, reply.code), (status, code), reply.body)
        self.assertIn(part, reply.json["message"])

    def test_config(self) -> None:
        """Each shard becomes a group of one, and the text names server and shards."""
        self.check(self.configured, 200, {"message": "Server0:sh1, Server0:sh2 configured", "status": "success"})

    def test_config_again(self) -> None:
        """The same or further shards are fine, another schema is not; rows stay."""
        self.write(row(1))
        more = self.server.ask("POST", "/config", {"Schema": SCHEMA.to_json(), "shards": ["sh1", "sh3"]})
        other = self.server.ask("POST", "/config", {"schema": {"columns": ["id"], "dtypes": ["Int"]}, "shards": ["x"]})

        self.check(more, 200, {"message": "Server0:sh1, Server0:sh3 configured", "status": "success"})
        self.check_refused(other, 409, "already_configured")
        self.assertEqual(len(self.read(0, 9).json["data"]), 1)
        self.assertEqual(self.write(row(1), shard="sh3").status, 200)

    def test_config_refused(self) -> None:
        """A configuration that cannot be meant is refused as a whole."""
        for told, code in (
            ({"shards": []}, "bad_config"),
            ({"shards": ["sh1", "sh1"]}, "bad_config"),
            ({"shards": ["status"]}, "bad_config"),
            ({"shards": "sh1"}, "bad_config"),
            ({}, "missing_field"),
            ({"schema": {"columns": ["id"], "dtypes": ["String"]}, "shards": ["sh1"]}, "bad_schema"),
        ):
            self.check_refused(self.server.ask("POST", "/config", told), 400, code)
        twice = b'{"shards":["sh1"],"shards":["sh2"]}'
        self.check_refused(self.server.ask("POST", "/config", twice), 400, "duplicate_key")

    def test_heartbeat_home_and_health(self) -> None:
        """The small endpoints say exactly what the contract says."""
        heartbeat = self.server.ask("GET", "/heartbeat")

        self.assertEqual((heartbeat.status, heartbeat.body), (200, b""))
        self.check(self.server.ask("GET", "/home"), 200, {"message": "Hello from Server: Server0", "status": "success"})
        self.check(self.server.ask("GET", "/healthz"), 200, {"status": "success", "quarantined": []})

    def test_write(self) -> None:
        """Rows are stored together; with curr_idx the answer counts on from it."""
        self.check(
            self.write(row(1), {**row(2), "Stud_id": "2"}), 200, {"message": "Data entries added", "status": "success"}
        )
        self.check(
            self.write(row(3), row(4), curr_idx=507),
            200,
            {"message": "Data entries added", "status": "success", "current_idx": 509},
        )
        self.check(self.write(), 200, {"message": "Data entries added", "status": "success"})

        self.assertEqual([one["Stud_id"] for one in self.read(0, 9).json["data"]], [1, 2, 3, 4])

    def test_write_refused(self) -> None:
        """All rows or none: what is wrong with one of them is said, and nothing is stored."""
        self.write(row(1))

        self.check_refused(self.write(row(2), row(1)), 409, "duplicate", "Stud_id 1 exists")
        self.assertEqual(self.write(row(2), row(1), row(2)).json["ids"], [1, 2])
        self.check_refused(self.write(row(2), {"Stud_id": 3}), 400, "missing_column", "data[1]")
        self.check_refused(self.write({**row(2), "Extra": 1}), 400, "unknown_column", "Extra")
        self.check_refused(self.write(row(2), shard="sh9"), 404, "no_shard", "sh1, sh2")
        self.check_refused(self.write(row(2), curr_idx="x"), 400, "bad_value", "curr_idx")
        self.assertEqual(self.server.ask("POST", "/write", {"shard": "sh1", "data": "x"}).code, "bad_value")
        self.assertEqual(len(self.read(0, 9).json["data"]), 1)

    def test_refusal_before_the_shard_was_asked(self) -> None:
        """Every failure of a change says that nothing was applied, also if the request was never understood."""
        for method, path in (("POST", "/write"), ("PUT", "/update"), ("DELETE", "/del")):
            for told in ({}, {"shard": "sh9", "Stud_id": 1, "data": []}, {"shard": "sh1", "Stud_id": 1.5, "data": 1}):
                reply = self.server.ask(method, path, told)

                self.assertEqual(reply.json["applied"], "no", reply.body)

    def test_values_come_back_as_they_went_in(self) -> None:
        """Numbers, strings, booleans, null and any Unicode keep their kind."""
        values = [27, 27.0, "27", True, False, None, 2**63 - 1, "", 'a"|\n\\\U0001f600', "x" * 10_000, 1e-300]
        self.write(*(row(number, marks=value) for number, value in enumerate(values)))

        read = [one["Stud_marks"] for one in self.read(0, 99).json["data"]]

        self.assertEqual(read, values)
        self.assertEqual([type(value) for value in read], [type(value) for value in values])

    def test_read(self) -> None:
        """Both ends belong to the range, ids may be strings, rows come in order and empty is empty."""
        self.write(row(3), row(0), row(2), row(1))

        self.check(self.read("1", 2), 200, {"data": [row(1), row(2)], "status": "success"})
        self.check(self.read(0, 0), 200, {"data": [row(0)], "status": "success"})
        self.check(self.read(50, 60), 200, {"data": [], "status": "success"})

    def test_read_refused(self) -> None:
        """A range that is none, and a shard that is not here, are said so."""
        self.check_refused(self.read(2, 1), 400, "bad_range", "low 2 is greater than high 1")
        self.check_refused(self.read(1.5, 2), 400, "bad_key", "1.5")
        self.check_refused(self.read(None, 2), 400, "bad_key", "null")
        self.check_refused(self.server.ask("POST", "/read", {"shard": "sh1", "Stud_id": 5}), 400, "bad_range")
        self.check_refused(self.read(0, 1, shard="sh9"), 404, "no_shard")
        self.check_refused(self.server.ask("POST", "/read", {"shard": "sh1"}), 400, "missing_field", "Stud_id")

    def test_large_read_is_streamed_whole(self) -> None:
        """A result of many pages is one JSON answer with every row in order."""
        for start in range(0, 3000, 300):
            self.write(*(row(id_, "x" * 1000) for id_ in range(start, start + 300)))

        reply = self.read(0, 2**40)

        self.assertEqual(reply.headers.get("Transfer-Encoding"), "chunked")
        self.assertEqual([one["Stud_id"] for one in reply.json["data"]], list(range(3000)))

    def test_copy(self) -> None:
        """All rows of the shards named, by shard, also as the body of a GET."""
        self.write(row(1), row(-5))
        self.write(row(9), shard="sh2")

        for method in ("GET", "POST"):
            reply = self.server.ask(method, "/copy", {"shards": ["sh2", "sh1"]})
            self.check(reply, 200, {"sh2": [row(9)], "sh1": [row(-5), row(1)], "status": "success"})
        self.check(self.server.ask("GET", "/copy", {"shards": []}), 200, {"status": "success"})
        self.check_refused(self.server.ask("GET", "/copy", {"shards": ["sh1", "sh9"]}), 404, "no_shard", "sh9")
        self.check_refused(self.server.ask("GET", "/copy", {"shards": "sh1"}), 400, "bad_value")
        self.check_refused(self.server.ask("GET", "/copy", {"shards": ["sh1", "sh1"]}), 400, "bad_value", "twice")

    def test_update(self) -> None:
        """Only the columns given change, and the text has no blank after the colon."""
        self.write(row(2255, "GHI", 27))

        reply = self.server.ask("PUT", "/update", {"shard": "sh1", "Stud_id": 2255, "data": {"Stud_marks": 56}})

        self.check(reply, 200, {"message": "Data entry for Stud_id:2255 updated", "status": "success"})
        self.assertEqual(self.read(0, 9999).json["data"], [row(2255, "GHI", 56)])

    def test_update_refused(self) -> None:
        """An absent row, an unknown column and another id are refused."""
        self.write(row(1))

        for told, status, code in (
            ({"Stud_id": 2, "data": {"Stud_marks": 1}}, 404, "not_found"),
            ({"Stud_id": 1, "data": {"Marks": 1}}, 400, "unknown_column"),
            ({"Stud_id": 1, "data": {"Stud_id": 2}}, 400, "bad_key"),
            ({"Stud_id": 1, "data": {"Stud_marks": []}}, 400, "bad_value"),
            ({"Stud_id": 1}, 400, "missing_field"),
        ):
            self.check_refused(self.server.ask("PUT", "/update", {"shard": "sh1", **told}), status, code)

    def test_delete(self) -> None:
        """A row is removed once; the second time it is absent."""
        self.write(row(2255))
        told = {"shard": "sh1", "Stud_id": "2255"}

        first, second = self.server.ask("DELETE", "/del", told), self.server.ask("DELETE", "/del", told)

        self.check(first, 200, {"message": "Data entry with Stud_id:2255 removed", "status": "success"})
        self.check_refused(second, 404, "not_found", "Stud_id 2255")
        self.assertEqual(second.json["applied"], "no")

    def test_metrics(self) -> None:
        """The figures are Prometheus text and count what happened."""
        self.write(row(1), row(2))
        reply = self.server.ask("GET", "/metrics")

        self.assertTrue(reply.headers["Content-Type"].startswith("text/plain"))
        self.assertIn(b'shardlb_replica_rows{shard="sh1"} 2.0', reply.body)
        self.assertIn(b'shardlb_replica_leader{shard="sh2"} 1.0', reply.body)
        self.assertIn(b"shardlb_wal_rounds_total", reply.body)

    def test_restart(self) -> None:
        """Everything is there again after a kill."""
        self.write(row(1))
        self.server.kill()
        self.server = self.rig.restart("Server0")
        self.rig.leader()

        self.assertEqual(self.read(0, 9).json["data"], [row(1)])
        self.assertEqual(self.write(row(2)).status, 200)


class UnconfiguredTests(SynchronousTestCase):
    def test_everything_waits_for_a_configuration(self) -> None:
        """Without shards a server is alive and says what is missing."""
        server = ServerRig().start("Server0", cluster_id="")

        self.assertEqual(server.ask("GET", "/heartbeat").status, 200)
        reply = server.ask("POST", "/write", {"shard": "sh1", "data": []})
        self.assertEqual((reply.status, reply.code), (409, "not_configured"))
        reply = server.ask("POST", "/config", {"shards": ["sh1"]})
        self.assertEqual((reply.status, reply.code), (400, "missing_field"))


class ManagedTests(SynchronousTestCase):
    """POST /config on a server that belongs to a cluster."""

    def setUp(self) -> None:
        """Start a managed server with one shard of its own."""
        self.rig = ServerRig()
        self.server = self.rig.start("Server0")
        self.cluster = managed("Server0", [group_of_all(["Server0"])])
        self.assertEqual(self.server.configure(self.cluster).status, 200)

    def test_unsigned_configuration_only_confirms(self) -> None:
        """Anyone may say what is so already; only the balancer may change it."""
        same = self.server.ask("POST", "/config", {"schema": SCHEMA.to_json(), "shards": ["sh1"]})
        other = self.server.ask("POST", "/config", {"schema": SCHEMA.to_json(), "shards": ["sh1", "sh2"]})

        self.assertEqual((same.status, same.json["message"]), (200, "Server0:sh1 configured"))
        self.assertEqual((other.status, other.code), (409, "already_configured"))

    def test_wrong_signature_is_401(self) -> None:
        """Who does not know the secret is refused, whatever it says."""
        forged = self.server.configure(self.cluster, secret=b"guess")
        body = json.dumps({"schema": SCHEMA.to_json(), "shards": [], "cluster": {}})
        unsigned = self.server.ask("POST", "/config", body.encode())

        self.assertEqual((forged.status, forged.code), (401, "bad_signature"))
        self.assertEqual((unsigned.status, unsigned.code), (401, "bad_signature"))

    def test_server_alone_takes_no_cluster(self) -> None:
        """A server that was started alone cannot be taken over by a configuration."""
        alone = self.rig.start("Alone", cluster_id="")

        reply = alone.configure(self.cluster)

        self.assertEqual((reply.status, reply.code), (409, "already_configured"))

    def test_write_without_a_leader_is_refused_in_time(self) -> None:
        """When nobody can take a change the answer says that it was not applied, and when to come again."""
        self.server.configure(managed("Server0", [group_of_all(group_id=2, shard="sh2")], 2))

        reply = self.server.ask("POST", "/write", {"shard": "sh2", "data": [row(1)]})

        self.assertEqual((reply.status, reply.code, reply.json["applied"]), (503, "unavailable", "no"))
        self.assertEqual(reply.headers["Retry-After"], "1")
