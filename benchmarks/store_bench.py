"""How fast the state machine is over each store, beside the store's engine doing the same writes and reads by itself.

    python -m benchmarks.store_bench [--rows N] [--runs N] [--engines sqlite,postgres]

Writes: entries of B single-row operations: decoding, exactly-once, rows, results, position. The engine alone inserts B
rows and updates one counter. Reads: by one id, one after the other and 32 at a time, and by ranges of 100 ids, from the
store to rows. A figure is the median of the runs; one run measures everything once, so that ratios are of one moment.
PostgreSQL is one of our own, with the settings that servers give theirs.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred, execute, gatherResults
from twisted.internet.task import react

from benchmarks.store_subjects import STUDENTS, Ours, RawPostgres, RawSqlite, Subject, rows
from dbnode.postgres.dialling import Dial
from dbnode.postgres.place import Place
from dbnode.postgres.private import PrivatePostgres
from dbnode.postgres.store import PostgresStore
from dbnode.sqlite import SqliteStore

BATCH_SIZES = (1, 10, 100, 1000)
RANGE_IDS = 100
#: Reads at a time, as they come to a server that many ask.
TOGETHER = 32
ENGINES = ("sqlite", "postgres")

#: Seconds per row or read, by what was measured and by whom.
Figures = dict[str, dict[str, float]]


async def seconds_of_reads(subject: Subject, row_count: int, reads: int, ids: int, together: int) -> float:
    """Return the seconds that so many reads of ranges of so many ids take, some of them at a time."""
    lows = random.Random(9).choices(range(row_count - ids), k=reads)

    async def read_all(some: Sequence[int]) -> None:
        for low in some:
            await subject.read(low, low + ids - 1)

    start = perf_counter()
    await gatherResults([Deferred.fromCoroutine(read_all(lows[first::together])) for first in range(together)])
    return perf_counter() - start


async def subjects(reactor: Any, directory: Path, engines: Sequence[str]) -> AsyncIterator[tuple[str, list[Subject]]]:
    """Yield each subject by name, empty: one for each size of batches."""
    count = len(BATCH_SIZES)
    if "sqlite" in engines:
        yield "sqlite", [Ours(SqliteStore(directory / f"ours{n}", STUDENTS, execute)) for n in range(count)]
        yield "sqlite3 alone", [RawSqlite(directory / f"alone{n}") for n in range(count)]
    if "postgres" in engines:
        server = PrivatePostgres(reactor, directory, None)
        await server.start()
        parameters = dict(server.parameters("postgres"))
        dial = Dial(reactor, execute, "store_bench")
        places = [Place(parameters, f"ours{n}", owns_database=False) for n in range(count)]
        yield "postgres", [Ours(PostgresStore(reactor, dial, place, STUDENTS, execute)) for place in places]
        yield "txpostgres alone", [RawPostgres(reactor, parameters) for _ in range(count)]
        await server.stop()


async def measure(reactor: Any, directory: Path, row_count: int, engines: Sequence[str]) -> Figures:
    """Return all figures of one run."""
    items = rows(row_count)
    found: Figures = {}
    async for name, each in subjects(reactor, directory, engines):
        for size, subject in zip(BATCH_SIZES, each, strict=True):
            await subject.open()
            seconds = await subject.write(items, size)
            found.setdefault(f"rows written, {size} per entry", {})[name] = seconds / row_count
            if size != BATCH_SIZES[-1]:
                await subject.close()
        for what, reads, ids, together in (
            ("reads of one id", row_count, 1, 1),
            (f"reads of one id, {TOGETHER} at a time", row_count, 1, TOGETHER),
            (f"reads of {RANGE_IDS} ids", row_count // 10, RANGE_IDS, 1),
        ):
            seconds = await seconds_of_reads(each[-1], row_count, reads, ids, together)
            found.setdefault(what, {})[name] = seconds / reads
        await each[-1].close()
    return found


def table(runs: Sequence[Figures], row_count: int) -> Table:
    """Return a table of medians: how many per second, and our share of what the engine does alone."""
    shown = Table(title=f"{row_count} rows, {len(runs)} runs")
    names = list(next(iter(runs[0].values())))
    shown.add_column("per second")
    for ours, alone in zip(names[::2], names[1::2], strict=True):
        for heading in (ours, alone, "ratio"):
            shown.add_column(heading, justify="right")
    for what in runs[0]:
        cells = []
        for ours, alone in zip(names[::2], names[1::2], strict=True):
            one, other = (median(run[what][name] for run in runs) for name in (ours, alone))
            cells += [f"{1 / one:,.0f}", f"{1 / other:,.0f}", f"{other / one:.2f}"]
        shown.add_row(what, *cells)
    return shown


async def run(reactor: Any, arguments: argparse.Namespace) -> None:
    """Measure and print a table."""
    engines = arguments.engines.split(",")
    runs = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as directory:
            runs.append(await measure(reactor, Path(directory), arguments.rows, engines))
    Console().print(table(runs, arguments.rows))


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the table (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs, of which the median counts (default %(default)s)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="which of them (default %(default)s)")
    arguments = parser.parse_args()
    unknown = set(arguments.engines.split(",")) - set(ENGINES)
    if unknown:
        parser.error(f"--engines: {', '.join(sorted(unknown))} is none of {', '.join(ENGINES)}")
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, arguments)))


if __name__ == "__main__":
    main()
