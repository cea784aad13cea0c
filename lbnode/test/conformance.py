"""HTTP_API.md as tests that know nothing but a door: what they share, and the table that they work on.

The suites are conformance_cluster, conformance_changes, conformance_reads and conformance_http. test_conformance binds
them to each kind of balancer.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from lbnode.test.door import Door, Reply

CONFIG: dict[str, Any] = {
    "N": 3,
    "schema": {"columns": ["Stud_id", "Stud_name", "Stud_marks"], "dtypes": ["Number", "String", "String"]},
    "shards": [
        {"Stud_id_low": 0, "Shard_id": "sh1", "Shard_size": 4096},
        {"Stud_id_low": 4096, "Shard_id": "sh2", "Shard_size": 4096},
        {"Stud_id_low": 8192, "Shard_id": "sh3", "Shard_size": 4096},
        # A gap before the last shard, which ends where 64 bits end.
        {"Stud_id_low": (1 << 63) - 4096, "Shard_id": "sh4", "Shard_size": 4096},
    ],
    "servers": {"Server0": ["sh1", "sh2", "sh3", "sh4"], "Server1": ["sh1", "sh2", "sh3", "sh4"], "Server2": []},
}
#: So many rows of an earlier test are removed faster one by one than by a new table.
_DELETED_MAX = 100
LAST_ID = (1 << 63) - 1


def row(key: Any, name: Any = "GHI", marks: Any = 27) -> dict[str, Any]:
    """Return a row of the table."""
    return {"Stud_id": key, "Stud_name": name, "Stud_marks": marks}


class ConformanceCase(SynchronousTestCase):
    """A test that finds a balancer with the table of CONFIG, empty."""

    def open(self) -> Door:
        """Return a way to the balancer under test."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Open the door and make sure of the table."""
        self.door = self.open()
        if self.call("POST", "/init", CONFIG).status != 200:
            self.succeed("POST", "/init", {**CONFIG, "replace": True})
        left_over = self.rows()
        if len(left_over) > _DELETED_MAX:
            self.succeed("POST", "/init", {**CONFIG, "replace": True})
            return
        for one in left_over:
            self.succeed("DELETE", "/del", {"Stud_id": one["Stud_id"]})

    def call(self, method: str, path: str, value: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send a request with a JSON body, or with none."""
        body = b"" if value is None else msgspec.json.encode(value)
        return self.door.send(method, path, body, {"Content-Type": "application/json", **(headers or {})})

    def succeed(self, method: str, path: str, value: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Return the JSON of an answer that must be 200."""
        reply = self.call(method, path, value, headers)
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.headers["content-type"], "application/json")
        return reply.json

    def check_refused(self, reply: Reply, status: int, code: str, *mentioning: str) -> Any:
        """Check that an answer is an error as the contract has it, and return its JSON."""
        self.assertEqual(reply.status, status, reply.body)
        self.assertEqual(reply.headers["content-type"], "application/json")
        error = reply.json
        self.assertEqual((error["status"], error["code"]), ("failure", code), error)
        self.assertTrue(error["message"].startswith("<Error> "), error)
        for text in mentioning:
            self.assertIn(text, error["message"])
        return error

    def refuse(self, status: int, code: str, method: str, path: str, value: Any, *mentioning: str) -> Any:
        """Send a request that must be refused, and return the error's JSON."""
        return self.check_refused(self.call(method, path, value), status, code, *mentioning)

    def write(self, *rows: dict[str, Any], **fields: Any) -> Reply:
        """Send rows."""
        return self.call("POST", "/write", {"data": list(rows), **fields})

    def stored(self, *rows: dict[str, Any]) -> None:
        """Store rows, as the beginning of a test."""
        self.assertEqual(self.write(*rows).status, 200)

    def rows(self, low: int = -(1 << 63), high: int = LAST_ID) -> Any:
        """Return the rows of a range, by default all."""
        return self.succeed("POST", "/read", {"Stud_id": {"low": low, "high": high}})["data"]
