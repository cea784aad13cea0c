"""Rows as lines of JSON, in both directions."""

from __future__ import annotations

from typing import Any

import msgspec

from lbnode.test.conformance import ConformanceCase, row
from lbnode.test.door import Reply

_ALL = {"low": -(1 << 63), "high": (1 << 63) - 1}
_LINES = "application/x-ndjson"


class Lines(ConformanceCase):
    def send(self, *rows: dict[str, Any], after: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        """Write rows as lines, and some bytes after them."""
        body = b"".join(msgspec.json.encode(one) + b"\n" for one in rows) + after
        return self.door.send("POST", "/write", body, {"Content-Type": _LINES, **(headers or {})})

    def received(self, **request: Any) -> list[Any]:
        """Read a range as lines, by default all."""
        reply = self.call("POST", "/read", {"Stud_id": _ALL, **request}, {"Accept": _LINES})
        self.assertEqual((reply.status, reply.headers["content-type"], reply.whole), (200, _LINES, True))
        return [msgspec.json.decode(line) for line in reply.body.splitlines()]

    def test_there_and_back(self) -> None:
        """Rows for several shards are stored, counted, and come back by id."""
        rows = [row(key, 'a\n"é"', marks) for key, marks in ((8192, 27), (0, "27"), (4096, None), (4095, 2.5))]

        reply = self.send(*rows)

        self.assertEqual((reply.status, reply.json["message"]), (200, "4 Data entries added"))
        self.assertEqual(self.received(), sorted(rows, key=lambda one: one["Stud_id"]))

    def test_more_than_travel_together(self) -> None:
        """Thousands of rows are all there afterwards, also when they are read in pages."""
        rows = [row(key, "n" * 100) for key in (*range(3000), *range(4096, 6000))]

        reply = self.send(*rows)

        self.assertEqual(reply.json["message"], "4904 Data entries added")
        self.assertEqual(self.received(), rows)

    def test_nothing(self) -> None:
        """A body without rows is a write of none, and a range without rows has no lines."""
        self.assertEqual(self.send(after=b"\n\n").json["message"], "0 Data entries added")
        self.assertEqual(self.received(), [])

    def test_limit(self) -> None:
        """A limit ends the lines."""
        self.stored(row(0), row(1), row(5000))

        self.assertEqual(self.received(limit=2), [row(0), row(1)])

    def test_wrong_line(self) -> None:
        """An error names the line; what was not sent on by then is not stored."""
        for after, code in ((b"{\n", "bad_json"), (b'{"Stud_id":3}\n', "missing_column")):
            error = self.check_refused(self.send(row(1), row(2), after=after), 400, code, "line 3")

            self.assertEqual((error["applied"], error["rows_stored"]), ("no", 0))
        self.assertEqual(self.rows(), [])

    def test_no_shard(self) -> None:
        """An id that no shard has is refused as in any other write."""
        error = self.check_refused(self.send(row(1), row(-5)), 400, "no_shard", "-5")

        self.assertEqual((error["applied"], error["ids"]), ("no", [-5]))

    def test_duplicates(self) -> None:
        """Ids that exist are refused, left or replaced, as the header says."""
        self.stored(row(1), row(4096))

        refused = self.check_refused(self.send(row(1, "new"), row(2), row(4097)), 409, "duplicate", "1")
        kept = self.rows()
        ignored = self.send(row(1, "new"), row(2), headers={"On-Conflict": "ignore"})
        replaced = self.send(row(1, "new"), headers={"On-Conflict": "replace"})

        self.assertEqual((refused["applied"], refused["rows_stored"], refused["ids"]), ("partial", 1, [1]))
        self.assertEqual(kept, [row(1), row(4096), row(4097)])
        self.assertEqual((ignored.json["message"], replaced.json["message"]), ("1 Data entries added",) * 2)
        self.assertEqual(self.rows(0, 9), [row(1, "new"), row(2)])

    def test_wrong_headers(self) -> None:
        """What cannot be done with lines is refused before a row is looked at."""
        for name, value, code in (
            ("On-Conflict", "merge", "bad_on_conflict"),
            ("Idempotency-Key", "k", "bad_idempotency_key"),
        ):
            error = self.check_refused(self.send(row(1), headers={name: value}), 400, code)
            self.assertEqual(error["applied"], "no")
        self.assertEqual(self.rows(), [])
