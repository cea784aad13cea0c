"""Which columns a document's table has, on the terminal and in a report alike: those figures that any point has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.suite.document import OURSELVES, Document, Point

#: Figures with their headings, in the order of the columns. Others are in the JSON alone.
_FIGURES = {
    "rate_per_second": "per s",
    "rows_per_second": "rows/s",
    "seconds": "s",
    "mean_ms": "mean ms",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p99_9_ms": "p99.9 ms",
    "max_ms": "max ms",
    "pause_ms": "pause ms",
    "late_p99_ms": "sent late p99 ms",
}
#: Growth is shown where any process grew by so much.
_GROWTH_MB = 10
_RATIO_FIGURES = ("rate_per_second", "rows_per_second")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what stands above it, and what stands in it for a point."""

    heading: str
    is_name: bool
    cell: Callable[[Document, Point], str]


def columns(document: Document) -> list[Column]:
    """Return the columns of a document's table."""
    present = {name for point in document.points for name in point.medians()}
    found = [
        Column("", True, lambda document, point: point.subject),
        Column("phase", True, lambda document, point: point.phase),
        Column(document.x_name or "setting", False, lambda document, point: label(point.x)),
    ]
    found += [Column(heading, False, _figure(name)) for name, heading in _FIGURES.items() if name in present]
    if any(len(point.samples) > 1 for point in document.points):
        found.append(Column("runs", False, _spread))
    if any(name.startswith("cpu_") for name in present):
        found.append(Column("CPU µs", False, _cpu))
    if any(name.startswith("rss_peak_") for name in present):
        found.append(Column("RSS peak MB", False, _by("rss_peak_")))
    if any(
        name.startswith("rss_growth_") and value >= _GROWTH_MB
        for p in document.points
        for name, value in p.medians().items()
    ):
        found.append(Column("growth MB", False, _by("rss_growth_")))
    ours, *peers = document.subjects()
    if ours != OURSELVES:
        return found
    return found + [Column(f"of {peer}", False, _ratio(peer)) for peer in peers]


def cells(document: Document, point: Point, wanted: Sequence[Column]) -> list[str]:
    """Return the row of a point."""
    return [column.cell(document, point) for column in wanted]


def label(x: float | str) -> str:
    """Return x as people write it: without a fraction where it has none."""
    return x if isinstance(x, str) else f"{x:,g}" if x % 1 else f"{int(x):,}"


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figure(name: str) -> Callable[[Document, Point], str]:
    def cell(document: Document, point: Point) -> str:
        medians = point.medians()
        return number(medians[name]) if name in medians else ""

    return cell


def _spread(document: Document, point: Point) -> str:
    """Return how many runs there were, and the range of their main figure."""
    for name in (*_RATIO_FIGURES, "p50_ms"):
        if values := point.values(name):
            return f"{len(values)}: {number(min(values))}..{number(max(values))}"
    return f"{len(point.samples)}"


def _cpu(document: Document, point: Point) -> str:
    """Return microseconds per operation: balancer + servers + client, or the peer's own processes + client."""
    return " + ".join(f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in _by_role(point, "cpu_", "_us"))


def _by(prefix: str) -> Callable[[Document, Point], str]:
    def cell(document: Document, point: Point) -> str:
        return " + ".join(f"{value:.0f}" for value in _by_role(point, prefix, "_mb"))

    return cell


def _by_role(point: Point, prefix: str, suffix: str) -> list[float]:
    medians = point.medians()
    roles = [name[len(prefix) : -len(suffix)] for name in medians if name.startswith(prefix)]
    order = sorted(roles, key=lambda role: (role == "client", role != "balancer"))
    return [medians[f"{prefix}{role}{suffix}"] for role in order]


def _ratio(peer: str) -> Callable[[Document, Point], str]:
    def cell(document: Document, point: Point) -> str:
        if point.subject != OURSELVES:
            return ""
        found = (document.ratio(point, peer, name) for name in _RATIO_FIGURES)
        return next((f"{ratio:.2f}" for ratio in found if ratio is not None), "")

    return cell
