"""`bin/bench compare OLD NEW`: ratios of medians, spreads, and whether a difference is more than noise.

Runs are few and their figures follow no known law, so the judgement is by rank: the exact two-sided test of Mann and
Whitney (1947) at 5 %. Five runs each can show a difference; three each never can, and that is said instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, comb
from statistics import median
from typing import Literal, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.suite.columns import label, number
from benchmarks.suite.document import Document, Point

Judgement: TypeAlias = Literal["better", "worse", "within noise", "too few runs"]

#: Figures in which more is better; of those that are compared, in all others less is.
_MORE_IS_BETTER = ("rate_per_second", "rows_per_second")
_COMPARED = (*_MORE_IS_BETTER, "seconds", "p50_ms", "p99_ms", "p99_9_ms", "max_ms", "pause_ms")
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of a point in two documents. Spreads are the range of the runs over their median."""

    subject: str
    phase: str
    x: float | str
    figure: str
    old: float
    new: float
    old_spread: float
    new_spread: float
    judgement: Judgement

    @property
    def ratio(self) -> float:
        """Return new over old; infinite where old is zero and new is not."""
        if self.old:
            return self.new / self.old
        return 1.0 if self.new == self.old else float("inf")


def compare(old: Document, new: Document) -> list[Change]:
    """Return the changes of all figures that both documents have."""
    return [
        change for point in new.points for change in _changes(old.point(point.subject, point.phase, point.x), point)
    ]


def only_in_one(old: Document, new: Document) -> Iterator[str]:
    """Yield the points that cannot be compared."""
    for name, here, there in (("old", old, new), ("new", new, old)):
        for point in here.points:
            if there.point(point.subject, point.phase, point.x) is None:
                yield f"only in the {name} one: {point.subject}, {point.phase}, {label(point.x)}"


def judge(figure: str, old: Sequence[float], new: Sequence[float]) -> Judgement:
    """Return whether the new runs differ from the old ones by more than chance, and in which direction."""
    if 2 / comb(len(old) + len(new), len(old)) > _SIGNIFICANT:
        return "too few runs"
    if chance(old, new) > _SIGNIFICANT:
        return "within noise"
    more = median(new) > median(old)
    return "better" if more == (figure in _MORE_IS_BETTER) else "worse"


def chance(old: Sequence[float], new: Sequence[float]) -> float:
    """Return the two-sided probability that runs of the same thing differ by as much as these (Mann and Whitney)."""
    wins = sum((a < b) + (a == b) / 2 for a in old for b in new)
    pairs = len(old) * len(new)
    # A tie counts half for each; what is left of a half goes to the side of "no difference".
    fewer = min(pairs, ceil(min(wins, pairs - wins)))
    ways = sum(_ways(len(old), len(new), count) for count in range(fewer + 1))
    return min(1.0, 2 * ways / comb(len(old) + len(new), len(old)))


@cache
def _ways(old: int, new: int, wins: int) -> int:
    """Return in how many orders of so many old and new runs a new one is ahead of an old one exactly `wins` times."""
    if wins < 0:
        return 0
    if old == 0 or new == 0:
        return int(wins == 0)
    return _ways(old, new - 1, wins - old) + _ways(old - 1, new, wins)


def _changes(old: Point | None, new: Point) -> Iterator[Change]:
    if old is None:
        return
    before, after = old.medians(), new.medians()
    for figure in [name for name in after if name in _COMPARED or name.startswith("cpu_")]:
        if figure in before:
            yield Change(
                new.subject,
                new.phase,
                new.x,
                figure,
                before[figure],
                after[figure],
                _spread(old.values(figure)),
                _spread(new.values(figure)),
                judge(figure, old.values(figure), new.values(figure)),
            )


def _spread(values: Sequence[float]) -> float:
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def table_of(changes: Sequence[Change]) -> Table:
    """Return a table of changes."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "phase", "setting", "figure"):
        table.add_column(heading, no_wrap=True)
    for heading in ("old", "spread", "new", "spread", "new/old"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in changes:
        spreads = [f"{spread:.0%}" for spread in (one.old_spread, one.new_spread)]
        figures = [number(one.old), spreads[0], number(one.new), spreads[1], f"{one.ratio:.2f}"]
        table.add_row(one.subject, one.phase, label(one.x), one.figure, *figures, one.judgement)
    return table
