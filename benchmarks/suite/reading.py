"""The command lines that read results instead of making them: `bin/bench compare` and `bin/bench report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.suite.compare import compare, only_in_one, table_of
from benchmarks.suite.document import Document, DocumentError, load
from benchmarks.suite.plots import MissingMatplotlibError, plot
from benchmarks.suite.results import insert
from benchmarks.suite.show import conditions

_BENCHMARKS = Path(__file__).parents[1]
_EXIT_STOPPED = 2
_WIDTH_MIN = 130


def main_compare(arguments: Sequence[str]) -> None:
    """Show what differs between two results."""
    parser = argparse.ArgumentParser(prog="bin/bench compare", description=compare.__doc__)
    parser.add_argument("old", type=Path, help="what an earlier --json wrote")
    parser.add_argument("new", type=Path, help="what a later one wrote, of the same experiment")
    given = parser.parse_args(arguments)
    old, new = _loaded([given.old, given.new])
    if old.experiment != new.experiment:
        parser.error(f"{given.old} is of {old.experiment}, {given.new} of {new.experiment}: give two of one kind")
    console = Console(width=max(Console().width, _WIDTH_MIN))
    console.print(table_of(compare(old, new)))
    for line in (
        *only_in_one(old, new),
        f"old: {old.started}, {conditions(old.machine)}",
        f"new: {new.started}, {conditions(new.machine)}",
        "Spread: range of the runs over their median. Noise: Mann and Whitney's exact test at 5 %.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def main_report(arguments: Sequence[str]) -> None:
    """Put tables and plots into the results' page."""
    parser = argparse.ArgumentParser(prog="bin/bench report", description=main_report.__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="what --json wrote, one of each experiment")
    parser.add_argument(
        "--into", type=Path, default=_BENCHMARKS / "RESULTS.md", help="Markdown file; plots go beside it"
    )
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="tables only, without matplotlib")
    given = parser.parse_args(arguments)
    documents = _loaded(given.results)
    names = [document.experiment for document in documents]
    if twice := {name for name in names if names.count(name) > 1}:
        parser.error(f"more than one result of {', '.join(sorted(twice))}")
    if not given.into.is_file():
        parser.error(f"--into: there is no file {given.into}")
    if given.plots:
        _stopping(lambda: _draw(documents, given.into.parent / "plots"))
    given.into.write_text(insert(given.into.read_text(), documents, "plots" if given.plots else None))


def _draw(documents: Sequence[Document], directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for document in documents:
        (directory / f"{document.experiment}.svg").write_bytes(plot(document))


def _loaded(paths: Sequence[Path]) -> list[Document]:
    found: list[Document] = []
    _stopping(lambda: found.extend(load(path) for path in paths))
    return found


def _stopping(work: Callable[[], None]) -> None:
    """Do what may fail by no fault of ours; then say why and end."""
    try:
        work()
    except (DocumentError, MissingMatplotlibError) as reason:
        sys.stderr.write(f"bench: {reason}\n")
        raise SystemExit(_EXIT_STOPPED) from reason
