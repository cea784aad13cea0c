"""Everything that the clients did and saw, and the counters that follow from it while it happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.chaos.operations import Outcome, Request, What
from benchmarks.verify import Expected
from benchmarks.workloads import Record
from raftlog.testing.linearizability import Kind, Operation

_FRESH = (What.STORE, What.STORE_MANY)


@dataclass(slots=True)
class _Fresh:
    """The rows that were stored once and never changed, by what is known of them."""

    stored: dict[int, Record] = field(default_factory=dict)
    unknown: dict[int, Record] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)


class History:
    """Told of each operation once it is over. `excuse` says whether an error that a client saw may be.

    Reads without an answer and changes that were certainly not made are no part of it: if such a change is seen
    nevertheless, no order explains it.
    """

    def __init__(self, excuse: Callable[[Request, float, float], bool]) -> None:
        self._excuse = excuse
        self.operations: dict[int, list[Operation]] = {}
        #: Changes of single rows that the cluster said it made.
        self.acknowledged = 0
        #: Fresh rows that were acknowledged and not there in a read that began later.
        self.lost: set[int] = set()
        #: How requests ended, and those endings that no fault excuses.
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._fresh = _Fresh()
        #: Ids of fresh rows in the order in which they were acknowledged, to be read again.
        self.stored_ids: list[int] = []

    def record(self, request: Request, outcome: Outcome, invoked: float, returned: float, client: str) -> None:
        """Take an operation that is over."""
        for row_id, argument in request.ids.items():
            known = row_id in outcome.results
            if known or row_id in outcome.unknown:
                result = outcome.results.get(row_id)
                operation = Operation(request.kind, argument, result, invoked, returned, known, client)
                self.operations.setdefault(row_id, []).append(operation)
        if request.kind is Kind.READ:
            self._look_for_lost(outcome)
        else:
            self.acknowledged += sum(result is True for result in outcome.results.values())
        if request.what in _FRESH:
            self._keep(request, outcome)
        self._count(request, outcome, invoked, returned)

    def expected(self) -> Expected:
        """Return what must be in the table of the fresh rows; of the hot ones the verdict on their history decides."""
        fresh = self._fresh
        return Expected(stored=fresh.stored, unknown=fresh.unknown, absent=fresh.refused, alone=False)

    def _keep(self, request: Request, outcome: Outcome) -> None:
        for row_id, record in request.ids.items():
            assert record is not None
            if outcome.results.get(row_id) is True:
                self._fresh.stored[row_id] = record
                self.stored_ids.append(row_id)
            elif row_id in outcome.unknown:
                self._fresh.unknown[row_id] = record
            else:
                self._fresh.refused.add(row_id)

    def _look_for_lost(self, outcome: Outcome) -> None:
        """Compare what was read of fresh rows; a row that was stored while the read was under way may be missing."""
        for row_id, found in outcome.results.items():
            record = self._fresh.stored.get(row_id)
            if record is not None and found != record:
                self._lost_unless_concurrent(row_id)

    def _lost_unless_concurrent(self, row_id: int) -> None:
        stored, *_, seen = self.operations[row_id]
        if stored.returned < seen.invoked:
            self.lost.add(row_id)

    def _count(self, request: Request, outcome: Outcome, invoked: float, returned: float) -> None:
        if not outcome.error:
            conflict = request.kind is not Kind.READ and False in outcome.results.values()
            self.outcomes["conflict" if conflict else "ok"] += 1
            return
        self.outcomes[outcome.error] += 1
        if not self._excuse(request, invoked, returned):
            self.errors[f"{request.what}: {outcome.error}"] += 1
