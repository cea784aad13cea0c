"""What the command lines here have in common."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import deferLater

from benchmarks.door import host_and_port

_EXIT_INTERRUPTED = 130
#: Options that name places of a machine.
_PLACES = ("--json", "--directory")


def until_interrupted(reactor: Any, work: Callable[[Any], Coroutine[Any, Any, None]]) -> Deferred[None]:
    """Do the work, to be run by `react`; a signal cancels it, and it may tidy up before the process ends with 130."""
    doing = ensureDeferred(_do(reactor, work))
    ended: Deferred[None] = Deferred()

    def interrupt() -> Deferred[None]:
        doing.cancel()
        return ended

    def end(outcome: object) -> object:
        ended.callback(None)
        return outcome

    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    return doing.addBoth(end)


async def _do(reactor: Any, work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await deferLater(reactor, 0)  # from here on the reactor runs, and an interruption is not the end of the process
    try:
        await work(reactor)
    except (CancelledError, ConnectingCancelledError):
        raise SystemExit(_EXIT_INTERRUPTED) from None


def command_of(typed: Sequence[str]) -> str:
    """Return a command line of bin/bench as results quote it: without the places that its output went to."""
    shown = ["bin/bench"]
    words = iter(typed)
    for word in words:
        if word in _PLACES:
            next(words, None)
        elif not word.startswith(tuple(f"{place}=" for place in _PLACES)):
            shown.append(word)
    return shlex.join(shown)


def positive(text: str) -> int:
    """Return a whole number from 1 on; for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def add_balancer_option(parser: argparse.ArgumentParser) -> None:
    """Let further options reach the balancers that are started."""
    about = "further options of `twistd shardlb`, as one word: --balancer='--workers 2'"
    parser.add_argument("--balancer", type=shlex.split, default=[], metavar="OPTIONS", help=about)


def check_addresses(parser: argparse.ArgumentParser, url: str | None, json: Path | None) -> None:
    """End with a message of the parser's if --url or --json, where given, lead nowhere."""
    if json is not None and not json.parent.is_dir():
        parser.error(f"--json: there is no directory {json.parent}")
    if url is not None:
        try:
            host_and_port(url)
        except ValueError as reason:
            parser.error(f"--url: {reason}")
