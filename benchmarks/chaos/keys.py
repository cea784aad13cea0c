"""Which ids the clients use: a few hot ones in each shard, which all of them change, and fresh ones, stored once.

An id is used up after a bounded number of operations, so that the linearizability of its history can be decided, and
sooner where outcomes are unknown, since each of those doubles what has to be searched. Hot ids come from the top of a
shard downwards, fresh ones from its bottom upwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.workloads import Shard, TableFullError

_HOT_PER_SHARD = 2
_OPERATIONS_MAX = 200
_UNKNOWN_MAX = 6
#: The part of a shard that is kept for hot ids.
_HOT_PART = 0.25


@dataclass(slots=True)
class _Hot:
    row_id: int
    operations: int = 0
    unknown: int = 0


class Keys:
    """Hands out ids that were free in the beginning: none of `taken`."""

    def __init__(self, shards: Sequence[Shard], taken: Collection[int] = ()) -> None:
        self.shards = sorted(shards, key=lambda shard: shard.low)
        self._taken = frozenset(taken)
        self._fresh = [self._free(_border(shard)[0]) for shard in self.shards]
        self._unused = [self._free(reversed(_border(shard)[1])) for shard in self.shards]
        self._hot = [self._next_hot(slot) for slot in range(_HOT_PER_SHARD * len(self.shards))]

    @property
    def slots(self) -> int:
        """How many ids are hot at a time."""
        return len(self._hot)

    def hot(self, slot: int) -> int:
        """Return the id that is hot in a slot, for one operation on it. Raises TableFullError."""
        hot = self._hot[slot]
        if hot.operations >= _OPERATIONS_MAX or hot.unknown >= _UNKNOWN_MAX:
            hot = self._hot[slot] = self._next_hot(slot)
        hot.operations += 1
        return hot.row_id

    def became_unknown(self, row_id: int) -> None:
        """Say that nobody knows what became of an operation on an id."""
        for hot in self._hot:
            if hot.row_id == row_id:
                hot.unknown += 1

    def neighbours(self, slot: int) -> list[int]:
        """Return the ids that are hot in the shard of a slot, for one operation on each, ascending."""
        place = slot % len(self.shards)
        return sorted(self.hot(other) for other in range(place, self.slots, len(self.shards)))

    def fresh(self, place: int) -> int | None:
        """Return an id that was never used, of the shard at a place; None if there is none any more."""
        return next(self._fresh[place], None)

    def shards_of(self, low: int, high: int) -> list[str]:
        """Return the names of the shards that have ids in low..high, both inclusive."""
        return [shard.name for shard in self.shards if shard.low <= high and low < shard.low + shard.size]

    def _free(self, ids: Iterable[int]) -> Iterator[int]:
        return (row_id for row_id in ids if row_id not in self._taken)

    def _next_hot(self, slot: int) -> _Hot:
        shard = self.shards[slot % len(self.shards)]
        row_id = next(self._unused[slot % len(self.shards)], None)
        if row_id is None:
            raise TableFullError(f"{shard.name} has no free ids left: give fewer minutes, or a larger table")
        return _Hot(row_id)


def _border(shard: Shard) -> tuple[range, range]:
    """Return the ids of a shard that are for fresh rows, and those that become hot."""
    fresh = int(shard.size * (1 - _HOT_PART))
    return shard.ids()[:fresh], shard.ids()[fresh:]
