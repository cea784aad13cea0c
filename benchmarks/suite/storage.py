"""`bin/bench storage`: one PostgreSQL by pgbench, single rows: the limit of storage without replication or HTTP.

What a design that keeps its rows in PostgreSQL and asks it once per operation cannot beat on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.process import to_the_end
from benchmarks.suite.context import Context
from benchmarks.suite.document import Point, Points, Sample
from benchmarks.suite.postgres import Postgres, PostgresError
from benchmarks.suite.subjects import POSTGRES
from benchmarks.usage import Meter

TABLE = "create table studt (stud_id bigint primary key, stud_name text, stud_marks bigint)"
_LOADED = 100_000
#: So many ids that a random one is hardly ever there twice.
_IDS = 1 << 40
_SCRIPTS = {
    "writes": f"\\set id random({_LOADED + 1}, {_IDS})\n"
    "insert into studt values (:id, 'sixteen bytes xx', 50) on conflict do nothing;\n",
    "reads": f"\\set id random(1, {_LOADED})\nselect * from studt where stud_id = :id;\n",
}
_THREADS = 2
_RATE = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
_MEAN = re.compile(r"^latency average = ([\d.]+) ms", re.MULTILINE)
_DONE = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)


async def storage(context: Context, connections: Sequence[int]) -> list[Point]:
    """Return points of inserts and selects at each number of connections."""
    points = Points()
    for run in range(1, context.common.runs + 1):
        directory = context.new_directory("postgres")
        server = Postgres(context.reactor, directory)
        try:
            await server.start()
            await server.sql(
                TABLE, f"insert into studt select i, 'sixteen bytes xx', 50 from generate_series(1, {_LOADED}) i"
            )
            for count in connections:
                for phase, script in _SCRIPTS.items():
                    path = directory / f"{phase}.sql"
                    path.write_text(script)
                    with context.ticking(f"run {run}, {phase} at {count} connections", context.common.seconds):
                        sample = await _pgbench(server, path, count, context.common.seconds)
                    points.add(POSTGRES, phase, count, sample)
        finally:
            await to_the_end(server.stop())
    return points.all()


async def _pgbench(server: Postgres, script: Path, connections: int, seconds: float) -> Sample:
    meter = Meter(server.processes())
    printed = await server.run(
        "pgbench",
        "--no-vacuum",
        "--protocol=prepared",
        f"--file={script}",
        f"--client={connections}",
        f"--jobs={min(_THREADS, connections)}",
        f"--time={max(1, round(seconds))}",
    )
    return Sample({**pgbench_figures(printed)}, memory=meter.stop().memory)


def pgbench_figures(printed: str) -> dict[str, float]:
    """Return the figures that pgbench printed. Raises PostgresError if they are not there."""
    found = {"rate_per_second": _RATE, "mean_ms": _MEAN, "requests": _DONE}
    matches = {name: pattern.search(printed) for name, pattern in found.items()}
    if missing := [name for name, match in matches.items() if match is None]:
        raise PostgresError(f"pgbench printed no {missing[0]}: {printed[-500:]}")
    return {name: float(match[1]) for name, match in matches.items() if match is not None}
