"""COPY into one local PostgreSQL, what a bulk load is measured against; it syncs its log at every commit, as we do."""

from __future__ import annotations

from benchmarks.process import to_the_end
from benchmarks.suite.context import Context
from benchmarks.suite.document import Sample
from benchmarks.suite.postgres import Postgres
from benchmarks.suite.rows import csv
from benchmarks.suite.storage import TABLE


async def copy(context: Context, batches: list[range]) -> Sample:
    """Load a new PostgreSQL by one COPY per batch, each a transaction."""
    directory = context.new_directory("postgres")
    server = Postgres(context.reactor, directory)
    for number, ids in enumerate(batches):
        (directory / f"{number}.csv").write_bytes(csv(ids))
    script = directory / "copy.sql"
    script.write_text("".join(f"\\copy studt from '{directory}/{number}.csv' csv\n" for number in range(len(batches))))
    watch = context.display(f"COPY in {len(batches)}", 1)
    try:
        await server.start()
        await server.sql(TABLE)
        started = context.clocks.wall()
        await server.run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(script))
        seconds = context.clocks.wall() - started
        found = int(await server.sql("select count(*) from studt"))
    finally:
        await to_the_end(server.stop())
        watch(1)
    rows = sum(map(len, batches))
    problems = [] if found == rows else [f"{found} rows are stored of {rows}"]
    return Sample({"rows_per_second": rows / seconds, "seconds": seconds}, {}, problems)
