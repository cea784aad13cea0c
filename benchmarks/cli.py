"""The command line of `bin/bench`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.internet.task import react

from benchmarks import tour
from benchmarks.client import Clocks
from benchmarks.comeback import NotBackError
from benchmarks.command import add_balancer_option, check_addresses, command_of, positive, until_interrupted
from benchmarks.door import UnexpectedAnswerError, UnreachableError
from benchmarks.kill import NoSuchServerError
from benchmarks.process import StartError
from benchmarks.report import Bars, good, show, to_json
from benchmarks.run import CeilingError, Options
from benchmarks.session import hold_session
from benchmarks.suite import cli as suite
from benchmarks.suite import reading
from benchmarks.suite.catalog import EXPERIMENTS
from benchmarks.suite.plan import main_all
from benchmarks.workloads import A_1, WORKLOADS, LayoutError, TableFullError

#: What stops a session without being a bug of the bench.
_REASONS = (
    CeilingError,
    LayoutError,
    NoSuchServerError,
    NotBackError,
    StartError,
    TableFullError,
    UnexpectedAnswerError,
    UnreachableError,
)
#: Commands that measure nothing themselves.
_OTHERS = {"all": main_all, "compare": reading.main_compare, "report": reading.main_report}
_EXIT_BAD, _EXIT_STOPPED = 1, 2

_EPILOG = """\
Exit status: 0 if every request succeeded and all replicas are identical and hold what was acknowledged, 1 if not,
2 if the session could not be held, 130 if it was interrupted; its processes and files are gone in each case.

A server that --kill ends stays away while the rest of the run goes on. Then it is started again by hand, with
  twistd --nodaemon --pidfile= dbnode --data-dir=ITS_DATA_DIRECTORY
unless the balancer has done so by itself, and its replicas are verified like all others.

bin/bench compare OLD NEW shows what differs between two results of --json and whether it is more than noise;
bin/bench report RESULT... puts tables and plots of results into benchmarks/RESULTS.md.

bin/bench all DIRECTORY does everything as RESULTS.md has it, in an hour and a half (bin/bench all --help: the plan).
Experiments, each with options of its own (bin/bench EXPERIMENT --help):
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Hold a session, or do an experiment of the suite, and exit."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if typed and typed[0] in _OTHERS:
        _OTHERS[typed[0]](typed[1:])
        return
    if typed and typed[0] in EXPERIMENTS:
        suite.main(typed)
        return
    options, json = parse(typed)
    hold = _tour if options.workload == tour.NAME else partial(_hold, command_of(typed))
    react(until_interrupted, (lambda reactor: hold(reactor, options, json),))


def parse(arguments: Sequence[str] | None) -> tuple[Options, Path | None]:
    """Return the options, and where the JSON goes; exits with a message if they make no sense."""
    parser = _parser()
    given = parser.parse_args(arguments)
    json: Path | None = given.json
    check_addresses(parser, given.url, json)
    if given.url is not None and given.kill is not None:
        parser.error("--kill needs a cluster of the bench's own (--spawn)")
    if given.url is not None and given.balancer:
        parser.error("--balancer needs a cluster of the bench's own (--spawn)")
    rows_max = WORKLOADS.get(given.workload, A_1).capacity()
    if given.rows > rows_max:
        parser.error(f"--rows: {given.workload} has only {rows_max} ids")
    wanted = {name: value for name, value in vars(given).items() if name not in ("json", "spawn")}
    return Options(**wanted), json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description="Measures write and read speed, and verifies what was written.",
        epilog=_EPILOG + "".join(f"  {one.name:14}{one.title}\n" for one in EXPERIMENTS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = "; ".join(f"{workload.name}: {workload.about}" for workload in WORKLOADS.values())
    parser.add_argument("workload", choices=sorted((*WORKLOADS, tour.NAME)), help=f"{about}; {tour.NAME}: {tour.ABOUT}")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--spawn", action="store_true", help="start a cluster of its own for each run (the default)")
    where.add_argument("--url", help="use the balancer at http://host:port, whose table must be the workload's")
    parser.add_argument("--rows", type=positive, default=10_000, help="rows written, then read (default 10000)")
    parser.add_argument("--concurrency", type=positive, default=100, help="keep-alive connections (default 100)")
    parser.add_argument("--width", type=positive, default=16, help="bytes of each name (default 16)")
    parser.add_argument("--seed", type=int, default=1, help="seed of ids, names and order (default 1)")
    parser.add_argument("--runs", type=positive, default=1, help="runs, of which medians are shown (default 1)")
    parser.add_argument("--ceiling", action="store_true", help="measure a bare Klein app beside each run")
    parser.add_argument("--kill", metavar="leader|follower|NAME", help="kill -9 that server amid the writes")
    parser.add_argument(
        "--deadline", dest="deadline_seconds", type=float, default=30.0, help="seconds per request (default 30)"
    )
    parser.add_argument(
        "--agree",
        dest="agree_seconds",
        type=float,
        default=60.0,
        help="seconds that replicas may take to agree after a run (default 60); a restarted one catches up first",
    )
    add_balancer_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--directory", help="where data of spawned clusters goes (default: the temporary directory)")
    parser.add_argument(
        "--keep", action="store_true", help="leave the rows (--url), or the directory with data and logs (--spawn)"
    )
    return parser


async def _tour(reactor: Any, options: Options, json: Path | None) -> None:
    try:
        found = await tour.hold_tour(reactor, options)
    except _REASONS as reason:
        sys.stderr.write(f"bench: {reason}\n")
        raise SystemExit(_EXIT_STOPPED) from reason
    sys.stdout.write("".join(f"{line}\n" for line in found.lines()))
    if json is not None:
        _write(json, found.to_json())
    if not found.good:
        raise SystemExit(_EXIT_BAD)


async def _hold(command: str, reactor: Any, options: Options, json: Path | None) -> None:
    clocks = Clocks(wall=time.perf_counter, cpu=time.process_time)
    try:
        with Bars(Console(stderr=True), clocks.wall) as bars:
            session = await hold_session(reactor, clocks, options, bars.display)
    except _REASONS as reason:
        sys.stderr.write(f"bench: {reason}\n")
        raise SystemExit(_EXIT_STOPPED) from reason
    show(session, Console())
    if json is not None:
        _write(json, to_json(session, command))
    if not good(session):
        raise SystemExit(_EXIT_BAD)


def _write(json: Path, document: bytes) -> None:
    json.write_bytes(document)
