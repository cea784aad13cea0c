"""Documents for tests of what shows, compares and reports them."""

from __future__ import annotations

from benchmarks.machine import Machine
from benchmarks.suite.document import OURSELVES, Document, Point, Sample

MACHINE = Machine("a processor", 2, 1000, "Linux 1", "3.11", (0.1, 0.2, 0.3), "ext4", 0.2, "abc")


def point(x: float | str, rates: list[float], *, subject: str = OURSELVES, phase: str = "writes") -> Point:
    """Return a point with a run per rate; its latency falls as the rate rises."""
    return Point(subject, phase, x, [Sample({"rate_per_second": rate, "p50_ms": 1000 / rate}) for rate in rates])


def document(*points: Point, experiment: str = "concurrency", revision: str = "abc") -> Document:
    """Return a document of these points."""
    machine = Machine(**{**{name: getattr(MACHINE, name) for name in Machine.__slots__}, "revision": revision})
    return Document(
        experiment=experiment,
        title="Rate over connections",
        x_name="connections",
        started="2026-01-01T00:00:00+00:00",
        command="bin/bench concurrency",
        machine=machine,
        points=list(points),
    )
