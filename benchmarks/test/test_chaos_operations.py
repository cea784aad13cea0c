"""Tests of benchmarks.chaos.operations."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.operations import Outcome, Request, What, delete, insert, read, steps, update
from benchmarks.http1 import Response
from benchmarks.workloads import Record
from raftlog.testing.linearizability import ABSENT

ADA, BOB = Record(7, "c0.1", 1), Record(8, "c0.2", 2)
STORED = {"message": "1 Data entries added", "status": "success"}


def outcome(request: Request, status: int, body: dict[str, Any]) -> Outcome:
    """Return what an answer to a request says."""
    return request.outcome(Response(status, msgspec.json.encode(body), True))


def error(code: str, **more: Any) -> dict[str, Any]:
    """Return the body of an error."""
    return {"status": "failure", "code": code, "message": "<Error>", **more}


class Steps(SynchronousTestCase):
    def test_seed_decides(self) -> None:
        """A seed gives a client the same steps again, with values that nobody else writes."""
        first, again, other = (list(islice(steps(Random(seed), "c1", 8), 500)) for seed in ("1", "1", "2"))

        self.assertEqual(first, again)
        self.assertNotEqual(first, other)
        self.assertEqual(len({step.value for step in first}), 500)
        self.assertEqual({step.what for step in first}, set(What))


class Changes(SynchronousTestCase):
    def test_made(self) -> None:
        """A change that was made, and one that found the row otherwise, are both known."""
        cases = [
            (insert(What.INSERT, [ADA]), 200, STORED, True),
            (insert(What.INSERT, [ADA]), 409, error("duplicate", applied="no", ids=[7]), False),
            (update(ADA), 200, {"status": "success", "message": "…"}, True),
            (update(ADA), 404, error("not_found", applied="no"), False),
            (delete(7), 200, {"status": "success", "message": "…"}, True),
            (delete(7), 404, error("not_found", applied="no"), False),
        ]

        for request, status, body, result in cases:
            self.assertEqual(outcome(request, status, body), Outcome({7: result}))

    def test_not_made(self) -> None:
        """What was certainly not made concerns no id, and is an error."""
        for request in (insert(What.INSERT, [ADA]), update(ADA), delete(7)):
            self.assertEqual(outcome(request, 503, error("no_quorum", applied="no")), Outcome(error="503 no_quorum"))
            self.assertEqual(request.unanswered(sent=False), Outcome(error="not connected"))

    def test_unknown(self) -> None:
        """What nobody knows is unknown, also if the answer never came or is no promised one."""
        for request in (insert(What.INSERT, [ADA]), update(ADA), delete(7)):
            late = outcome(request, 504, error("outcome_unknown", applied="unknown"))
            strange = outcome(request, 200, {})
            lost = request.unanswered(sent=True)

            self.assertEqual([late.unknown, strange.unknown, lost.unknown], [frozenset({7})] * 3)
            self.assertEqual(
                [late.error, strange.error, lost.error], ["504 outcome_unknown", "wrong answer", "no answer"]
            )

    def test_fresh_id_taken(self) -> None:
        """That a fresh id exists already is an error, not a conflict: somebody applied it twice."""
        found = outcome(insert(What.STORE, [ADA]), 409, error("duplicate", applied="no"))

        self.assertEqual(found.error, "409 duplicate")

    def test_several_shards(self) -> None:
        """Of a write that shards took differently each row has its own outcome."""
        request = insert(What.STORE_MANY, [ADA, BOB, Record(9, "c0.3", 3)])
        shards = {"sh1": {"stored": [7]}, "sh2": {"unknown": [8]}, "sh3": {"refused": [9]}}

        found = outcome(request, 504, error("outcome_unknown", applied="unknown", shards=shards))

        self.assertEqual(found, Outcome({7: True}, frozenset({8}), "504 outcome_unknown"))


class Reads(SynchronousTestCase):
    def test_rows(self) -> None:
        """A read tells of each id of interest what was there; other rows do not matter."""
        answer = {"data": [ADA, BOB], "shards_queried": ["sh1"], "status": "success"}

        found = outcome(read(What.RANGE, 0, 99, [7, 9]), 200, answer)

        self.assertEqual(found, Outcome({7: ADA, 9: ABSENT}))

    def test_no_answer(self) -> None:
        """A read that failed says nothing."""
        request = read(What.READ, 7, 7, [7])

        self.assertEqual(outcome(request, 503, error("no_quorum")), Outcome(error="503 no_quorum"))
        self.assertEqual(request.unanswered(sent=True), Outcome(error="no answer"))
