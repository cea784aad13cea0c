"""Whether what the clients saw could have happened one operation at a time, id by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import deferLater

from raftlog.testing.linearizability import Operation, Verdict, check_key

#: Histories shown of ids for which no order was found.
_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Linearizability:
    """The verdict over all ids. `evidence` is the whole history of the first ids that are not as they must be."""

    ids: int
    operations: int
    violated: list[int]
    undecided: list[int]
    evidence: dict[int, Sequence[Operation]]

    @property
    def good(self) -> bool:
        """Return whether an order was found for every id; undecided is not good."""
        return not self.violated and not self.undecided


async def judge(reactor: Any, operations: Mapping[int, Sequence[Operation]]) -> Linearizability:
    """Search an order for the operations on each id, all of which began as absent."""
    verdicts = {}
    for row_id, history in operations.items():
        verdicts[row_id] = check_key(history)
        await deferLater(reactor, 0)
    violated = sorted(row_id for row_id, verdict in verdicts.items() if verdict is Verdict.NOT_LINEARIZABLE)
    undecided = sorted(row_id for row_id, verdict in verdicts.items() if verdict is Verdict.UNKNOWN)
    return Linearizability(
        ids=len(operations),
        operations=sum(map(len, operations.values())),
        violated=violated,
        undecided=undecided,
        evidence={row_id: operations[row_id] for row_id in (violated + undecided)[:_SHOWN_MAX]},
    )
