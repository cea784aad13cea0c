"""The command line of the suite's experiments: `bin/bench concurrency --runs 3 --json out.json`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from rich.console import Console
from twisted.internet.task import react

from benchmarks.client import Clocks
from benchmarks.command import add_balancer_option, check_addresses, command_of, positive, until_interrupted
from benchmarks.door import UnexpectedAnswerError, UnreachableError
from benchmarks.machine import describe_machine
from benchmarks.process import StartError
from benchmarks.report import Bars
from benchmarks.suite.catalog import EXPERIMENTS, Experiment
from benchmarks.suite.context import Common, Context
from benchmarks.suite.document import Document, save
from benchmarks.suite.missing import MissingProgramError
from benchmarks.suite.postgres import PostgresError
from benchmarks.suite.show import show
from benchmarks.suite.streaming import LoadError
from benchmarks.suite.subjects import Stage, check_present
from benchmarks.suite.wrk import WrkError

#: What stops an experiment without being a bug of the suite.
_REASONS = (
    LoadError,
    MissingProgramError,
    PostgresError,
    StartError,
    UnexpectedAnswerError,
    UnreachableError,
    WrkError,
)
#: Figures are never cut: a narrower terminal breaks the lines of the table instead.
_WIDTH_MIN = 170
_EXIT_BAD, _EXIT_STOPPED = 1, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one experiment and exit, with 0 if all was well, 1 if not, 2 if it could not be done."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    experiment, given = parse(typed)
    react(until_interrupted, (lambda reactor: _hold(reactor, experiment, given, typed),))


def parse(arguments: Sequence[str]) -> tuple[Experiment, argparse.Namespace]:
    """Return the experiment that is named first and its options; exits with a message if they make no sense."""
    experiment = EXPERIMENTS[arguments[0]]
    parser = _parser(experiment)
    given = parser.parse_args(arguments[1:])
    check_addresses(parser, None, given.json)
    return experiment, given


def _parser(experiment: Experiment) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"bin/bench {experiment.name}",
        description=f"{experiment.title}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    experiment.add_options(parser)
    parser.add_argument("--runs", type=positive, default=1, help="runs, of which medians are shown")
    parser.add_argument("--rows", type=positive, default=20_000, help="most rows of a phase")
    parser.add_argument("--seconds", type=float, default=5.0, help="longest time of a phase")
    parser.add_argument("--width", type=positive, default=16, help="bytes of each name")
    parser.add_argument("--seed", type=int, default=1, help="of ids, names and order")
    parser.add_argument("--deadline", dest="deadline_seconds", type=float, default=30.0, help="seconds per request")
    if experiment.peers:
        about = "measure it beside us, in the same runs; may be given more than once"
        parser.add_argument("--peer", dest="peers", action="append", default=[], choices=experiment.peers, help=about)
    add_balancer_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--directory", help="where data goes; by default below the temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave that directory, with data and logs")
    parser.set_defaults(peers=[], **experiment.defaults)
    return parser


async def _hold(reactor: Any, experiment: Experiment, given: argparse.Namespace, typed: Sequence[str]) -> None:
    try:
        check_present(given.peers)
        with Bars(Console(stderr=True), time.perf_counter) as bars:
            document = await hold(reactor, experiment, given, typed, bars)
    except _REASONS as reason:
        sys.stderr.write(f"bench: {reason}\n")
        raise SystemExit(_EXIT_STOPPED) from reason
    show(document, Console(width=max(Console().width, _WIDTH_MIN)))
    if given.json is not None:
        save(document, given.json)
    if not document.good:
        raise SystemExit(_EXIT_BAD)


async def hold(
    reactor: Any, experiment: Experiment, given: argparse.Namespace, typed: Sequence[str], bars: Bars
) -> Document:
    """Do an experiment in a directory of its own and return what it found; leaves the directory only if told to."""
    directory = Path(mkdtemp(prefix="shardlb-bench-", dir=given.directory))
    try:
        clocks = Clocks(wall=time.perf_counter, cpu=time.process_time)
        common = Common(
            runs=given.runs,
            rows=given.rows,
            seconds=given.seconds,
            width=given.width,
            seed=given.seed,
            peers=tuple(dict.fromkeys(given.peers)),
            deadline_seconds=given.deadline_seconds,
        )
        started = datetime.now(UTC).isoformat(timespec="seconds")
        machine = describe_machine(directory, clocks.wall)
        stage = Stage(reactor, directory, given.balancer)
        context = Context(reactor, clocks, stage, directory, common, bars.display)
        points = await experiment.run(context, given)
    finally:
        if given.keep:
            sys.stderr.write(f"bench: data and logs are kept in {directory}\n")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return Document(
        experiment=experiment.name,
        title=experiment.title,
        x_name=experiment.x_name,
        started=started,
        command=command_of(typed),
        machine=machine,
        points=points,
    )
