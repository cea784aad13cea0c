"""The tables that streams of operations work on.

YCSB's usertable: a record is one row, an integer key and ten columns of 100 bytes, about 1 kB; reads fetch all of it,
updates change one column. The course's table has two columns beside its key.

Items are spread over the key space by a permutation, as YCSB's hashed insertion order does, so that neighbours in
age are none in space and every shard gets its share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from benchmarks.workloads import Workload, http_request

#: Odd, so that multiplying by it permutes the keys below a power of two; near their golden section (Knuth, TAOCP 6.4).
_SPREAD = 2_654_435_769


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose key has `keys` values, a power of two; its other columns hold strings of `width` bytes."""

    key: str
    columns: tuple[str, ...]
    width: int
    keys: int

    def layout(self, base: Workload) -> Workload:
        """Return a layout with this table's columns. The layout's ids must be this table's keys."""
        if base.capacity() != self.keys or self.keys & (self.keys - 1):
            raise ValueError(f"a table of {self.keys} keys does not fit on {base.capacity()} ids, a power of two")
        return replace(base, name=f"{base.name}, {len(self.columns)} columns", columns=(self.key, *self.columns))

    def key_of(self, item: int) -> int:
        """Return the key of the item inserted as number `item`."""
        return item * _SPREAD % self.keys

    def row(self, item: int, rng: Random) -> dict[str, Any]:
        """Return a whole row of random strings."""
        return {self.key: self.key_of(item), **{column: self._value(rng) for column in self.columns}}

    def insert(self, host: str, rows: list[dict[str, Any]]) -> bytes:
        """Return a POST /write."""
        return http_request("POST", "/write", host, {"data": rows})

    def update(self, host: str, item: int, rng: Random) -> bytes:
        """Return a PUT /update of one column."""
        changes = {rng.choice(self.columns): self._value(rng)}
        return http_request("PUT", "/update", host, {self.key: self.key_of(item), "data": changes})

    def read(self, host: str, item: int) -> bytes:
        """Return a POST /read of one row, all columns."""
        key = self.key_of(item)
        return http_request("POST", "/read", host, {self.key: {"low": key, "high": key}})

    def scan(self, host: str, item: int, count: int) -> bytes:
        """Return a POST /read of so many rows from an item's key on."""
        bounds = {"low": self.key_of(item), "high": self.keys - 1}
        return http_request("POST", "/read", host, {self.key: bounds, "limit": count})

    def _value(self, rng: Random) -> str:
        return rng.randbytes((self.width + 1) // 2).hex()[: self.width]


def usertable(keys: int) -> Table:
    """Return YCSB's table."""
    return Table("YCSB_KEY", tuple(f"field{number}" for number in range(10)), 100, keys)


def students(keys: int, width: int) -> Table:
    """Return the course's table."""
    return Table("Stud_id", ("Stud_name", "Stud_marks"), width, keys)
