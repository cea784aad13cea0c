"""One run of a workload against one cluster: writes, reads of the same rows, verification.

A cluster of the bench's own is empty before; at a running one the run takes ids that are free, and removes its rows
afterwards unless it is told to keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks import answers
from benchmarks.client import Check, Clocks, ClosedLoop, Load, Watch
from benchmarks.door import Door
from benchmarks.kill import Ambush, choose
from benchmarks.measure import Measurement, Summary, summarise
from benchmarks.spawn import Cluster
from benchmarks.usage import Meter, Usage, client
from benchmarks.verify import Expected, Verdict, verify
from benchmarks.workloads import (
    Record,
    Workload,
    check_layout,
    delete_requests,
    draw_records,
    read_requests,
    write_requests,
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for. `url` is None for a cluster of the bench's own, `kill` for no murder.

    `agree_seconds` is how long replicas may take to become identical after a run; `balancer` are further options of
    the balancers of such clusters.
    """

    workload: str
    rows: int
    width: int
    concurrency: int
    deadline_seconds: float
    seed: int
    runs: int
    ceiling: bool
    url: str | None
    kill: str | None
    keep: bool
    directory: str | None
    agree_seconds: float
    balancer: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """The two measurements of a run."""

    writes: Summary
    reads: Summary


@dataclass(frozen=True, slots=True)
class Killed:
    """The server that was killed, the shards it led, and the command that started it again."""

    server: str
    led: tuple[str, ...]
    struck: bool
    restarted_by: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave. `usage` is what the processes of a cluster of our own used, by "writes" and "reads"."""

    figures: Pair
    verdict: Verdict
    killed: Killed | None
    usage: dict[str, Usage] = field(default_factory=dict)


class CeilingError(Exception):
    """The world's fault: a server to compare with did not answer, so there is nothing to compare with."""


class Sender:
    """Sends requests with the bench's options. `display` makes the watch that shows the progress of so many."""

    def __init__(self, reactor: Any, clocks: Clocks, options: Options, display: Callable[[str, int], Watch]) -> None:
        self._reactor = reactor
        self._clocks = clocks
        self._options = options
        self._display = display

    async def send(
        self, door: Door, title: str, requests: list[bytes], check: Check, also: Watch | None = None
    ) -> Measurement:
        """Send everything and measure; `also` watches beside the display."""
        shown = self._display(title, len(requests))

        def watch(over: int) -> None:
            if also is not None:
                also(over)
            shown(over)

        return await ClosedLoop(
            self._reactor,
            door.endpoint,
            Load(requests, check),
            self._clocks,
            concurrency=self._options.concurrency,
            deadline_seconds=self._options.deadline_seconds,
            watch=watch,
        ).run()


async def measure_constant(sender: Sender, door: Door, workload: Workload, records: list[Record], title: str) -> Pair:
    """Measure a server that answers constants, with the requests of a run. Raises CeilingError if it fails."""
    loads = {"writes": write_requests(records, door.host), "reads": read_requests(records, door.host)}
    measured = [
        await sender.send(door, f"{title}, {what}", requests, answers.constant) for what, requests in loads.items()
    ]
    if failed := [one.failures for one in measured if one.failures]:
        raise CeilingError(
            f"{title}: {len(failed[0])} requests failed, the first with {next(iter(failed[0].values()))}"
        )
    return Pair(*(_summary(one, workload, records) for one in measured))


class Run:
    """A run at `door`; `cluster` is what is behind it if that is the bench's own."""

    def __init__(
        self,
        reactor: Any,
        sender: Sender,
        options: Options,
        workload: Workload,
        rng: Random,
        door: Door,
        cluster: Cluster | None,
    ) -> None:
        self._reactor = reactor
        self._sender = sender
        self._options = options
        self._workload = workload
        self._rng = rng
        self._door = door
        self._cluster = cluster
        self._usage: dict[str, Usage] = {}

    async def outcome(self, title: str) -> Outcome:
        """Do the run. Raises LayoutError and TableFullError before anything is written."""
        status = await self._door.json("GET", "/status")
        check_layout(status, self._workload)
        records = draw_records(
            self._workload, self._options.rows, self._options.width, self._rng, taken=await self._taken()
        )
        ambush = await self._ambush(status["servers"])
        writes = await self._write(records, title, ambush)
        expected = Expected.after(records, writes.failures, alone=self._cluster is not None)
        again = self._rng.sample(records, len(records))
        reads = await self._read(again, expected, title)
        killed = self._revive(ambush)
        verdict = await verify(
            self._reactor, self._door.rows_on, status["servers"], expected, deadline_seconds=self._options.agree_seconds
        )
        await self._tidy(expected, title)
        figures = Pair(_summary(writes, self._workload, records), _summary(reads, self._workload, again))
        return Outcome(figures, verdict, killed, self._usage)

    async def _taken(self) -> Collection[int]:
        """Return the ids of the workload that are there already."""
        if self._cluster is not None:
            return ()
        shards = self._workload.shards
        bounds = {"low": shards[0].low, "high": shards[-1].ids()[-1]}
        answer = await self._door.json("POST", "/read", {"Stud_id": bounds})
        return {row["Stud_id"] for row in answer["data"]}

    async def _write(self, records: list[Record], title: str, ambush: Ambush | None) -> Measurement:
        requests = write_requests(records, self._door.host)
        watch = ambush.watch if ambush is not None else None
        with self._metered("writes"):
            return await self._sender.send(self._door, f"{title}, writes", requests, answers.rows_stored(1), watch)

    async def _read(self, records: list[Record], expected: Expected, title: str) -> Measurement:
        requests = read_requests(records, self._door.host)
        check = answers.reads_of(records, expected.stored, expected.unknown)
        with self._metered("reads"):
            return await self._sender.send(self._door, f"{title}, reads", requests, check)

    @contextmanager
    def _metered(self, phase: str) -> Iterator[None]:
        """Note what processes use meanwhile, where they are ours."""
        if self._cluster is None:
            yield
            return
        meter = Meter([*self._cluster.processes(), client()])
        yield
        self._usage[phase] = meter.stop()

    async def _ambush(self, servers: Collection[str]) -> Ambush | None:
        if self._options.kill is None or self._cluster is None:
            return None
        victim = choose(self._options.kill, await self._door.leaders(), servers)
        return Ambush(victim, self._options.rows, self._cluster.kill)

    def _revive(self, ambush: Ambush | None) -> Killed | None:
        if ambush is None or self._cluster is None:
            return None
        command = self._cluster.restart(ambush.victim.server)
        return Killed(ambush.victim.server, ambush.victim.led, ambush.struck, " ".join(command))

    async def _tidy(self, expected: Expected, title: str) -> None:
        """Remove the rows of this run from a cluster that goes on without us."""
        if self._cluster is not None or self._options.keep:
            return
        ours = [*expected.stored.values(), *expected.unknown.values()]
        requests = delete_requests(ours, self._door.host)
        _ = await self._sender.send(self._door, f"{title}, removing", requests, answers.row_changed)


def _summary(measured: Measurement, workload: Workload, records: list[Record]) -> Summary:
    return summarise(measured, lambda index: workload.shard_of(records[index].Stud_id))
