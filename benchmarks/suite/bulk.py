"""`bin/bench bulk`: a million rows in, by large /write requests or as lines in one, and out by one streamed /read.

Beside it COPY into one local PostgreSQL, in one transaction and in as many as we have requests. Batches are ranges of
ids, dealt over the shards in turn, as loaders that share the work would do, and so are lines; nothing is held in memory
but the requests outstanding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.http_headers import Headers

from benchmarks.client import Load
from benchmarks.suite.context import Context
from benchmarks.suite.copying import copy
from benchmarks.suite.document import OURSELVES, Point, Points, Sample
from benchmarks.suite.figures import sample_of
from benchmarks.suite.layouts import spread
from benchmarks.suite.rows import RowReader, WrongRowsError, row_at
from benchmarks.suite.subjects import POSTGRES, Subject
from benchmarks.usage import Meter, client
from benchmarks.workloads import Workload, http_request

AT_ONCE = "at once"
BATCHES, LINES = "batches", "lines"
_NDJSON = "application/x-ndjson"
_REPLICAS = 3
#: What is read of the file of lines at once.
_PIECE_BYTES = 1 << 18
_LINES = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Size:
    """How much: rows, rows of a batch, batches outstanding, the cluster, and the ways in (BATCHES, LINES)."""

    rows: int
    batch: int
    connections: int
    servers: int
    shards: int
    ways: tuple[str, ...]

    def layout(self) -> Workload:
        """Return the cluster: shards of as many batches each."""
        return spread(self.servers, self.shards, min(_REPLICAS, self.servers), self._per_shard() * self.batch)

    def ranges(self) -> list[range]:
        """Return the ids of each batch, the shards in turn."""
        starts = [
            (shard * self._per_shard() + place) * self.batch
            for place in range(self._per_shard())
            for shard in range(self.shards)
        ]
        return [range(low, min(low + self.batch, self.rows)) for low in starts if low < self.rows]

    def _per_shard(self) -> int:
        return ceil(self.rows / self.batch / self.shards)


class _Batches:
    """The requests of a load, made when they are sent."""

    def __init__(self, ranges: list[range], host: str) -> None:
        self._ranges = ranges
        self._host = host

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> bytes:
        return http_request("POST", "/write", self._host, {"data": [row_at(row_id) for row_id in self._ranges[index]]})


async def bulk(context: Context, size: Size) -> list[Point]:
    """Return points of loading and reading back, and of COPY if PostgreSQL is among the peers."""
    points = Points()
    for _, name in context.turns(context.common.peers):
        if name == OURSELVES:
            for way in size.ways:
                async with context.stage.open(name, size.layout()) as subject:
                    for phase, x, sample in await _in_and_out(context, subject, size, way):
                        points.add(name, phase, x, sample)
        else:
            for x, batches in ((AT_ONCE, [range(size.rows)]), (f"by {size.batch:,}", size.ranges())):
                points.add(POSTGRES, "load", x, await copy(context, batches))
    return points.all()


async def _in_and_out(context: Context, subject: Subject, size: Size, way: str) -> list[tuple[str, str, Sample]]:
    """Load and read back, as JSON or as lines both."""
    if way == LINES:
        loaded = AT_ONCE, await _load_lines(context, subject, size)
    else:
        loaded = f"by {size.batch:,}", await _load(context, subject, size)
    back = await _read_back(context, subject, size, _NDJSON if way == LINES else "application/json")
    return [("load", *loaded), (f"read back, {'lines' if way == LINES else 'JSON'}", AT_ONCE, back)]


async def _load(context: Context, subject: Subject, size: Size) -> Sample:
    ranges = size.ranges()

    def check(index: int, status: int, body: bytes) -> Any:
        return checks[len(ranges[index])](index, status, body)

    dialect = subject.dialect("linearizable")
    checks = {len(ids): dialect.written(len(ids)) for ids in ranges}
    meter = Meter([*subject.processes(), client()])
    measured = await context.send(
        subject.door, "load", Load(_Batches(ranges, subject.door.host), check), concurrency=size.connections
    )
    usage = meter.stop()
    sample = sample_of(measured, usage)
    rows = sum(len(ids) for index, ids in enumerate(ranges) if index not in measured.failures)
    figures = {**sample.figures, **usage.figures(rows), "rows_per_second": rows / measured.seconds}
    return Sample({**figures, "seconds": measured.seconds}, sample.errors, [], usage.memory)


async def _load_lines(context: Context, subject: Subject, size: Size) -> Sample:
    """Send all rows as the lines of one body, from a file."""
    path = context.new_directory("lines") / "rows.ndjson"
    with path.open("wb") as lines:
        for ids in size.ranges():
            lines.write(_LINES.encode_lines(map(row_at, ids)))
    watch = context.display("load as lines", 1)
    meter = Meter([*subject.processes(), client()])
    started = context.clocks.wall()
    with path.open("rb") as lines:
        body = FileBodyProducer(lines, readSize=_PIECE_BYTES)
        http = HTTPClient(Agent(context.reactor))
        response = await http.post(
            f"http://{subject.door.host}/write", data=body, headers=Headers({"Content-Type": [_NDJSON]})
        )
        answer = await response.content()
    seconds = context.clocks.wall() - started
    usage = meter.stop()
    watch(1)
    failed = subject.dialect("linearizable").written(size.rows)(0, response.code, answer)
    errors = {} if failed is None else {failed.kind: 1}
    return Sample(
        {"rows_per_second": size.rows / seconds, "seconds": seconds, **usage.figures(size.rows)},
        errors,
        [],
        usage.memory,
    )


async def _read_back(context: Context, subject: Subject, size: Size, accept: str) -> Sample:
    """Read the whole table by one request and check every row as it comes."""
    reader = RowReader()
    watch = context.display("reading back", size.rows)
    meter = Meter([*subject.processes(), client()])
    started = context.clocks.wall()
    problems: list[str] = []

    def take(piece: bytes) -> None:
        reader.feed(piece)
        if reader.rows < size.rows:
            watch(reader.rows)

    try:
        await _stream(context, subject, size.rows, accept, take)
        reader.close(size.rows)
    except WrongRowsError as reason:
        problems.append(str(reason))
    seconds = context.clocks.wall() - started
    watch(size.rows)
    usage = meter.stop()
    figures = {"rows_per_second": reader.rows / seconds, "seconds": seconds, **usage.figures(reader.rows)}
    return Sample(figures, {}, problems, usage.memory)


async def _stream(context: Context, subject: Subject, rows: int, accept: str, take: Callable[[bytes], None]) -> None:
    """Hand the body of a read of all ids to `take` as it comes."""
    http = HTTPClient(Agent(context.reactor))
    everything = {"Stud_id": {"low": 0, "high": rows - 1}}
    response = await http.post(
        f"http://{subject.door.host}/read", json=everything, headers=Headers({"Accept": [accept]})
    )
    if response.code != 200:
        raise WrongRowsError(f"/read answered {response.code}")
    done: Deferred[None] = treq.collect(response, take)
    await done
