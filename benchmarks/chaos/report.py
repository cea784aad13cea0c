"""What a chaos found: the verdict, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
from rich.console import Console

from benchmarks.chaos.judge import Linearizability
from benchmarks.verify import Verdict

_IDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for. `url` and `data_dir` are None for a cluster of chaos's own.

    `containers` is the image of that cluster's servers, None for processes.
    """

    seed: int
    minutes: float
    clients: int
    url: str | None
    data_dir: str | None
    directory: str | None
    keep: bool
    containers: str | None = None
    balancers: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say. `errors` are those endings of requests that no fault excuses."""

    options: Options
    seconds: float
    faults: dict[str, int]
    acknowledged: int
    lost: list[int]
    outcomes: dict[str, int]
    errors: dict[str, int]
    pause_seconds_by_shard: dict[str, float]
    pause_seconds_by_fault: dict[str, float]
    problems: list[str]
    linearizability: Linearizability
    replicas: Verdict

    @property
    def good(self) -> bool:
        """Return whether nothing was lost, no client saw an error without a cause, and an order was found."""
        wrong = self.lost or self.errors or self.problems
        return not wrong and self.linearizability.good and self.replicas.good


def show(report: Report, kept: str | None, console: Console) -> None:
    """Print what was found."""
    for line in _lines(report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if kept is not None:
        console.print(f"data and logs are kept in {kept}", highlight=False, markup=False, soft_wrap=True)


def to_json(report: Report, kept: str | None) -> bytes:
    """Return everything as indented JSON."""
    document = {**msgspec.to_builtins(report, str_keys=True), "good": report.good, "kept": kept}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"seed {report.options.seed}, {report.seconds:.0f} s, {report.options.clients} clients"
    yield f"faults: {_counts(report.faults)}"
    yield f"requests: {_counts(report.outcomes)}"
    yield f"longest pause of each shard: {_pauses(report.pause_seconds_by_shard)}"
    yield f"longest pause since each fault: {_pauses(report.pause_seconds_by_fault)}"
    yield f"acknowledged {report.acknowledged:,}, lost {len(report.lost):,}{_ids(report.lost)}"
    yield from (f"WRONG: clients saw, without a cause: {kind} ({count})" for kind, count in report.errors.items())
    yield from (f"WRONG: {problem}" for problem in [*report.problems, *report.replicas.problems])
    order = report.linearizability
    yield from (f"WRONG: {len(ids)} ids {what}{_ids(ids)}" for what, ids in _disorder(order).items() if ids)
    if order.good:
        yield f"linearizable: {order.operations:,} operations on {order.ids:,} ids"
    if report.replicas.good:
        yield f"{report.replicas.replicas} replicas identical, {report.replicas.rows:,} rows"
    yield "good" if report.good else f"NOT GOOD; the same faults again: bin/chaos --seed {report.options.seed}"


def _disorder(order: Linearizability) -> dict[str, list[int]]:
    return {"are not linearizable": order.violated, "could not be decided": order.undecided}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items()) or "none"


def _pauses(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{what} {pause:.1f} s" for what, pause in sorted(seconds.items()))


def _ids(ids: list[int]) -> str:
    return f": {', '.join(map(str, ids[:_IDS_SHOWN]))}{', …' if len(ids) > _IDS_SHOWN else ''}" if ids else ""
