"""The command: replay directories or files of cases; `--rewrite` records what is said instead of comparing it.

Prints a line for each file, what differs below it, and how many passed; the exit status is 1 if any failed.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from raftlog.testing.datadriven.replay import Difference, files, record, replay


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m raftlog.testing.datadriven", description=__doc__)
    parser.add_argument("places", nargs="+", type=Path, metavar="DIR", help="a directory, or a single file")
    parser.add_argument("--rewrite", action="store_true", help="record the answers of this core in the files")
    options = parser.parse_args(arguments)
    missing = [place for place in options.places if not place.exists()]
    if missing:
        parser.error(f"{missing[0]} does not exist")
    found = list(files(options.places))
    if options.rewrite:
        for path in found:
            record(path)
    failed = sum(not _passes(path) for path in found)
    _say(f"{len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _passes(path: Path) -> bool:
    try:
        differences = replay(path)
    except Exception as error:  # noqa: BLE001 - a core that stumbles over one file must not hide the others
        _say(f"{path}: failed: {type(error).__name__}: {error}")
        return False
    _say(f"{path}: {'failed' if differences else 'passed'}")
    for difference in differences:
        _say(f"  line {difference.line}: {difference.directive}")
        for line in _lines(difference):
            _say(f"    {line}")
    return not differences


def _lines(difference: Difference) -> Iterator[str]:
    """Yield the lines of a unified difference without its heading."""
    expected, said = difference.expected.splitlines(), difference.found.splitlines()
    yield from list(difflib.unified_diff(expected, said, "expected", "found", lineterm=""))[2:]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
