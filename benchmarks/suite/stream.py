"""A stream of mixed operations on a table: drawn one by one as they are sent, judged as they are answered.

An item is read or changed only once its insertion was acknowledged, together with those of all older ones; therefore
operations cannot be made beforehand. To draw one and make its request costs the client about 10 microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeAlias

import msgspec

from benchmarks.answers import refusal
from benchmarks.client import Load
from benchmarks.measure import Failed
from benchmarks.suite.keys import Keys, Latest, ScrambledZipfian, Uniform
from benchmarks.suite.table import Table

Kind: TypeAlias = Literal["read", "update", "insert", "scan", "read-modify-write"]

#: YCSB scans 1 to 100 records, all lengths alike.
_SCAN_MAX = 100
_WRONG = Failed("wrong answer", "unknown")


@dataclass(frozen=True, slots=True)
class Mix:
    """What share of operations is of which kind, and how the items of all but inserts are chosen."""

    name: str
    about: str
    shares: Mapping[Kind, float]
    keys: type[Uniform] | type[ScrambledZipfian] | type[Latest]


class _Changed(msgspec.Struct):
    """The answer to a change."""

    status: str


class _Found(msgspec.Struct):
    """The answer to a read."""

    data: list[dict[str, Any]]
    status: str


_CHANGED = msgspec.json.Decoder(_Changed)
_FOUND = msgspec.json.Decoder(_Found)


class Stream:
    """`count` operations on a table that holds `records` items."""

    def __init__(self, table: Table, mix: Mix, records: int, count: int, host: str, rng: Random) -> None:
        self._table = table
        self._host = host
        self._rng = rng
        self._count = count
        self._drawn = list(mix.shares)
        self._weights = list(mix.shares.values())
        self._keys: Keys = mix.keys(rng)
        #: Items that the distribution covers. YCSB lets it cover those that are still to come, and draws again when
        #: it met one of them; else what is popular would change with every insertion.
        share = mix.shares.get("insert", 0.0)
        self._covered = records + int(2 * share * count) if mix.keys is ScrambledZipfian else 0
        #: Items acknowledged without a gap; the next to insert; those acknowledged beyond a gap.
        self.acknowledged = records
        self._next = records
        self._beyond: set[int] = set()
        #: Inserts whose outcome nobody knows; the gap that they leave is never closed.
        self.unknown: set[int] = set()
        #: Items that were sent and never acknowledged, by this stream or by one that it follows; not to be asked for.
        self._absent: set[int] = set()
        #: The kind and item of every operation sent so far.
        self.kinds: list[Kind] = []
        self._items: list[int] = []
        self._lengths: dict[int, int] = {}
        self._changing: set[int] = set()

    def then(self, mix: Mix, count: int) -> Stream:
        """Return a stream on the same table that follows this one, which must be over."""
        after = Stream(self._table, mix, self._next, count, self._host, self._rng)
        after._absent = {*self._absent, *set(self._sent()) - self.inserted()}
        return after

    def load(self) -> Load:
        """Return the stream as a load."""
        return Load(self, self._check, self._follow)

    def inserted(self) -> set[int]:
        """Return the items inserted by this stream that were acknowledged."""
        return {item for item in self._sent() if item < self.acknowledged or item in self._beyond}

    def _sent(self) -> Iterator[int]:
        return (item for kind, item in zip(self.kinds, self._items, strict=True) if kind == "insert")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> bytes:
        """Draw the next operation; they are asked for in order."""
        assert index == len(self.kinds), "each operation is drawn once"
        (kind,) = self._rng.choices(self._drawn, self._weights)
        item = self._next if kind == "insert" else self._choose()
        self.kinds.append(kind)
        self._items.append(item)
        if kind == "insert":
            self._next += 1
            return self._table.insert(self._host, [self._table.row(item, self._rng)])
        if kind == "update":
            return self._table.update(self._host, item, self._rng)
        if kind == "scan":
            self._lengths[index] = length = self._rng.randint(1, _SCAN_MAX)
            return self._table.scan(self._host, item, length)
        return self._table.read(self._host, item)

    def _choose(self) -> int:
        while True:
            item = self._keys.choose(self._covered or self.acknowledged)
            if item < self.acknowledged and item not in self._absent:
                return item

    def _follow(self, index: int) -> bytes | None:
        """Return the update that follows the read of a read-modify-write."""
        if self.kinds[index] != "read-modify-write" or index in self._changing:
            return None
        self._changing.add(index)
        return self._table.update(self._host, self._items[index], self._rng)

    def _check(self, index: int, status: int, body: bytes) -> Failed | None:
        kind = self.kinds[index]
        failed = self._judge(index, kind, status, body)
        if kind == "insert":
            self._note(self._items[index], failed)
        return failed

    def _judge(self, index: int, kind: Kind, status: int, body: bytes) -> Failed | None:
        if status != 200:
            return refusal(status, body)
        try:
            if kind in ("update", "insert") or index in self._changing:
                return None if _CHANGED.decode(body).status == "success" else _WRONG
            keys = [row[self._table.key] for row in _FOUND.decode(body).data]
        except (msgspec.DecodeError, KeyError):
            return _WRONG
        wanted = self._table.key_of(self._items[index])
        if kind == "scan":
            right = keys[:1] == [wanted] and keys == sorted(keys) and len(keys) <= self._lengths.pop(index)
        else:
            right = keys == [wanted]
        return None if right else _WRONG

    def _note(self, item: int, failed: Failed | None) -> None:
        if failed is not None:
            if failed.applied == "unknown":
                self.unknown.add(item)
            return
        self._beyond.add(item)
        while self.acknowledged in self._beyond:
            self._beyond.discard(self.acknowledged)
            self.acknowledged += 1
