"""Shows a document on a terminal: one table, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.machine import Machine
from benchmarks.suite.columns import cells, columns
from benchmarks.suite.document import Document


def show(document: Document, console: Console) -> None:
    """Print medians of all points, failures, what verification found, and the conditions.

    The console must be wide enough for figures to be whole.
    """
    console.print(f"{document.title}\n", highlight=False, markup=False)
    console.print(_table(document))
    for line in (*notes(document), conditions(document.machine)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def notes(document: Document) -> Iterator[str]:
    """Yield what failed and what verification found wrong."""
    for point in document.points:
        name = f"{point.subject}, {point.phase}, {document.x_name} {point.x}"
        for kind, count in point.errors().items():
            yield f"{name}: {count:,} of {kind}"
        for number, sample in enumerate(point.samples, 1):
            for problem in sample.problems:
                yield f"{name}, run {number}: WRONG: {problem}"


def conditions(machine: Machine) -> str:
    """Return the line that says where it was measured."""
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Python {machine.python}, "
        f"load {machine.load_average[0]:.2f}, {machine.filesystem}, fdatasync {machine.sync_ms:.2f} ms, "
        f"revision {machine.revision}"
    )


def _table(document: Document) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    wanted = columns(document)
    for column in wanted:
        table.add_column(column.heading, justify="left" if column.is_name else "right", no_wrap=True)
    for point in document.points:
        table.add_row(*cells(document, point, wanted))
    return table
