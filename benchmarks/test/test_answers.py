"""Tests of benchmarks.answers."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.answers import constant, reads_of, refusal, row_changed, rows_stored
from benchmarks.measure import Failed
from benchmarks.workloads import Record

ADA = Record(7, "Ada", 99)
WRONG = Failed("wrong answer", "unknown")


def rows(*records: Record) -> bytes:
    """Return the body of a successful read."""
    return msgspec.json.encode({"shards_queried": ["sh1"], "data": records, "status": "success"})


class Writes(SynchronousTestCase):
    def test_stored(self) -> None:
        """Only the promised text for one row is a success, whatever the JSON's spacing."""
        right = rows_stored(1)(0, 200, b'{"message": "1 Data entries added", "status": "success"}')
        others = [
            rows_stored(1)(0, 200, body)
            for body in (b'{"message":"0 Data entries added","status":"success"}', b'{"status":"success"}', b"", b"<p>")
        ]

        self.assertIsNone(right)
        self.assertEqual(others, [WRONG] * 4)

    def test_removed(self) -> None:
        """A delete succeeds with a 200 that says so."""
        self.assertIsNone(row_changed(0, 200, b'{"message":"gone","status":"success"}'))
        self.assertEqual(row_changed(0, 200, b"{}"), WRONG)


class Reads(SynchronousTestCase):
    def test_written(self) -> None:
        """A written row must come back as it is."""
        check = reads_of([ADA], written={7}, unknown=())

        found = [check(0, 200, body) for body in (rows(ADA), rows(), rows(Record(7, "Bob", 99)), rows(ADA, ADA))]

        self.assertEqual(found, [None, WRONG, WRONG, WRONG])

    def test_unknown(self) -> None:
        """A row of unknown outcome may be there or not, but not as another."""
        check = reads_of([ADA], written=(), unknown={7})

        found = [check(0, 200, body) for body in (rows(ADA), rows(), rows(Record(7, "Ada", 98)))]

        self.assertEqual(found, [None, None, WRONG])

    def test_refused(self) -> None:
        """A row that was certainly not written must not be there."""
        check = reads_of([ADA], written=(), unknown=())

        found = [check(0, 200, body) for body in (rows(ADA), rows())]

        self.assertEqual(found, [WRONG, None])

    def test_other_types(self) -> None:
        """A value that comes back as another JSON type is wrong."""
        check = reads_of([ADA], written={7}, unknown=())

        self.assertEqual(check(0, 200, rows(ADA).replace(b"99", b'"99"')), WRONG)


class Refusals(SynchronousTestCase):
    def test_what_was_applied(self) -> None:
        """Only an error that says so, or a 4xx that says nothing else, is certain to have changed nothing."""
        cases = [
            (409, b'{"code":"duplicate","applied":"no"}', Failed("409 duplicate", "no")),
            (400, b'{"code":"bad_key"}', Failed("400 bad_key", "no")),
            (504, b'{"code":"outcome_unknown","applied":"unknown"}', Failed("504 outcome_unknown", "unknown")),
            (503, b'{"code":"no_quorum","applied":"no"}', Failed("503 no_quorum", "no")),
            (500, b'{"code":"internal"}', Failed("500 internal", "unknown")),
            (409, b'{"code":"duplicate","applied":"partial"}', Failed("409 duplicate", "unknown")),
            (502, b"<html>", Failed("502 without a JSON error", "unknown")),
        ]

        found = [refusal(status, body) for status, body, _ in cases]

        self.assertEqual(found, [failed for _, _, failed in cases])

    def test_every_check_reports_them(self) -> None:
        """Every check names the status and the code of what failed."""
        body = b'{"code":"no_quorum","applied":"no"}'

        found = {check(0, 503, body) for check in (rows_stored(1), row_changed, constant, reads_of([ADA], {7}, ()))}

        self.assertEqual(found, {Failed("503 no_quorum", "no")})
