"""What an experiment found, in one shape for all of them, so that one table, one plot and one comparison serve all.

A document has points; a point is a subject (who was measured) in a phase (doing what) at an x (under which setting),
with one sample per run. Samples of the same run of different subjects were measured one after the other in the same
session: ratios between subjects are taken within a run and then their median, never between medians.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.machine import Machine
from benchmarks.usage import Memory

#: The name of ourselves among subjects; everybody else is a peer.
OURSELVES = "shardlb"


class DocumentError(Exception):
    """The caller's mistake: a file that is no result of the suite."""


class Sample(msgspec.Struct, frozen=True):
    """One run of a point.

    `figures` are numbers by name; the unit ends the name. `errors` counts failed requests by kind, `problems` says
    what verification found wrong. `curves` are series of numbers, for plots.
    """

    figures: dict[str, float]
    errors: dict[str, int] = {}
    problems: list[str] = []
    memory: list[Memory] = []
    curves: dict[str, list[float]] = {}


class Point(msgspec.Struct, frozen=True):
    """A subject in a phase at a setting, with a sample per run."""

    subject: str
    phase: str
    x: float | str
    samples: list[Sample]

    def medians(self) -> dict[str, float]:
        """Return the median of each figure that every run has."""
        names = [name for name in self.samples[0].figures if all(name in one.figures for one in self.samples)]
        return {name: median(self.values(name)) for name in names}

    def values(self, figure: str) -> list[float]:
        """Return a figure of each run that has it."""
        return [sample.figures[figure] for sample in self.samples if figure in sample.figures]

    def errors(self) -> dict[str, int]:
        """Return the failed requests of all runs by kind."""
        kinds = sorted({kind for sample in self.samples for kind in sample.errors})
        return {kind: sum(sample.errors.get(kind, 0) for sample in self.samples) for kind in kinds}


class Document(msgspec.Struct, frozen=True):
    """What `--json` writes. `x_name` names what x is, with its unit; `command` is what was typed."""

    experiment: str
    title: str
    x_name: str
    started: str
    command: str
    machine: Machine
    points: list[Point]
    options: dict[str, Any] = {}

    @property
    def good(self) -> bool:
        """Return whether nothing failed of ours and verification found nothing wrong."""
        return not any(
            sample.problems or (sample.errors and point.subject == OURSELVES)
            for point in self.points
            for sample in point.samples
        )

    def subjects(self) -> list[str]:
        """Return all subjects, ourselves first."""
        found = dict.fromkeys(point.subject for point in self.points)
        return sorted(found, key=lambda subject: subject != OURSELVES)

    def point(self, subject: str, phase: str, x: float | str) -> Point | None:
        """Return a point, None if there is none."""
        wanted = (subject, phase, x)
        return next((one for one in self.points if (one.subject, one.phase, one.x) == wanted), None)

    def ratio(self, point: Point, peer: str, figure: str) -> float | None:
        """Return the median over runs of a figure of ours over the peer's, None if the peer was not measured."""
        other = self.point(peer, point.phase, point.x)
        if other is None or other is point:
            return None
        return ratio(point, other, figure)


def ratio(ours: Point, theirs: Point, figure: str) -> float | None:
    """Return the median over runs of a figure over another point's, None if no run has both."""
    pairs = zip(ours.samples, theirs.samples, strict=False)
    ratios = [
        here.figures[figure] / there.figures[figure]
        for here, there in pairs
        if figure in here.figures and there.figures.get(figure)
    ]
    return median(ratios) if ratios else None


class Points:
    """Gathers samples into points, in the order in which points first appeared."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str, float | str], Point] = {}

    def add(self, subject: str, phase: str, x: float | str, sample: Sample) -> None:
        """Add the sample of one more run."""
        point = self._points.setdefault((subject, phase, x), Point(subject, phase, x, []))
        point.samples.append(sample)

    def all(self) -> list[Point]:
        """Return the points gathered."""
        return list(self._points.values())


def load(path: Path) -> Document:
    """Read a document. Raises DocumentError with the file's name."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except OSError as reason:
        raise DocumentError(f"cannot read {path}: {reason.strerror}") from reason
    except msgspec.MsgspecError as reason:
        raise DocumentError(f"{path} is no result written by --json: {reason}") from reason


def save(document: Document, path: Path) -> None:
    """Write a document as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
