"""The command line of `bin/chaos`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.internet.task import react

from benchmarks.chaos.ownroot import become_root
from benchmarks.chaos.report import Options, show, to_json
from benchmarks.chaos.session import hold_chaos
from benchmarks.chaos.view import View
from benchmarks.command import check_addresses, positive, until_interrupted
from benchmarks.door import UnexpectedAnswerError, UnreachableError
from benchmarks.process import StartError
from benchmarks.workloads import TableFullError
from lbnode.launchers import LaunchFailed

#: What ends a chaos without being a bug of it.
_REASONS = (LaunchFailed, StartError, TableFullError, UnexpectedAnswerError, UnreachableError)
_EXIT_BAD, _EXIT_STOPPED = 1, 2

_EPILOG = """\
Exit status: 0 if nothing that was acknowledged is lost, everything that clients saw could have happened in one order,
all replicas are identical, and no client saw an error while a majority of its shard ran; 1 if not; 2 if the chaos
could not be held; 130 if it was interrupted. The seed decides what strikes in which order and what each client does
in turn; how these meet in time is real, and differs from run to run.

Servers of its own are cut off too, if there are `ip` and `nft`: each is then in a network namespace. Who is not root
becomes root of a user namespace for that, where the kernel allows it.
With --url the servers below --data-dir are killed and paused, and rows that are stored stay.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Hold a chaos and exit."""
    options, json = parse(arguments)
    if options.url is None and options.containers is None:
        become_root()
    react(until_interrupted, (lambda reactor: _hold(reactor, options, json),))


def parse(arguments: Sequence[str] | None) -> tuple[Options, Path | None]:
    """Return the options, and where the JSON goes; exits with a message if they make no sense."""
    parser = _parser()
    given = parser.parse_args(arguments)
    json: Path | None = given.json
    check_addresses(parser, given.url, json)
    if (given.url is None) is not (given.data_dir is None):
        parser.error("--url and --data-dir go together: the balancer, and the directory of its servers")
    if given.url is not None and not Path(given.data_dir).is_dir():
        parser.error(f"--data-dir: there is no directory {given.data_dir}")
    if given.balancers > 1 and (given.url is not None or given.containers is not None):
        parser.error("--balancers: several are only started with servers that are processes of a cluster of its own")
    wanted = {name: value for name, value in vars(given).items() if name not in ("json", "spawn")}
    return Options(**wanted), json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/chaos",
        description="Kills, pauses and cuts off servers, kills the balancer while clients use it, proves what is left.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--spawn", action="store_true", help="start a cluster of its own (the default)")
    where.add_argument("--url", help="use the balancer at http://host:port, which runs on this machine")
    where.add_argument("--containers", metavar="IMAGE", help="start one whose servers are containers of that image")
    parser.add_argument("--data-dir", help="with --url: the data directory of that balancer")
    parser.add_argument("--minutes", type=_minutes, default=1.0, help="how long faults strike (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="seed of faults and operations (default 1)")
    parser.add_argument("--clients", type=positive, default=8, help="clients, one request at a time each (default 8)")
    parser.add_argument(
        "--balancers", type=int, choices=(1, 3, 5), default=1, help="of a cluster of its own (default 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found there")
    parser.add_argument("--directory", help="where the data of a cluster of its own goes")
    parser.add_argument("--keep", action="store_true", help="leave that data even if all is well")
    return parser


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return minutes


async def _hold(reactor: Any, options: Options, json: Path | None) -> None:
    console = Console()
    try:
        with View(console) as view:
            report, kept = await hold_chaos(reactor, time.perf_counter, options, view)
    except _REASONS as reason:
        sys.stderr.write(f"chaos: {reason}\n")
        raise SystemExit(_EXIT_STOPPED) from reason
    show(report, str(kept) if kept is not None else None, console)
    if json is not None:
        _write(json, to_json(report, str(kept) if kept is not None else None))
    if not report.good:
        raise SystemExit(_EXIT_BAD)


def _write(json: Path, document: bytes) -> None:
    json.write_bytes(document)
