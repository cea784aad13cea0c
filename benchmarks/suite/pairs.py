"""Curves of single settings: rows written, then the same rows read back, over one varied quantity at a time.

A setting is measured at every subject in every run, so that what a run finds at two settings can be compared even if
the machine's speed drifts. Settings of one layout share a cluster and take ids of their own.
A phase ends by rows or by time, whichever is first; what was written in time is what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

from benchmarks.client import Load
from benchmarks.measure import Measurement
from benchmarks.suite.context import Context
from benchmarks.suite.document import OURSELVES, Point, Points, Sample
from benchmarks.suite.figures import sample_of
from benchmarks.suite.subjects import Subject
from benchmarks.usage import Meter, Usage, client
from benchmarks.verify import Expected
from benchmarks.workloads import Record, Workload, make_records


@dataclass(frozen=True, slots=True)
class Setting:
    """One place on a curve. `batch` is rows per /write where that is what varies; then nothing is read back."""

    x: float | str
    layout: Workload
    connections: int
    width: int
    rows: int
    batch: int | None = None
    consistency: str = "linearizable"


async def measure_settings(context: Context, settings: Sequence[Setting], peers: Sequence[str]) -> list[Point]:
    """Return points of all settings; a peer is measured only at one layout, having none of its own."""
    points = Points()
    groups = [list(group) for _, group in groupby(settings, key=lambda setting: setting.layout.name)]
    for run, name in context.turns(peers):
        for group in groups if run % 2 else reversed(groups):
            async with context.stage.open(name, group[0].layout) as subject:
                series = _Series(context, subject, group, run)
                for phase, x, sample in await series.measure():
                    points.add(name, phase, x, sample)
    return sorted(points.all(), key=lambda point: (point.subject != OURSELVES, point.subject, point.phase != "writes"))


class _Series:
    """The settings of one layout at one subject in one run."""

    def __init__(self, context: Context, subject: Subject, settings: Sequence[Setting], run: int) -> None:
        self._context = context
        self._subject = subject
        self._settings = settings
        self._run = run
        self._stored: dict[int, Record] = {}
        self._unknown: dict[int, Record] = {}

    async def measure(self) -> list[tuple[str, float | str, Sample]]:
        """Measure every setting, then compare what is stored; what is wrong goes to the last sample."""
        found = []
        for setting, records in self._drawn():
            title = f"run {self._run}, {self._subject.name}, {setting.x}"
            written, sample = await self._write(setting, records, f"{title}, writes")
            found.append(("writes", setting.x, sample))
            if setting.batch is None:
                if setting.consistency != "linearizable":
                    # Only what every replica has applied must a stale read find.
                    sample.problems.extend(await self._compare())
                found.append(("reads", setting.x, await self._read(setting, written, f"{title}, reads")))
        found[-1][2].problems.extend(await self._compare())
        return found

    async def _compare(self) -> Sequence[str]:
        """Wait until all replicas agree; return what they lack of what was acknowledged, or have besides."""
        if self._subject.verify is None:
            return ()
        verdict = await self._subject.verify(Expected(self._stored, self._unknown, (), alone=True))
        return verdict.problems

    def _drawn(self) -> Iterator[tuple[Setting, list[Record]]]:
        """Yield each setting with rows of its own, the same for every subject of a run."""
        rng = self._context.rng(self._run)
        capacity = self._settings[0].layout.capacity()
        ids = rng.sample(range(capacity), sum(setting.rows for setting in self._settings))
        for setting in self._settings:
            mine, ids = ids[: setting.rows], ids[setting.rows :]
            yield setting, make_records(mine, setting.width, Random(mine[0]))

    async def _write(self, setting: Setting, records: list[Record], title: str) -> tuple[list[Record], Sample]:
        """Write in batches; return the rows that were acknowledged."""
        dialect = self._subject.dialect(setting.consistency)
        size = setting.batch or 1
        batches = [records[at : at + size] for at in range(0, len(records), size)]
        load = Load([dialect.write(batch) for batch in batches], dialect.written(size))
        measured, usage = await self._send(setting, load, title)
        done = batches[: len(measured.latencies)]
        for index, batch in enumerate(done):
            failed = measured.failures.get(index)
            if failed is None:
                self._stored.update((one.Stud_id, one) for one in batch)
            elif failed.applied == "unknown":
                self._unknown.update((one.Stud_id, one) for one in batch)
        stored = [row for batch in done for row in batch if row.Stud_id in self._stored]
        return stored, sample_of(measured, usage, setting.batch)

    async def _read(self, setting: Setting, records: list[Record], title: str) -> Sample:
        dialect = self._subject.dialect(setting.consistency)
        again = Random(self._run).sample(records, len(records))
        load = Load([dialect.read(one.Stud_id) for one in again], dialect.reads_of(again, ()))
        return sample_of(*await self._send(setting, load, title))

    async def _send(self, setting: Setting, load: Load, title: str) -> tuple[Measurement, Usage]:
        meter = Meter([*self._subject.processes(), client()])
        measured = await self._context.send(
            self._subject.door,
            title,
            load,
            concurrency=setting.connections,
            seconds_max=self._context.common.seconds,
        )
        return measured, meter.stop()
