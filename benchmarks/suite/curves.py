"""The curves: which settings each of them has. Every other quantity stays at that of A-1."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.suite.context import Context
from benchmarks.suite.document import Point
from benchmarks.suite.layouts import large_a_1, large_a_2, large_a_3, spread
from benchmarks.suite.pairs import Setting, measure_settings

#: Servers of the replica curve: as many as the most replicas that A-2 has.
_SERVERS_MAX = 7
#: At most so many bytes of names in one phase, so that long values do not fill the client's memory.
_PHASE_BYTES_MAX = 128 << 20
#: Requests of a phase that make its rate mean something, however few rows --rows allows.
_REQUESTS_MIN = 20


async def concurrency(context: Context, connections: Sequence[int]) -> list[Point]:
    """Vary the connections."""
    settings = [_setting(context, count, connections=count) for count in connections]
    return await measure_settings(context, settings, context.common.peers)


async def single(context: Context) -> list[Point]:
    """Have one connection only."""
    return await measure_settings(context, [_setting(context, 1, connections=1)], context.common.peers)


async def batches(context: Context, sizes: Sequence[int], connections: int) -> list[Point]:
    """Vary the rows of a write."""
    settings = [
        Setting(size, large_a_1(), connections, context.common.width, _batched_rows(context, size), batch=size)
        for size in sizes
    ]
    return await measure_settings(context, settings, ())


async def widths(context: Context, sizes: Sequence[int], connections: int) -> list[Point]:
    """Vary the length of names."""
    settings = [_setting(context, size, connections=connections, width=size) for size in sizes]
    return await measure_settings(context, settings, context.common.peers)


async def replicas(context: Context, copies: Sequence[int], connections: int) -> list[Point]:
    """Vary the replicas of each shard; the servers stay as many."""
    settings = [
        Setting(count, spread(_SERVERS_MAX, 4, count), connections, context.common.width, context.common.rows)
        for count in copies
    ]
    return await measure_settings(context, settings, ())


async def shards(context: Context, counts: Sequence[int], connections: int) -> list[Point]:
    """Vary the shards; servers and replicas stay as many."""
    settings = [
        Setting(count, spread(6, count, 3), connections, context.common.width, context.common.rows) for count in counts
    ]
    return await measure_settings(context, settings, ())


async def layouts(context: Context, connections: int) -> list[Point]:
    """Have the servers, shards and replicas of A-1, A-2 and A-3."""
    settings = [
        Setting(name, layout, connections, context.common.width, context.common.rows)
        for name, layout in (("A-1", large_a_1()), ("A-2", large_a_2()), ("A-3", large_a_3()))
    ]
    return await measure_settings(context, settings, ())


async def consistency(context: Context, connections: int) -> list[Point]:
    """Vary the consistency of reads. Stale ones begin when all replicas have applied what they are to find."""
    common = context.common
    settings = [
        Setting(level, large_a_1(), connections, common.width, common.rows, consistency=level)
        for level in ("linearizable", "stale")
    ]
    return await measure_settings(context, settings, ())


def _setting(context: Context, x: int, *, connections: int, width: int | None = None) -> Setting:
    width = context.common.width if width is None else width
    rows = min(context.common.rows, max(_REQUESTS_MIN, _PHASE_BYTES_MAX // width))
    return Setting(x, large_a_1(), connections, width, rows)


def _batched_rows(context: Context, size: int) -> int:
    """Return how many rows to write in batches of this size, whole batches all of them."""
    requests = max(_REQUESTS_MIN, context.common.rows // size)
    return size * min(requests, context.common.rows // 10 if size == 1 else requests)
