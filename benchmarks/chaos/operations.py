"""What the clients do: steps drawn from a seed, the requests that they become, and what the answers to these say."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, TypeAlias

import msgspec

from benchmarks import answers
from benchmarks.http1 import Response
from benchmarks.measure import Failed
from benchmarks.workloads import Record
from raftlog.testing.linearizability import ABSENT, Kind


class What(StrEnum):
    """A kind of step. The last three are on fresh ids, the others on hot ones."""

    READ = "read"
    RANGE = "range"
    UPDATE = "update"
    INSERT = "insert"
    DELETE = "delete"
    STORE = "store"
    STORE_MANY = "store many"
    FIND = "find"


_WEIGHTS = {
    What.READ: 30,
    What.RANGE: 6,
    What.UPDATE: 20,
    What.INSERT: 14,
    What.DELETE: 10,
    What.STORE: 10,
    What.STORE_MANY: 2,
    What.FIND: 8,
}
#: Clients share two cores with the cluster; with this they ask some hundred times a second, not as often as they can.
#: Nearly every second step comes at once, for a read right after a write is what shows a replica that is behind.
_THINK_SECONDS = (-0.05, 0.07)
#: How far a range reaches into the next shard.
BEYOND = 20


@dataclass(frozen=True, slots=True)
class Step:
    """What a client does next: `slot` and `pick` (0 to 1) say to which id, `value` is unique."""

    what: What
    slot: int
    pick: float
    value: str
    think_seconds: float


def steps(rng: Random, client: str, slots: int) -> Iterator[Step]:
    """Yield what a client does, without end."""
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    number = 0
    while True:
        number += 1
        what = rng.choices(kinds, weights)[0]
        pick, think_seconds = rng.random(), max(0.0, rng.uniform(*_THINK_SECONDS))
        yield Step(what, rng.randrange(slots), pick, f"{client}.{number}", think_seconds)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer says of each id: its result, or that it is unknown; an id in neither was not touched.

    `error` is why the answer is not one of those that a client must expect, "" if it is.
    """

    results: dict[int, Hashable] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    error: str = ""


_Judge: TypeAlias = Callable[[int, bytes], Outcome]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client. `ids` are those it is about, with what each is to become (None for a read)."""

    what: What
    kind: Kind
    method: str
    path: str
    body: dict[str, Any]
    low: int
    high: int
    ids: dict[int, Record | None]
    judge: _Judge

    def outcome(self, response: Response) -> Outcome:
        """Return what an answer says."""
        return self.judge(response.status, response.body)

    def unanswered(self, *, sent: bool) -> Outcome:
        """Return what no answer says."""
        if not sent:
            return Outcome(error="not connected")
        return Outcome(unknown=frozenset(() if self.kind is Kind.READ else self.ids), error="no answer")


def insert(what: What, records: list[Record]) -> Request:
    """Store rows whose ids, if there is one row, may be taken."""
    ids: dict[int, Record | None] = {record.Stud_id: record for record in records}
    expected = answers.rows_stored(len(records))

    def judge(status: int, body: bytes) -> Outcome:
        failed = expected(0, status, body)
        if failed is None:
            return Outcome(dict.fromkeys(ids, True))
        if failed.kind == "409 duplicate" and what is What.INSERT:
            return Outcome(dict.fromkeys(ids, False))
        return _told_by_shard(body, ids, failed)

    return Request(what, Kind.INSERT, "POST", "/write", {"data": records}, min(ids), max(ids), ids, judge)


def update(record: Record) -> Request:
    """Change all columns of a row that may not be there."""
    body = {"Stud_id": record.Stud_id, "data": {"Stud_name": record.Stud_name, "Stud_marks": record.Stud_marks}}
    return _change(What.UPDATE, Kind.UPDATE, ("PUT", "/update"), body, record.Stud_id, record)


def delete(row_id: int) -> Request:
    """Remove a row that may not be there."""
    return _change(What.DELETE, Kind.DELETE, ("DELETE", "/del"), {"Stud_id": row_id}, row_id, None)


def read(what: What, low: int, high: int, ids: list[int]) -> Request:
    """Read the rows of a range; those with these ids are of interest."""

    def judge(status: int, body: bytes) -> Outcome:
        rows = answers.rows_of(body) if status == 200 else None
        if rows is None:
            return Outcome(error=answers.refusal(status, body).kind)
        found = {record.Stud_id: record for record in rows}
        return Outcome({row_id: found.get(row_id, ABSENT) for row_id in ids})

    body = {"Stud_id": {"low": low, "high": high}}
    return Request(what, Kind.READ, "POST", "/read", body, low, high, dict.fromkeys(ids), judge)


def _change(
    what: What, kind: Kind, where: tuple[str, str], body: dict[str, Any], row_id: int, record: Record | None
) -> Request:
    def judge(status: int, answer: bytes) -> Outcome:
        failed = answers.row_changed(0, status, answer)
        if failed is None:
            return Outcome({row_id: True})
        if failed.kind == "404 not_found":
            return Outcome({row_id: False})
        return _all_alike({row_id: record}, failed)

    return Request(what, kind, *where, body, row_id, row_id, {row_id: record}, judge)


class _Part(msgspec.Struct):
    """What one shard did with its rows of a write."""

    stored: list[int] = []
    unknown: list[int] = []


class _Parts(msgspec.Struct):
    shards: dict[str, _Part]


def _told_by_shard(body: bytes, ids: dict[int, Record | None], failed: Failed) -> Outcome:
    """Read what the answer to a failed write says of each shard, if it does."""
    try:
        parts = msgspec.json.decode(body, type=_Parts).shards.values()
    except msgspec.DecodeError:
        return _all_alike(ids, failed)
    stored = {row_id: True for part in parts for row_id in part.stored}
    return Outcome(dict(stored), frozenset(row_id for part in parts for row_id in part.unknown), failed.kind)


def _all_alike(ids: dict[int, Record | None], failed: Failed) -> Outcome:
    return Outcome(unknown=frozenset(ids) if failed.applied == "unknown" else frozenset(), error=failed.kind)
