"""What the balancer counts, in Prometheus' text format: requests by endpoint and status, their duration, what waits.

Counting happens for every request and is kept to a dictionary and a list; the library's own objects, which cost more,
are made when the figures are asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping
from inspect import iscoroutine
from itertools import accumulate
from typing import Any, TypeAlias, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dbnode.errors import ApiError
from dbnode.jsonhttp import Answer, Headers

#: Upper bounds in seconds: from what a small request takes to the default deadline.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Figures read when they are asked for, by name and help.
Readings: TypeAlias = dict[tuple[str, str], Callable[[], float]]

#: A request's body as its endpoint takes it: bytes, or an upload.
_Body = TypeVar("_Body")


class _Series:
    """The requests of one endpoint."""

    __slots__ = ("counts", "durations", "seconds_total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        #: Requests by the first of BOUNDS that is not less than their duration; the last place is for longer ones.
        self.durations = [0] * (len(BOUNDS) + 1)
        self.seconds_total = 0.0

    def ended(self, status: int, elapsed_seconds: float) -> None:
        self.counts[status] = self.counts.get(status, 0) + 1
        self.durations[bisect_left(BOUNDS, elapsed_seconds)] += 1
        self.seconds_total += elapsed_seconds


class Metrics(Collector):
    """All figures of one process. `seconds` is a monotonic clock, `process` says which process it is."""

    content_type = CONTENT_TYPE_LATEST.encode()

    def __init__(
        self,
        seconds: Callable[[], float],
        gauges: Readings,
        counters: Readings | None = None,
        process: Mapping[str, str] | None = None,
    ) -> None:
        self._seconds = seconds
        self._process = dict(process or {})
        self._gauges = gauges
        self._counters = counters or {}
        self._series: dict[str, _Series] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return the figures as they are now."""
        return generate_latest(self._registry)

    def measured(
        self, name: str, endpoint: Callable[[Headers, _Body], Answer | Awaitable[Answer]]
    ) -> Callable[[Headers, _Body], Answer | Deferred[Answer]]:
        """Return the endpoint with its requests counted under `name`; a streamed answer ends with its first page."""
        series = self._series.setdefault(name, _Series())
        seconds = self._seconds

        def answered(answer: Answer, started: float) -> Answer:
            series.ended(answer.status, seconds() - started)
            return answer

        def failed(failure: Failure, started: float) -> Failure:
            series.ended(_status(failure.value), seconds() - started)
            return failure

        def run(headers: Headers, body: _Body) -> Answer | Deferred[Answer]:
            started = seconds()
            try:
                outcome: Any = endpoint(headers, body)
            except Exception as error:
                series.ended(_status(error), seconds() - started)
                raise
            if iscoroutine(outcome):
                outcome = Deferred.fromCoroutine(outcome)
            if isinstance(outcome, Deferred):
                return outcome.addCallbacks(answered, failed, (started,), errbackArgs=(started,))
            return answered(outcome, started)

        return run

    def collect(self) -> Iterator[Metric]:
        """Yield the figures in the library's terms."""
        requests = CounterMetricFamily("shardlb_requests", "Requests answered.", labels=("endpoint", "status"))
        durations = HistogramMetricFamily("shardlb_request_seconds", "Until the answer began.", labels=("endpoint",))
        for name, series in self._series.items():
            for status, count in series.counts.items():
                requests.add_metric((name, str(status)), count)
            bounds = [*map(str, BOUNDS), "+Inf"]
            counts = list(map(float, accumulate(series.durations)))
            durations.add_metric((name,), list(zip(bounds, counts, strict=True)), series.seconds_total)
        yield requests
        yield durations
        if self._process:
            yield InfoMetricFamily("shardlb_process", "The process that tells these figures.", value=self._process)
        for (name, text), reading in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=reading())
        for (name, text), reading in self._counters.items():
            yield CounterMetricFamily(name, text, value=reading())


def _status(error: BaseException | None) -> int:
    return error.status if isinstance(error, ApiError) else 500
