"""From a measurement to the figures of a sample."""

from __future__ import annotations

from benchmarks.measure import Measurement, summarise
from benchmarks.suite.document import Sample
from benchmarks.usage import Usage


def sample_of(measured: Measurement, usage: Usage, rows_per_request: int | None = None) -> Sample:
    """Return the figures of a measurement; processor time is per row.

    Rows are counted where requests have several, or may have.
    """
    summary = summarise(measured, lambda index: "")
    rows = summary.succeeded * (rows_per_request or 1)
    figures = {
        "rate_per_second": summary.rate_per_second,
        "p50_ms": summary.p50_ms,
        "p95_ms": summary.p95_ms,
        "p99_ms": summary.p99_ms,
        "max_ms": summary.max_ms,
        "pause_ms": summary.pause_ms,
        "requests": float(summary.requests),
        **usage.figures(rows),
    }
    if rows_per_request is not None:
        figures["rows_per_second"] = summary.rate_per_second * rows_per_request
    return Sample(figures, summary.errors, [], usage.memory)
