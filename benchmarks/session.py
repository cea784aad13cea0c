"""A session of the bench: the client's own speed, then runs, each beside the ceiling if that is asked for.

The ceiling runs before the cluster of the same run is started, so that neither takes the processor from the other.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

from benchmarks.client import Clocks, Watch
from benchmarks.door import Door, host_and_port
from benchmarks.machine import Machine, describe_machine
from benchmarks.process import Child, answers, free_port, to_the_end
from benchmarks.run import Options, Outcome, Pair, Run, Sender, measure_constant
from benchmarks.spawn import Cluster
from benchmarks.workloads import WORKLOADS, draw_records

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run, and the ceiling measured just before it."""

    ours: Outcome
    ceiling: Pair | None


@dataclass(frozen=True, slots=True)
class Session:
    """Everything that a session found; what `--json` writes.

    `client` is the client against a constant answer; `kept` the directory left with data and logs, if any.
    """

    started: str
    options: Options
    machine: Machine
    client: Pair
    runs: list[RunResult]
    kept: str | None


async def hold_session(reactor: Any, clocks: Clocks, options: Options, display: Callable[[str, int], Watch]) -> Session:
    """Do what the options ask for; leaves nothing behind but what `keep` asks for."""
    directory = Path(mkdtemp(prefix="shardlb-bench-", dir=options.directory))
    try:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        machine = describe_machine(directory, clocks.wall)
        bench = _Bench(reactor, options, Sender(reactor, clocks, options, display), directory)
        client = await bench.constant("constant", "client alone")
        runs = [await bench.run(number) for number in range(1, options.runs + 1)]
        return Session(started, options, machine, client, runs, str(directory) if options.keep else None)
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)


class _Bench:
    """Runs and ceilings in one directory."""

    def __init__(self, reactor: Any, options: Options, sender: Sender, directory: Path) -> None:
        self._reactor = reactor
        self._options = options
        self._workload = WORKLOADS[options.workload]
        self._sender = sender
        self._directory = directory

    async def run(self, number: int) -> RunResult:
        """Do one run, with its ceiling before it."""
        title = f"run {number} of {self._options.runs}"
        ceiling = await self.constant("klein", f"{title}, bare Klein") if self._options.ceiling else None
        rng = Random(self._options.seed + number)
        async with self._target(number) as (door, cluster):
            run = Run(self._reactor, self._sender, self._options, self._workload, rng, door, cluster)
            return RunResult(await run.outcome(title), ceiling)

    async def constant(self, kind: str, title: str) -> Pair:
        """Measure a server of benchmarks.ceiling."""
        options = self._options
        records = draw_records(self._workload, options.rows, options.width, Random(options.seed))
        async with self._ceiling(kind) as door:
            return await measure_constant(self._sender, door, self._workload, records, title)

    @asynccontextmanager
    async def _ceiling(self, kind: str) -> AsyncIterator[Door]:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.ceiling", kind, f"--port={port}", f"--width={self._options.width}"]
        child = Child(self._reactor, command, self._directory / f"{kind}.log")
        door = Door(self._reactor, "127.0.0.1", port)
        child.start()
        try:
            await child.until(lambda: answers(door, "POST", "/write", {}), _START_SECONDS)
            yield door
        finally:
            await to_the_end(child.stop())

    @asynccontextmanager
    async def _target(self, number: int) -> AsyncIterator[tuple[Door, Cluster | None]]:
        if self._options.url is not None:
            yield Door(self._reactor, *host_and_port(self._options.url)), None
            return
        directory = self._directory / f"run-{number}"
        directory.mkdir()
        cluster = Cluster(self._reactor, directory, self._options.balancer)
        try:
            await cluster.start(self._workload)
            yield cluster.door, cluster
        finally:
            await to_the_end(cluster.stop())
