"""`bin/bench versus-etcd`: A-1's six servers and etcd's three members in turn, with wrk as the client of both.

In each run each subject is started afresh and gets 10,000 rows in single writes; then wrk writes new rows and reads
those 10,000 back, at each number of connections. A put of etcd and a write of ours carry the same row. Our shards
are larger than A-1's, for wrk counts seconds, not rows, and would run out of 16,384 ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.client import Load
from benchmarks.suite.context import Context
from benchmarks.suite.dialects import bodies
from benchmarks.suite.document import Point, Points, Sample
from benchmarks.suite.layouts import large_a_1
from benchmarks.suite.subjects import ETCD, Subject
from benchmarks.suite.wrk import Wrk
from benchmarks.usage import Meter
from benchmarks.verify import Expected
from benchmarks.workloads import Record, make_records

#: Rows loaded before and read by wrk, as many as A-1 has.
_LOADED = 10_000
#: Rows read again by our own client, which judges every answer as wrk does not.
_SAMPLED = 1_000
_LOAD_CONNECTIONS = 32
#: Where each subject takes writes and reads.
_PATHS = {ETCD: ("/v3/kv/put", "/v3/kv/range")}
_OUR_PATHS = ("/write", "/read")


async def versus_etcd(context: Context, connections: Sequence[int], rate_max: int) -> list[Point]:
    """Return points of both subjects; `rate_max` is the most writes per second that there are rows for."""
    wrk = Wrk(context.reactor, context.directory)
    points = Points()
    for run, name in context.turns([ETCD]):
        async with context.stage.open(name, large_a_1()) as subject:
            match = _Match(context, subject, wrk, connections, rate_max, run)
            for phase, x, sample in await match.play():
                points.add(name, phase, x, sample)
    return points.all()


class _Match:
    """One subject in one run."""

    def __init__(
        self, context: Context, subject: Subject, wrk: Wrk, connections: Sequence[int], rate_max: int, run: int
    ) -> None:
        self._context = context
        self._subject = subject
        self._wrk = wrk
        self._connections = connections
        self._seconds = max(1, round(context.common.seconds))
        self._fresh = rate_max * self._seconds
        self._run = run

    async def play(self) -> list[tuple[str, float, Sample]]:
        """Load, let wrk write and read at each number of connections, and compare what is stored."""
        loaded, fresh = self._records()
        title = f"run {self._run}, {self._subject.name}"
        dialect = self._subject.dialect("linearizable")
        writes = Load([dialect.write([one]) for one in loaded], dialect.written(1))
        refused = (
            await self._context.send(self._subject.door, f"{title}, load", writes, concurrency=_LOAD_CONNECTIONS)
        ).failures
        reads = bodies([dialect.read(one.Stud_id) for one in loaded])
        found: list[tuple[str, float, Sample]] = []
        for place, count in enumerate(self._connections):
            part = fresh[place * self._fresh : (place + 1) * self._fresh]
            written = await self._blast(0, bodies([dialect.write([one]) for one in part]), count, f"{title}, writes")
            found.append(("writes", count, written))
            found.append(("reads", count, await self._blast(1, reads, count, f"{title}, reads")))
        problems = await self._problems(loaded, fresh, found)
        problems += [f"{len(refused)} rows could not be loaded"] if refused else []
        found[-1][2].problems.extend(problems)
        return found

    def _records(self) -> tuple[list[Record], list[Record]]:
        """Return rows to load and rows for wrk; the same for both subjects of a run."""
        rng = self._context.rng(self._run)
        count = _LOADED + self._fresh * len(self._connections)
        records = make_records(rng.sample(range(large_a_1().capacity()), count), self._context.common.width, rng)
        return records[:_LOADED], records[_LOADED:]

    async def _blast(self, kind: int, lines: Sequence[bytes], connections: int, title: str) -> Sample:
        meter = Meter(self._subject.processes())
        path = _PATHS.get(self._subject.name, _OUR_PATHS)[kind]
        with self._context.ticking(f"{title} at {connections} connections", self._seconds):
            blast = await self._wrk.blast(
                self._subject.door, path, lines, connections=connections, seconds=self._seconds
            )
        usage = meter.stop()
        ran_out = ["wrk ran out of rows: give a larger --rate-max"] if kind == 0 and blast.ran_out else []
        figures = {**blast.figures, "succeeded": float(blast.succeeded), **usage.figures(blast.succeeded)}
        return Sample(figures, blast.errors, ran_out, usage.memory)

    async def _problems(
        self, loaded: list[Record], fresh: list[Record], found: list[tuple[str, float, Sample]]
    ) -> list[str]:
        """Compare what is stored with what was acknowledged, and read a part again with every answer judged."""
        dialect = self._subject.dialect("linearizable")
        again = loaded[:_SAMPLED]
        reads = Load([dialect.read(one.Stud_id) for one in again], dialect.reads_of(again, ()))
        judged = await self._context.send(self._subject.door, "reading again", reads, concurrency=_LOAD_CONNECTIONS)
        problems = [f"{len(judged.failures)} rows read wrong"] if judged.failures else []
        assert self._subject.verify is not None
        rows = {one.Stud_id: one for one in loaded}
        verdict = await self._subject.verify(Expected(rows, {one.Stud_id: one for one in fresh}, (), alone=True))
        problems += verdict.problems
        acknowledged = sum(int(sample.figures["succeeded"]) for phase, _, sample in found if phase == "writes")
        in_flight = sum(self._connections)
        if not acknowledged <= verdict.unknown_stored <= acknowledged + in_flight:
            problems.append(f"{acknowledged} writes were acknowledged, {verdict.unknown_stored} rows are stored")
        return problems
