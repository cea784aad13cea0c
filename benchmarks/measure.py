"""What a run of requests yields: latencies, failures and pauses, and their summary.

Rate counts successes only, over the time from the first request to the last answer. Latencies are those of
successes. A pause is the time in which nothing succeeded, between two successes or before the first one, over all
requests and for each shard; with a server killed in the middle it is what clients saw of it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Literal


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that did not succeed: what kind of failure, and whether it changed anything."""

    kind: str
    applied: Literal["no", "unknown"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The raw outcome of a list of requests; index i of each field belongs to request i.

    `finished` are seconds since the start and `latencies` seconds, both 0.0 where the request is in `failures`.
    `cpu_seconds` is what the client itself used.
    """

    latencies: Sequence[float]
    finished: Sequence[float]
    failures: Mapping[int, Failed]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a Measurement that reports show. Latencies in milliseconds, NaN-free: 0.0 without successes."""

    requests: int
    succeeded: int
    seconds: float
    rate_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    pause_ms: float
    pause_ms_by_shard: dict[str, float]
    errors: dict[str, int]
    client_cpu_us_per_request: float


def new_times(count: int) -> array[float]:
    """Return `count` zero seconds, compactly."""
    return array("d", bytes(8 * count))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of an ascending sequence, 0.0 of an empty one."""
    if not ordered:
        return 0.0
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def longest_pause(finished: Sequence[float]) -> float:
    """Return the longest time without a success, given when each success finished, ascending, since the start."""
    last, longest = 0.0, 0.0
    for moment in finished:
        longest = max(longest, moment - last)
        last = moment
    return longest


def summarise(measured: Measurement, shard_of: Callable[[int], str]) -> Summary:
    """Reduce a measurement; `shard_of` names the shard that a request index went to."""
    count = len(measured.latencies)
    succeeded = [index for index in range(count) if index not in measured.failures]
    succeeded.sort(key=measured.finished.__getitem__)
    by_shard: dict[str, list[float]] = {}
    for index in succeeded:
        by_shard.setdefault(shard_of(index), []).append(measured.finished[index])
    milliseconds = sorted(measured.latencies[index] * 1e3 for index in succeeded)
    return Summary(
        requests=count,
        succeeded=len(succeeded),
        seconds=measured.seconds,
        rate_per_second=len(succeeded) / measured.seconds if measured.seconds else 0.0,
        p50_ms=percentile(milliseconds, 50),
        p95_ms=percentile(milliseconds, 95),
        p99_ms=percentile(milliseconds, 99),
        max_ms=percentile(milliseconds, 100),
        pause_ms=longest_pause([measured.finished[index] for index in succeeded]) * 1e3,
        pause_ms_by_shard={shard: longest_pause(times) * 1e3 for shard, times in sorted(by_shard.items())},
        errors=dict(Counter(failed.kind for failed in measured.failures.values()).most_common()),
        client_cpu_us_per_request=measured.cpu_seconds / count * 1e6 if count else 0.0,
    )


def median_of(summaries: Sequence[Summary]) -> Summary:
    """Return the median of each figure over several runs; errors are added up, not averaged away."""
    errors: Counter[str] = Counter()
    for summary in summaries:
        errors.update(summary.errors)
    shards = summaries[0].pause_ms_by_shard
    return Summary(
        requests=sum(summary.requests for summary in summaries),
        succeeded=sum(summary.succeeded for summary in summaries),
        seconds=median(summary.seconds for summary in summaries),
        rate_per_second=median(summary.rate_per_second for summary in summaries),
        p50_ms=median(summary.p50_ms for summary in summaries),
        p95_ms=median(summary.p95_ms for summary in summaries),
        p99_ms=median(summary.p99_ms for summary in summaries),
        max_ms=median(summary.max_ms for summary in summaries),
        pause_ms=median(summary.pause_ms for summary in summaries),
        pause_ms_by_shard={
            shard: median(summary.pause_ms_by_shard.get(shard, 0.0) for summary in summaries) for shard in shards
        },
        errors=dict(errors.most_common()),
        client_cpu_us_per_request=median(summary.client_cpu_us_per_request for summary in summaries),
    )
