"""Runs the simulator over many seeds, and replays one.

    python -m dbnode.testing.fuzz 1000 --first 5000       a thousand seeds on all cores
    python -m dbnode.testing.fuzz --replay 5017           the trace of one: who sent what, who became what

A seed that fails is printed with the command that replays it and with the timeline of its run; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import cpu_count
from time import perf_counter

from dbnode.testing.application import in_short, new_simulation, simulate
from dbnode.testing.workers import new_pool
from raftlog.testing.simulation.cluster import Outcome

#: Failed seeds that are shown in full; of the others only the number is.
SHOWN_MAX = 3
#: How often it is said how far it came.
PROGRESS_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """A seed that was run: its outcome, or what went wrong."""

    seed: int
    outcome: Outcome | None
    error: str = ""


def run(seed: int) -> Result:
    """Run one seed."""
    try:
        with in_short():
            return Result(seed, simulate(seed))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        return Result(seed, None, f"{type(error).__name__}: {error}")


def run_all(seeds: Iterable[int], processes: int) -> Iterator[Result]:
    """Run seeds, in order if in one process."""
    if processes == 1:
        yield from map(run, seeds)
        return
    with new_pool(processes) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=4)


def replay(seed: int) -> int:
    """Print the trace of a seed and its timeline; return 1 if it fails."""
    with in_short():
        simulation = new_simulation(seed, say)
        try:
            say(str(simulation.run()))
        except Exception:  # noqa: BLE001 - shown in full
            say(traceback.format_exc())
            say(simulation.timeline.text())
            return 1
    say(simulation.timeline.text())
    return 0


def show_failure(result: Result) -> None:
    """Print what went wrong with a seed, how to see it again, and its timeline."""
    say(f"\nseed {result.seed} fails: {result.error}")
    say(f"replay it with: {sys.executable} -m dbnode.testing.fuzz --replay {result.seed}")
    with in_short():
        simulation = new_simulation(result.seed)
        try:
            simulation.run()
        except Exception:  # noqa: BLE001 - it is expected to fail again
            say(simulation.timeline.text())
        else:
            say("it does not fail again: the simulation is not deterministic")


def fuzz(first: int, count: int, processes: int) -> int:
    """Run seeds and print what came of it; return 1 if one fails."""
    began = perf_counter()
    outcomes: list[Outcome] = []
    failures: list[Result] = []
    for done, result in enumerate(run_all(range(first, first + count), processes)):
        if done and done % PROGRESS_SEEDS == 0:
            say(f"{done} seeds in {perf_counter() - began:.0f} s")
        if result.outcome is not None:
            outcomes.append(result.outcome)
            continue
        failures.append(result)
        if len(failures) <= SHOWN_MAX:
            show_failure(result)
    seconds = perf_counter() - began
    say(summary(outcomes, seconds, processes))
    if failures:
        say(f"{len(failures)} of {count} seeds FAILED: {' '.join(str(failed.seed) for failed in failures[:50])}")
        return 1
    say(f"{count} seeds ({first} to {first + count - 1}) without a violation in {seconds:.0f} s")
    return 0


def summary(outcomes: list[Outcome], seconds: float, processes: int) -> str:
    """Return what happened in all runs together, and how fast that went."""
    happened: Counter[str] = Counter()
    for outcome in outcomes:
        happened.update(outcome.happened)
    lines = [f"{number:10} {what}" for what, number in sorted(happened.items())]
    simulated = sum(outcome.seconds for outcome in outcomes)
    events = sum(outcome.events for outcome in outcomes)
    healed = max((outcome.healed_seconds for outcome in outcomes), default=0.0)
    lines.append(
        f"{len(outcomes) / seconds:.1f} seeds/s, {simulated / seconds:.0f} simulated seconds per second, "
        f"{events / seconds:.0f} events/s on {processes} process(es); "
        f"{simulated:.0f} seconds simulated, healing took {healed:.1f} s at most"
    )
    return "\n".join(lines)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dbnode.testing.fuzz", description="Simulate a shard under faults.")
    parser.add_argument("seeds", nargs="?", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=cpu_count(), help="how many processes to use")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed and print its trace")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return replay(options.replay)
    return fuzz(options.first, options.seeds, options.processes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
