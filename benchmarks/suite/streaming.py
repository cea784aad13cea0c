"""What experiments with streams of operations share: a loaded table, a closed loop over it, figures by kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from benchmarks import answers
from benchmarks.client import Load
from benchmarks.measure import Measurement
from benchmarks.suite.context import Context
from benchmarks.suite.document import Sample
from benchmarks.suite.figures import sample_of
from benchmarks.suite.layouts import large_a_1
from benchmarks.suite.present import Present
from benchmarks.suite.stream import Mix, Stream
from benchmarks.suite.subjects import Subject
from benchmarks.suite.table import Table
from benchmarks.usage import Meter, Usage, client

_LOAD_BATCH = 100
_LOAD_CONNECTIONS = 8


class LoadError(Exception):
    """The world's fault: the table could not be filled, so there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A cluster of ours with `records` items of a table, in one run."""

    context: Context
    subject: Subject
    table: Table
    records: int
    run: int

    def stream(self, mix: Mix, count: int) -> Stream:
        """Return a stream on the items loaded."""
        rng = self.context.rng(self.run)
        return Stream(self.table, mix, self.records, count, self.subject.door.host, rng)

    async def fill(self) -> None:
        """Insert the items. Raises LoadError."""
        rng = self.context.rng(self.run)
        rows = [self.table.row(item, rng) for item in range(self.records)]
        batches = [rows[at : at + _LOAD_BATCH] for at in range(0, len(rows), _LOAD_BATCH)]
        sizes = {len(batch): answers.rows_stored(len(batch)) for batch in batches}
        load = Load(
            [self.table.insert(self.subject.door.host, batch) for batch in batches],
            lambda index, status, body: sizes[len(batches[index])](index, status, body),
        )
        title = f"run {self.run}, load"
        measured = await self.context.send(self.subject.door, title, load, concurrency=_LOAD_CONNECTIONS)
        if measured.failures:
            raise LoadError(f"{len(measured.failures)} batches failed, the first with {min(measured.failures.items())}")

    async def closed(self, stream: Stream, title: str, connections: int) -> tuple[Measurement, Usage]:
        """Send a stream in a closed loop until it or the time of a phase ends."""
        meter = Meter([*self.subject.processes(), client()])
        measured = await self.context.send(
            self.subject.door,
            f"run {self.run}, {title}",
            stream.load(),
            concurrency=connections,
            seconds_max=self.context.common.seconds,
        )
        return measured, meter.stop()

    async def problems(self, *streams: Stream) -> list[str]:
        """Compare all replicas: what was loaded and inserted must be there."""
        assert self.subject.verify is not None
        items = set(range(self.records)).union(*(stream.inserted() for stream in streams))
        unknown = {item for stream in streams for item in stream.unknown}
        key_of = self.table.key_of
        present = Present(self.table.key, {key_of(item) for item in items}, {key_of(item) for item in unknown})
        return (await self.subject.verify(present)).problems


def open_loaded(context: Context, table: Table) -> AbstractAsyncContextManager[Subject]:
    """Open a cluster like A-1's for a table."""
    return context.stage.cluster(table.layout(large_a_1()))


def by_kind(stream: Stream, measured: Measurement, usage: Usage) -> Iterator[tuple[str, Sample]]:
    """Yield the figures of all operations, with what processes used, and then those of each kind."""
    yield "all", sample_of(measured, usage)
    for kind in dict.fromkeys(stream.kinds):
        places = [index for index in range(len(measured.latencies)) if stream.kinds[index] == kind]
        part = Measurement(
            latencies=[measured.latencies[index] for index in places],
            finished=[measured.finished[index] for index in places],
            failures={at: measured.failures[i] for at, i in enumerate(places) if i in measured.failures},
            seconds=measured.seconds,
            cpu_seconds=0.0,
        )
        yield kind, sample_of(part, Usage({}, []))
