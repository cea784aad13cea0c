"""A session of A-1, A-2 or A-3 as a document, so that it is compared and reported as all experiments are."""

from __future__ import annotations

import msgspec

from benchmarks.run import Pair
from benchmarks.session import Session
from benchmarks.suite.document import OURSELVES, Document, Points, Sample
from benchmarks.usage import Usage
from benchmarks.workloads import WORKLOADS

_FIGURES = ("rate_per_second", "p50_ms", "p95_ms", "p99_ms", "max_ms", "pause_ms")


def document_of(session: Session, command: str) -> Document:
    """Return the figures of all runs; those of the bare Klein app and of the client's own limit are peers'."""
    workload = WORKLOADS[session.options.workload]
    points = Points()
    for run in session.runs:
        _add(points, OURSELVES, run.ours.figures, workload.name, run.ours.usage, run.ours.verdict.problems)
        if run.ceiling is not None:
            _add(points, "klein", run.ceiling, workload.name, {}, [])
    return Document(
        experiment=workload.name,
        title=f"{workload.name}: {workload.about}",
        x_name="workload",
        started=session.started,
        command=command,
        machine=session.machine,
        points=points.all(),
        options=msgspec.to_builtins(session.options),
    )


def _add(points: Points, subject: str, pair: Pair, x: str, usage: dict[str, Usage], problems: list[str]) -> None:
    for phase, summary in (("writes", pair.writes), ("reads", pair.reads)):
        used = usage.get(phase, Usage({}, []))
        figures = {**{name: getattr(summary, name) for name in _FIGURES}, **used.figures(summary.succeeded)}
        points.add(subject, phase, x, Sample(figures, summary.errors, problems, used.memory))
