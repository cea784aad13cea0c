"""Checks after a run that all replicas of each shard are identical and hold exactly what was acknowledged.

Rows of unknown outcome may be there or not, but the same everywhere; rows that were certainly refused must be
absent. Followers may lag behind the last acknowledgement for a moment, so what differs is read again until it agrees
or a deadline is over. One copy of each shard is held in memory at a time, besides the answer being compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from benchmarks.door import UnexpectedAnswerError, UnreachableError
from benchmarks.measure import Failed
from benchmarks.workloads import Record

#: The rows of one shard on one server, by id.
Copy: TypeAlias = dict[int, Any]
#: Reads what a server's replicas hold: its rows by shard.
ReadServer: TypeAlias = Callable[[str], Awaitable[Mapping[str, list[Any]]]]

_RETRY_SECONDS = 0.25
_PROBLEMS_SHOWN = 20
_IDS_SHOWN = 5


class Expectation(Protocol):
    """Knows what must be there. `stored` are the ids of rows that must be there, `unknown` of those that may."""

    @property
    def stored(self) -> Collection[int]:
        """Return the ids acknowledged."""
        ...

    @property
    def unknown(self) -> Collection[int]:
        """Return the ids of unknown outcome."""
        ...

    def copy_of(self, rows: list[Any]) -> Copy:
        """Return rows as they came by their ids."""
        ...

    def unaccounted(self, rows: Copy) -> list[str]:
        """Return what is wrong with the rows of all shards."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """Rows of the course's table: what must, may and must not be there.

    With `alone` nobody else wrote, so nothing else may be there either.
    """

    stored: Mapping[int, Record]
    unknown: Mapping[int, Record]
    absent: Collection[int]
    alone: bool

    @classmethod
    def after(cls, records: Sequence[Record], failures: Mapping[int, Failed], *, alone: bool) -> Expected:
        """Return what is expected once these were written, with the failures by their place in `records`."""
        applied = {index: failed.applied for index, failed in failures.items()}
        return cls(
            stored={record.Stud_id: record for index, record in enumerate(records) if index not in applied},
            unknown={records[index].Stud_id: records[index] for index in applied if applied[index] == "unknown"},
            absent={records[index].Stud_id for index in applied if applied[index] == "no"},
            alone=alone,
        )

    def copy_of(self, rows: list[Any]) -> Copy:
        """Return records by their ids."""
        return {record.Stud_id: record for record in msgspec.convert(rows, list[Record])}

    def unaccounted(self, rows: Copy) -> list[str]:
        """Return what is wrong with the rows, given what was acknowledged."""
        ours = {*self.stored, *self.unknown, *self.absent}
        wrong = {
            "acknowledged but missing": [row_id for row_id in self.stored if row_id not in rows],
            "acknowledged but different": [i for i, row in self.stored.items() if rows.get(i, row) != row],
            "of unknown outcome and different": [i for i, row in self.unknown.items() if rows.get(i, row) != row],
            "refused but there": [row_id for row_id in rows if row_id in self.absent],
            "there but never written": [row_id for row_id in rows if row_id not in ours] if self.alone else [],
        }
        return described(wrong)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found. `seconds` is how long the replicas took to agree, or the deadline."""

    problems: list[str]
    replicas: int
    rows: int
    unknown_stored: int
    seconds: float

    @property
    def good(self) -> bool:
        """Return whether everything is as it must be."""
        return not self.problems


async def verify(
    reactor: IReactorTime,
    read_server: ReadServer,
    servers: Mapping[str, Iterable[str]],
    expected: Expectation,
    *,
    deadline_seconds: float,
) -> Verdict:
    """Compare the replicas that `servers` names (server: its shards) until they are right or time is up."""
    started = reactor.seconds()
    while True:
        comparison = await _compare_all(read_server, servers, expected.copy_of)
        problems = comparison.problems + expected.unaccounted(comparison.rows())
        seconds = reactor.seconds() - started
        if not problems or seconds >= deadline_seconds:
            break
        await deferLater(reactor, _RETRY_SECONDS)
    rows = comparison.rows()
    return Verdict(
        problems=problems[:_PROBLEMS_SHOWN],
        replicas=comparison.replicas,
        rows=len(rows),
        unknown_stored=sum(row_id in rows for row_id in expected.unknown),
        seconds=seconds,
    )


async def _compare_all(
    read_server: ReadServer, servers: Mapping[str, Iterable[str]], copy_of: Callable[[list[Any]], Copy]
) -> Comparison:
    comparison = Comparison(copy_of)
    for server, shards in servers.items():
        try:
            held = await read_server(server)
        except (UnreachableError, UnexpectedAnswerError) as reason:
            comparison.problems.append(f"{server} cannot be read: {reason}")
        else:
            comparison.add(server, shards, held)
    return comparison


class Comparison:
    """Compares the copies of each shard with the first one added."""

    def __init__(self, copy_of: Callable[[list[Any]], Copy]) -> None:
        self._copy_of = copy_of
        self.problems: list[str] = []
        self.replicas = 0
        self._first: dict[str, tuple[str, Copy]] = {}

    def add(self, server: str, shards: Iterable[str], held: Mapping[str, list[Any]]) -> None:
        """Add what a server holds, which must be the given shards and no others."""
        named = set(shards)
        for shard in sorted(named ^ set(held)):
            self.problems.append(f"{server} {'does not hold' if shard in named else 'holds'} {shard}")
        for shard in sorted(named & set(held)):
            self._compare(server, shard, held[shard])

    def rows(self) -> Copy:
        """Return the rows of all shards, of the first copy of each."""
        rows: Copy = {}
        for _, copy in self._first.values():
            rows |= copy
        return rows

    def _compare(self, server: str, shard: str, rows: list[Any]) -> None:
        self.replicas += 1
        copy = self._copy_of(rows)
        if len(copy) < len(rows):
            self.problems.append(f"{shard} on {server} holds an id twice")
        other_server, other = self._first.setdefault(shard, (server, copy))
        different = sorted(row_id for row_id in other.keys() | copy.keys() if other.get(row_id) != copy.get(row_id))
        if different:
            self.problems.append(f"{shard} differs between {other_server} and {server}: {_ids(different)}")


def described(wrong: Mapping[str, list[int]]) -> list[str]:
    """Return a line for each kind of wrong row that has any."""
    return [f"{what}: {_ids(sorted(ids))}" for what, ids in wrong.items() if ids]


def _ids(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:_IDS_SHOWN]))
    return f"{len(ids)} rows, ids {shown}{', …' if len(ids) > _IDS_SHOWN else ''}"
