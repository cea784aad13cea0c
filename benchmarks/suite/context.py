"""What every experiment is given, and how it sends a load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

from twisted.internet.task import LoopingCall

from benchmarks.client import Clocks, ClosedLoop, Load, Watch
from benchmarks.door import Door
from benchmarks.measure import Measurement
from benchmarks.suite.document import OURSELVES
from benchmarks.suite.subjects import Stage


@dataclass(frozen=True, slots=True)
class Common:
    """The options that all experiments share.

    `rows` bounds a phase in rows and `seconds` in time, whichever ends it first. `peers` are measured beside us.
    """

    runs: int
    rows: int
    seconds: float
    width: int
    seed: int
    peers: tuple[str, ...]
    deadline_seconds: float


@dataclass(frozen=True, slots=True)
class Context:
    """Where an experiment takes place. `directory` is its own and empty."""

    reactor: Any
    clocks: Clocks
    stage: Stage
    directory: Path
    common: Common
    display: Callable[[str, int], Watch]

    def rng(self, run: int) -> Random:
        """Return the randomness of a run; all subjects of one run get the same."""
        return Random(self.common.seed + run)

    def turns(self, peers: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (run, subject): in every other run the order is reversed, so that a drift hits all alike."""
        subjects = (OURSELVES, *peers)
        for run in range(1, self.common.runs + 1):
            for subject in subjects if run % 2 else reversed(subjects):
                yield run, subject

    def new_directory(self, name: str) -> Path:
        """Make a directory that nobody else has."""
        return Path(mkdtemp(prefix=f"{name}-", dir=self.directory))

    @contextmanager
    def ticking(self, title: str, seconds: float) -> Iterator[None]:
        """Show the time passing while somebody else works for so many seconds."""
        total = max(1, round(seconds))
        watch = self.display(title, total)
        passed = iter(range(1, total))
        ticks = LoopingCall(lambda: watch(next(passed, total - 1)))
        ticks.clock = self.reactor
        _ = ticks.start(1.0, now=False)
        try:
            yield
        finally:
            ticks.stop()
            watch(total)

    async def send(
        self, door: Door, title: str, load: Load, *, concurrency: int, seconds_max: float = inf
    ) -> Measurement:
        """Send a load in a closed loop and measure."""
        return await ClosedLoop(
            self.reactor,
            door.endpoint,
            load,
            self.clocks,
            concurrency=concurrency,
            deadline_seconds=self.common.deadline_seconds,
            watch=self.display(title, len(load.requests)),
            seconds_max=seconds_max,
        ).run()
