"""How fast the state machine and its SQLite store are, beside sqlite3 doing the same writes and reads by itself.

    python -m benchmarks.store_bench [--rows N] [--runs N]

Writes: entries of B single-row operations as a balancer's coalesced requests are, from their bytes to the committed
transaction: decoding, exactly-once, rows, results, position. sqlite3 alone inserts B rows and updates one counter.
Reads: by one id, and by ranges of 100 ids, from the store to rows. A figure is the median of the runs.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import execute

from dbnode.apply import apply_items
from dbnode.machine import Machine, command_from_bytes
from dbnode.schema import Schema
from dbnode.sqlite import SqliteStore
from dbnode.wire import Batch, OpenSession, Row, Write

STUDENTS = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))
BATCH_SIZES = (1, 10, 100, 1000)
RANGE_IDS = 100


def rows(count: int) -> list[Row]:
    """Return rows with distinct ids in a random order that is the same each time."""
    ids = random.Random(7).sample(range(count), count)
    return [(id_, f"student number {id_}", id_ % 100) for id_ in ids]


def batched(items: list[Row], size: int) -> Iterator[list[Row]]:
    """Yield runs of `size` items."""
    iterator = iter(items)
    while run := list(itertools.islice(iterator, size)):
        yield run


class Ours:
    """A machine over a store in a new file."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path, STUDENTS, execute)
        self.machine = Machine()
        self.machine.restore(self.store.open())
        apply_items(self.machine, self.store, [(1, OpenSession("session", 0))])

    def write(self, items: list[Row], size: int) -> float:
        """Return the seconds that it takes to apply rows in entries of `size` operations."""
        entries = []
        for sequence, run in enumerate(batched(items, size), start=1):
            operations = tuple(Write((row,)) for row in run)
            batch = Batch("session", sequence, max(0, sequence - 8), sequence, operations)
            entries.append((sequence + 1, msgspec.msgpack.encode(batch)))
        start = perf_counter()
        for index, data in entries:
            apply_items(self.machine, self.store, [(index, command_from_bytes(STUDENTS, data))])
        return perf_counter() - start

    def read(self, low: int, high: int) -> None:
        """Read a range."""
        self.store.scan(low, high, 0, 1 << 20)


class Sqlite:
    """sqlite3 with the same settings and no questions asked."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, c1, c2)",
            "CREATE TABLE state (applied_index INTEGER)",
            "INSERT INTO state VALUES (0)",
        ):
            self.connection.execute(statement)

    def write(self, items: list[Row], size: int) -> float:
        """Return the seconds that it takes to insert rows in transactions of `size` rows."""
        runs = list(batched(items, size))
        start = perf_counter()
        for index, run in enumerate(runs):
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", run)
            self.connection.execute("UPDATE state SET applied_index = ?", (index,))
            self.connection.execute("COMMIT")
        return perf_counter() - start

    def read(self, low: int, high: int) -> None:
        """Read a range."""
        self.connection.execute("SELECT * FROM rows WHERE id BETWEEN ? AND ? ORDER BY id", (low, high)).fetchall()


def seconds_of_reads(read: Callable[[int, int], None], row_count: int, reads: int, ids: int) -> float:
    """Return the seconds that so many reads of ranges of so many ids take."""
    lows = random.Random(9).choices(range(row_count - ids), k=reads)
    start = perf_counter()
    for low in lows:
        read(low, low + ids - 1)
    return perf_counter() - start


def measure(directory: Path, row_count: int) -> dict[str, tuple[float, float]]:
    """Return, for each thing measured, the seconds per row or read that we and sqlite3 alone need."""
    items = rows(row_count)
    found: dict[str, tuple[float, float]] = {}
    for size in BATCH_SIZES:
        ours, alone = Ours(directory / f"ours{size}"), Sqlite(directory / f"alone{size}")
        found[f"rows written, {size} per entry"] = (
            ours.write(items, size) / row_count,
            alone.write(items, size) / row_count,
        )
    for name, reads, ids in (
        ("reads of one id", row_count, 1),
        (f"reads of {RANGE_IDS} ids", row_count // 10, RANGE_IDS),
    ):
        found[name] = (
            seconds_of_reads(ours.read, row_count, reads, ids) / reads,
            seconds_of_reads(alone.read, row_count, reads, ids) / reads,
        )
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the table (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs, of which the median counts (default %(default)s)")
    arguments = parser.parse_args()
    runs = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as directory:
            runs.append(measure(Path(directory), arguments.rows))
    table = Table("", "ours µs", "per second", "sqlite3 alone µs", "ratio", title=f"{arguments.rows} rows")
    for name in runs[0]:
        ours = median(run[name][0] for run in runs)
        alone = median(run[name][1] for run in runs)
        table.add_row(name, f"{ours * 1e6:.1f}", f"{1 / ours:,.0f}", f"{alone * 1e6:.1f}", f"{alone / ours:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
