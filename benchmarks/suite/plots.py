"""Plots of documents as SVG, by matplotlib: rate and latency over the setting, and what an open loop saw.

matplotlib comes with the extras `bench` and `dev`; nothing else needs it, so it is imported here only, when asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

from benchmarks.suite.columns import label
from benchmarks.suite.document import Document, Point

#: Text stays text and ids do not change from one drawing to the next, so that a plot can be reviewed as a difference.
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "shardlb", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
_RATES = {"rows_per_second": "rows per second", "rate_per_second": "requests per second"}
_PANEL_INCHES = (4.6, 3.2)
#: Percentiles are drawn over 100 / (100 - percent), so that each nine takes as much room as the one before.
_NINES = {50: "50", 90: "90", 99: "99", 99.9: "99.9", 99.99: "99.99"}


class MissingMatplotlibError(Exception):
    """The world's fault: the library that draws is not installed."""


def plot(document: Document) -> bytes:
    """Return a document's plot as SVG. Raises MissingMatplotlibError."""
    try:
        matplotlib = import_module("matplotlib")
        figures = import_module("matplotlib.figure")
    except ImportError as reason:
        raise MissingMatplotlibError("plots need matplotlib: pip install -e '.[bench]', or --no-plots") from reason
    panels = list(_panels(document))
    with matplotlib.rc_context(_SETTINGS):
        size = (_PANEL_INCHES[0] * len(panels), _PANEL_INCHES[1])
        figure = figures.Figure(figsize=size, layout="constrained")
        for place, draw in enumerate(panels, 1):
            draw(figure.add_subplot(1, len(panels), place))
        out = BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    # A drawing library's trailing blanks would be noise in every review.
    return b"".join(line.rstrip() + b"\n" for line in out.getvalue().splitlines())


def _panels(document: Document) -> Iterator[Callable[[Any], None]]:
    """Yield what draws each panel on the axes that it is given."""
    present = Counter(name for point in document.points for name in point.medians())
    rate = next((name for name in _RATES if name in present), None)
    if rate is not None:
        yield lambda axes: _over_settings(axes, document, rate, _RATES[rate])
    if present["p99_ms"] > 1:
        yield lambda axes: _over_settings(axes, document, "p99_ms", "p99, ms")
    if any(sample.curves for point in document.points for sample in point.samples):
        yield lambda axes: _spectra(axes, document)
        yield lambda axes: _seconds(axes, document)


def _over_settings(axes: Any, document: Document, figure: str, title: str) -> None:
    """Draw a figure of each subject and phase: a line over numbers, bars over names; whiskers from least to most."""
    lines = _lines(document.points, figure)
    names = list(dict.fromkeys(point.x for points in lines.values() for point in points))
    if all(isinstance(x, float | int) for x in names) and len(names) > 1:
        for name, points in lines.items():
            axes.errorbar([p.x for p in points], *_heights(points, figure), label=name, marker="o", ms=3, capsize=2)
        axes.set_xscale("log", base=2)
        axes.set_xticks(names, [label(x) for x in names])
    else:
        width = 0.8 / len(lines)
        for place, (name, points) in enumerate(lines.items()):
            at = [names.index(point.x) + width * (place - (len(lines) - 1) / 2) for point in points]
            heights, whiskers = _heights(points, figure)
            axes.bar(at, heights, width, yerr=whiskers, label=name, capsize=2)
        axes.set_xticks(range(len(names)), [label(x) for x in names])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(document.x_name)
    axes.set_title(title)
    axes.legend(fontsize=7)


def _lines(points: Sequence[Point], figure: str) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for point in points:
        if figure in point.medians():
            lines.setdefault(f"{point.subject}, {point.phase}", []).append(point)
    return lines


def _heights(points: Sequence[Point], figure: str) -> tuple[list[float], list[list[float]]]:
    """Return medians, and how far the least and the most are from them."""
    medians = [point.medians()[figure] for point in points]
    below = [middle - min(point.values(figure)) for middle, point in zip(medians, points, strict=True)]
    above = [max(point.values(figure)) - middle for middle, point in zip(medians, points, strict=True)]
    return medians, [below, above]


def _spectra(axes: Any, document: Document) -> None:
    """Draw latency over its percentile, of the last run."""
    for point in document.points:
        curves = point.samples[-1].curves
        if "spectrum_ms" in curves:
            pairs = zip(curves["spectrum_percent"], curves["spectrum_ms"], strict=True)
            places = [(100 / (100 - percent), value) for percent, value in pairs if percent < 100]
            axes.plot(*zip(*places, strict=True), label=label(point.x))
    axes.set_xscale("log")
    axes.set_xticks([100 / (100 - percent) for percent in _NINES], list(_NINES.values()))
    axes.set_xlabel("percentile")
    axes.set_title("latency since due, ms")
    axes.legend(fontsize=7)


def _seconds(axes: Any, document: Document) -> None:
    """Draw the worst latency of each second, of the last run."""
    for point in document.points:
        worst = point.samples[-1].curves.get("worst_ms_by_second")
        if worst:
            axes.plot(range(len(worst)), worst, label=label(point.x), linewidth=0.8)
    axes.set_xlabel("seconds")
    axes.set_title("worst latency of each second, ms")
    axes.legend(fontsize=7)
