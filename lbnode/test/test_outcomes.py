"""What a client is told of a change, for every mixture of what the shards did."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import NotApplied, OutcomeUnknown
from dbnode.errors import ApiError
from dbnode.wire import OVERLOADED, TOO_LARGE, UNAVAILABLE, Done, Duplicate, KeyReused, NotFound, Stored, Write
from lbnode.outcomes import Outcome, delete_answer, update_answer, write_answer
from lbnode.test.shards import STUDENTS

GONE = NotApplied(UNAVAILABLE, "nobody leads")
FULL = NotApplied(OVERLOADED, "too many changes wait")
LARGE = NotApplied(TOO_LARGE, "the change has 40000000 bytes")
UNKNOWN = OutcomeUnknown(UNAVAILABLE, "no answer in time")
PARTS = [("sh1", Write(((1, "a"), (2, "b")))), ("sh2", Write(((5000, "c"),))), ("sh3", Write(((9000, "d"),)))]


class WriteAnswer(SynchronousTestCase):
    def fail(self, *outcomes: Outcome) -> ApiError:  # type: ignore[override]  # nothing else fails here
        """Return the error of a write of which the first parts had these outcomes."""
        error: ApiError = self.assertRaises(ApiError, write_answer, STUDENTS, PARTS[: len(outcomes)], outcomes)
        return error

    def test_all_stored(self) -> None:
        """The counts of all shards are added."""
        response = write_answer(STUDENTS, PARTS, [Stored(2), Stored(1), Stored(0)])

        self.assertEqual(msgspec.json.decode(response.body)["message"], "3 Data entries added")

    def test_status_is_that_of_the_worst(self) -> None:
        """504 goes before 503, 503 before 413, that before 409, whatever the others did."""
        duplicate = Duplicate((9000,))
        for outcomes, status, code, applied in (
            ((Stored(2), Stored(1), duplicate), 409, "duplicate", "partial"),
            ((duplicate, duplicate, duplicate), 409, "duplicate", "no"),
            ((KeyReused(), Stored(1)), 409, "idempotency_key_reused", "partial"),
            ((duplicate, GONE), 503, "no_quorum", "no"),
            ((duplicate, GONE, Stored(1)), 503, "no_quorum", "partial"),
            ((FULL,), 503, "overloaded", "no"),
            ((LARGE,), 413, "too_large", "no"),
            ((LARGE, duplicate, Stored(1)), 413, "too_large", "partial"),
            ((UNKNOWN,), 504, "outcome_unknown", "unknown"),
            ((GONE, UNKNOWN, duplicate), 504, "outcome_unknown", "unknown"),
            ((Stored(2), UNKNOWN, Stored(1)), 504, "outcome_unknown", "unknown"),
        ):
            error = self.fail(*outcomes)
            self.assertEqual((error.status, error.code, error.applied), (status, code, applied), outcomes)
            self.assertEqual(error.retry_after_seconds, None if status < 500 else 1)

    def test_report_for_each_shard(self) -> None:
        """`shards` says which ids were stored, refused or unknown, `ids` which exist already."""
        error = self.fail(Stored(2), UNKNOWN, Duplicate((9000,)))

        self.assertEqual(
            error.extra,
            {
                "shards": {"sh1": {"stored": [1, 2]}, "sh2": {"unknown": [5000]}, "sh3": {"refused": [9000]}},
                "ids": [9000],
            },
        )

    def test_count_of_a_shard_that_ignored_rows(self) -> None:
        """Where a shard stored fewer rows than it was given, the report says how many."""
        error = self.fail(Stored(1), GONE)

        self.assertEqual(error.extra["shards"]["sh1"], {"stored": [1, 2], "count": 1})

    def test_text_of_many_duplicates_stays_short(self) -> None:
        """The text names a few ids; the field has them all."""
        ids = tuple(range(1000))

        error = self.fail(Duplicate(ids))

        self.assertLess(len(error.text), 200)
        self.assertEqual(error.extra["ids"], list(ids))


class RowAnswers(SynchronousTestCase):
    def test_every_outcome(self) -> None:
        """An update and a deletion have the same failures and texts of their own."""
        for answer in (update_answer, delete_answer):
            self.assertEqual(answer(STUDENTS, "sh1", 7, Done()).status, 200)
            for outcome, status, code, applied in (
                (NotFound(), 404, "not_found", "no"),
                (KeyReused(), 409, "idempotency_key_reused", "no"),
                (GONE, 503, "no_quorum", "no"),
                (FULL, 503, "overloaded", "no"),
                (UNKNOWN, 504, "outcome_unknown", "unknown"),
            ):
                error = self.assertRaises(ApiError, answer, STUDENTS, "sh1", 7, outcome)
                self.assertEqual((error.status, error.code, error.applied), (status, code, applied))
