"""`bin/bench latency`: latency at fixed rates, open loop, over minutes.

The peak rate is found first by a closed loop on the same cluster; then the same mix comes at shares of that peak, or
at given rates. Half of the operations insert new rows, half read any row that is there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence

from benchmarks.measure import percentile
from benchmarks.suite.context import Context
from benchmarks.suite.document import OURSELVES, Point, Points, Sample
from benchmarks.suite.figures import sample_of
from benchmarks.suite.keys import Uniform
from benchmarks.suite.layouts import large_a_1
from benchmarks.suite.open_loop import OpenLoop, OpenMeasurement
from benchmarks.suite.stream import Mix, Stream
from benchmarks.suite.streaming import Loaded, open_loaded
from benchmarks.suite.table import students
from benchmarks.usage import Meter, Usage, client

MIX = Mix("half", "half inserts, half reads", {"insert": 0.5, "read": 0.5}, Uniform)
#: The percentiles of a spectrum, for plots: towards 100 they are ever closer.
SPECTRUM = (0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999, 100)
_RECORDS = 10_000
_PEAK_CONNECTIONS = 100
_PEAK_REQUESTS_MAX = 500_000


async def latency(
    context: Context, shares: Sequence[float], rates: Sequence[int], seconds: float, connections: int
) -> list[Point]:
    """Return a point per rate, named by its share of the peak or by itself; the closed loop's is named "peak"."""
    points = Points()
    table = students(large_a_1().capacity(), context.common.width)
    for run in range(1, context.common.runs + 1):
        async with open_loaded(context, table) as subject:
            loaded = Loaded(context, subject, table, _RECORDS, run)
            await loaded.fill()
            series = _Series(loaded, seconds, connections)
            peak = await series.peak()
            points.add(OURSELVES, "closed loop", "peak", peak)
            wanted = [(f"{share:g} of peak", share * peak.figures["rate_per_second"]) for share in shares]
            wanted += [(f"{rate:,}/s", float(rate)) for rate in rates]
            for name, rate in wanted:
                points.add(OURSELVES, "open loop", name, await series.at(rate, name))
            peak.problems.extend(await series.problems())
    return points.all()


class _Series:
    """The rates of one run on one cluster; each stream goes on where the one before ended."""

    def __init__(self, loaded: Loaded, seconds: float, connections: int) -> None:
        self._loaded = loaded
        self._seconds = seconds
        self._connections = connections
        self._streams: list[Stream] = []

    async def peak(self) -> Sample:
        """Return what a closed loop reaches."""
        stream = self._stream(_PEAK_REQUESTS_MAX)
        return sample_of(*await self._loaded.closed(stream, "peak", _PEAK_CONNECTIONS))

    async def at(self, rate_per_second: float, name: str) -> Sample:
        """Return what an open loop finds."""
        count = max(1, round(rate_per_second * self._seconds))
        stream = self._stream(count)
        context, subject = self._loaded.context, self._loaded.subject
        meter = Meter([*subject.processes(), client()])
        # What is there now stays: a collection of it all would look like a pause of the server.
        gc.collect()
        gc.freeze()
        found = await OpenLoop(
            context.reactor,
            subject.door.endpoint,
            stream.load(),
            context.clocks,
            rate_per_second=rate_per_second,
            connections=self._connections,
            deadline_seconds=context.common.deadline_seconds,
            watch=context.display(f"run {self._loaded.run}, {name}", count),
        ).run()
        gc.unfreeze()
        return open_sample(found, meter.stop())

    async def problems(self) -> list[str]:
        """Compare all replicas with what was inserted."""
        return await self._loaded.problems(*self._streams)

    def _stream(self, count: int) -> Stream:
        stream = self._streams[-1].then(MIX, count) if self._streams else self._loaded.stream(MIX, count)
        self._streams.append(stream)
        return stream


def open_sample(found: OpenMeasurement, usage: Usage) -> Sample:
    """Return the figures of an open loop, its spectrum, and its worst second by second."""
    measured = found.measured
    succeeded = [index for index in range(len(measured.latencies)) if index not in measured.failures]
    ordered = sorted(measured.latencies[index] * 1e3 for index in succeeded)
    plain = sample_of(measured, usage)
    figures = {
        **plain.figures,
        "p99_9_ms": percentile(ordered, 99.9),
        "p99_99_ms": percentile(ordered, 99.99),
        "late_p99_ms": percentile(sorted(found.lateness), 99) * 1e3,
    }
    curves = {
        "spectrum_percent": list(map(float, SPECTRUM)),
        "spectrum_ms": [percentile(ordered, percent) for percent in SPECTRUM],
        "worst_ms_by_second": worst_by_second(
            (measured.finished[index], measured.latencies[index] * 1e3) for index in succeeded
        ),
    }
    return Sample(figures, plain.errors, [], plain.memory, curves)


def worst_by_second(answers: Iterable[tuple[float, float]]) -> list[float]:
    """Return the largest latency among the answers of each second; `answers` are (seconds since start, latency)."""
    worst: list[float] = []
    for finished, latency_ms in answers:
        second = int(finished)
        worst.extend([0.0] * (second + 1 - len(worst)))
        worst[second] = max(worst[second], latency_ms)
    return worst
