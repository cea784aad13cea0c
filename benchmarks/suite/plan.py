"""`bin/bench all DIRECTORY`: every table of RESULTS.md, one experiment after the other, each a process of its own.

Results go to DIRECTORY/NAME.json, so that one that failed can be repeated alone, and the rest is there for
`bin/bench report DIRECTORY/*.json`.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_BENCH = Path(__file__).parents[2] / "bin" / "bench"


@dataclass(frozen=True, slots=True)
class Planned:
    """A command line of bin/bench, and how long it takes on two cores that have nothing else to do."""

    line: str
    minutes: int

    @property
    def name(self) -> str:
        """Return the experiment's name."""
        return self.line.split()[0]


PLAN = (
    Planned("A-1 --runs 5 --ceiling", 2),
    Planned("A-2 --runs 5", 2),
    Planned("A-3 --runs 5", 3),
    Planned("versus-etcd --runs 5", 7),
    Planned("single --runs 5 --peer etcd --peer klein --peer web", 5),
    Planned(
        "concurrency --runs 5 --seconds 2 --peer etcd --peer klein --peer web --peer constant",
        16,
    ),
    Planned("batch --runs 5", 3),
    Planned("values --runs 5 --seconds 3 --peer etcd", 6),
    Planned("layouts --runs 5", 4),
    Planned("replicas --runs 5", 6),
    Planned("shards --runs 5", 7),
    Planned("consistency --runs 5", 2),
    Planned("ycsb --runs 5", 10),
    Planned("latency --duration 300", 17),
    Planned("bulk --runs 5 --peer postgres", 6),
    Planned("storage --runs 5", 4),
)


def main_all(arguments: Sequence[str]) -> None:
    """Do all experiments of the plan, or some; exits with 1 if any failed."""
    parser = argparse.ArgumentParser(
        prog="bin/bench all",
        description=main_all.__doc__,
        epilog="The plan:\n" + "".join(f"  bin/bench {one.line}   ({one.minutes} min)\n" for one in PLAN),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [one.name for one in PLAN]
    parser.add_argument("directory", type=Path, help="where results go; it is made")
    parser.add_argument("--only", metavar="NAME,…", default=",".join(names), help="some of the plan")
    given = parser.parse_args(arguments)
    wanted = given.only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"--only: there is no {unknown[0]} in the plan, only {', '.join(names)}")
    given.directory.mkdir(parents=True, exist_ok=True)
    failed = [one.name for one in PLAN if one.name in wanted and not _done(one, given.directory)]
    if failed:
        sys.stderr.write(f"bench: failed: {', '.join(failed)}\n")
        raise SystemExit(1)


def _done(planned: Planned, directory: Path) -> bool:
    """Do one experiment and return whether it was good."""
    words = [*shlex.split(planned.line), "--json", str(directory / f"{planned.name}.json")]
    sys.stderr.write(f"\n$ {shlex.join(['bin/bench', *words])}   ({planned.minutes} min)\n")
    return subprocess.run([sys.executable, str(_BENCH), *words], check=False).returncode == 0
