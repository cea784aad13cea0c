"""Tests of benchmarks.chaos.history and benchmarks.chaos.judge, also on histories with one seeded mistake."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.history import History
from benchmarks.chaos.judge import Linearizability, judge
from benchmarks.chaos.operations import Outcome, Request, What, delete, insert, read, update
from benchmarks.workloads import Record
from raftlog.testing.linearizability import ABSENT, Kind, Operation

ADA, BOB = Record(7, "Ada", 1), Record(8, "Bob", 2)


def no_excuse(request: Request, invoked: float, returned: float) -> bool:
    """Excuse nothing."""
    return False


class Bookkeeping(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin a history in which nothing is excused."""
        self.history = History(no_excuse)

    def test_known(self) -> None:
        """What is known stands in the history of its id with its times."""
        self.history.record(insert(What.INSERT, [ADA]), Outcome({7: True}), 1, 2, "c1")
        self.history.record(read(What.READ, 7, 7, [7]), Outcome({7: ADA}), 3, 4, "c2")

        self.assertEqual(
            self.history.operations,
            {
                7: [
                    Operation(Kind.INSERT, ADA, True, 1, 2, True, "c1"),
                    Operation(Kind.READ, None, ADA, 3, 4, True, "c2"),
                ]
            },
        )
        self.assertEqual((self.history.acknowledged, dict(self.history.outcomes)), (1, {"ok": 2}))

    def test_unknown(self) -> None:
        """An unknown outcome stands there as such, and is not acknowledged."""
        self.history.record(update(ADA), Outcome(unknown=frozenset({7}), error="no answer"), 1, 2, "c1")

        self.assertEqual(self.history.operations, {7: [Operation(Kind.UPDATE, ADA, None, 1, 2, False, "c1")]})
        self.assertEqual(self.history.acknowledged, 0)

    def test_not_made(self) -> None:
        """What was certainly not made, and a read without an answer, are no part of the history."""
        self.history.record(delete(7), Outcome(error="503 no_quorum"), 1, 2, "c1")
        self.history.record(read(What.READ, 7, 7, [7]), Outcome(error="no answer"), 1, 2, "c1")

        self.assertEqual(self.history.operations, {})

    def test_errors(self) -> None:
        """Conflicts are no errors; an error counts against the cluster unless a fault excuses it."""
        history = History(lambda request, invoked, returned: invoked < 10)

        history.record(delete(7), Outcome({7: False}), 1, 2, "c1")
        history.record(delete(7), Outcome(error="503 no_quorum"), 9, 19, "c1")
        history.record(delete(7), Outcome(error="503 no_quorum"), 20, 30, "c1")

        self.assertEqual(dict(history.outcomes), {"conflict": 1, "503 no_quorum": 2})
        self.assertEqual(dict(history.errors), {"delete: 503 no_quorum": 1})

    def test_fresh(self) -> None:
        """What must, may and must not be there in the end follows from the outcomes of fresh rows only."""
        records = [Record(row_id, "x", 1) for row_id in range(4)]

        self.history.record(insert(What.STORE_MANY, records[:3]), Outcome({0: True}, frozenset({1})), 1, 2, "c1")
        self.history.record(insert(What.INSERT, records[3:]), Outcome({3: True}), 1, 2, "c1")

        expected = self.history.expected()
        self.assertEqual((expected.stored, expected.unknown), ({0: records[0]}, {1: records[1]}))
        self.assertEqual(set(expected.absent), {2})

    def test_lost(self) -> None:
        """A fresh row that is missing, or another, in a read that began after its acknowledgement is lost."""
        self.history.record(insert(What.STORE, [ADA]), Outcome({7: True}), 1, 3, "c1")
        self.history.record(insert(What.STORE, [BOB]), Outcome({8: True}), 1, 3, "c1")

        self.history.record(read(What.FIND, 7, 7, [7]), Outcome({7: ABSENT}), 2, 4, "c2")
        concurrent = set(self.history.lost)
        self.history.record(read(What.RANGE, 0, 9, [7, 8]), Outcome({7: ADA, 8: ABSENT}), 5, 6, "c2")

        self.assertEqual((concurrent, self.history.lost), (set(), {8}))


def random_history(seed: int, *, overlap: float = 3, forget: bool = False) -> list[Operation]:
    """Return a history of one id whose operations take effect one after the other, each within its time.

    With `overlap` 0 no two are concurrent and all outcomes are known. `forget` loses one acknowledged change.
    """
    rng = Random(seed)
    value: object = ABSENT
    history = []
    for moment in range(120):
        kind = rng.choice([Kind.READ, Kind.READ, Kind.INSERT, Kind.UPDATE, Kind.DELETE])
        argument = None if kind in (Kind.READ, Kind.DELETE) else f"v{moment}"
        result = value if kind is Kind.READ else (value != ABSENT) is not (kind is Kind.INSERT)
        times = moment - rng.uniform(0, overlap), moment + rng.uniform(0, overlap)
        known = kind is Kind.READ or overlap == 0 or rng.random() > 0.03
        history.append(Operation(kind, argument, result if known else None, *times, known))
        if kind is not Kind.READ and result:
            if forget and moment > 60:
                # Whatever comes next sees what was there before.
                return [*history, Operation(Kind.READ, None, value, moment + 1, moment + 1)]
            value = ABSENT if kind is Kind.DELETE else argument
    return history


class Judgements(SynchronousTestCase):
    def judged(self, history: list[Operation]) -> Linearizability:
        """Return the verdict on a history of one id."""
        clock = Clock()
        done = ensureDeferred(judge(clock, {7: history}))
        clock.advance(1)
        return self.successResultOf(done)

    def test_right(self) -> None:
        """Histories that could have happened are good."""
        for seed in range(20):
            self.assertTrue(self.judged(random_history(seed)).good, f"seed {seed}")

    def test_lost_write(self) -> None:
        """A change that was acknowledged and is not there in the next read is found."""
        for seed in range(20):
            history = random_history(seed, overlap=0, forget=True)

            verdict = self.judged(history)

            self.assertEqual(verdict.violated, [7], f"seed {seed}")
            self.assertEqual(verdict.evidence, {7: history})
            self.assertTrue(self.judged(history[:-1]).good, f"seed {seed}")

    def test_unknown_write(self) -> None:
        """A change of unknown outcome that is not there is no loss."""
        for seed in range(20):
            *history, change, seen = random_history(seed, overlap=0, forget=True)

            verdict = self.judged([*history, replace(change, known=False), seen])

            self.assertTrue(verdict.good, f"seed {seed}")

    def test_stale_read(self) -> None:
        """A read of a value that was overwritten before the read began is found."""
        for seed in range(20):
            history = random_history(seed)
            reads = [o for o in history if o.kind is Kind.READ and o.result != ABSENT]
            old = reads[0]
            last = max(operation.returned for operation in history)

            verdict = self.judged([*history, replace(old, invoked=last + 1, returned=last + 2)])

            self.assertEqual(verdict.violated, [7], f"seed {seed}")
