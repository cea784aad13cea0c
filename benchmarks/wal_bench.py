"""How fast the write-ahead log is: `python -m benchmarks.wal_bench [--seconds N] [--bytes N] [--runs N] [DIR]`.

Each of 1, 10 or 100 writers has a group of its own and appends one entry at a time, the next when the last is on disk.
Beside each measurement the same disk gets as many bytes in as many writes from a bare loop of write and fdatasync on a
growing file; the ratio is the log's rate to that loop's. Medians over the runs; DIR chooses the disk.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from raftlog.messages import ConfState, Entry, HardState
from raftlog.wal import Appended, Compacted, Created, Record, Wal, WalError, open_wal

WRITERS = (1, 10, 100)
#: A writer compacts its group after so many entries, so that the log stays as long as a live one.
COMPACT_EVERY = 200
VOTERS = ConfState((1, 2, 3))


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement, and the bare loop's beside it."""

    entries_per_second: float
    bytes_per_second: float
    entries_per_sync: float
    p50_ms: float
    p99_ms: float
    ratio: float


class Writer:
    """Appends to its group, one entry after the other."""

    def __init__(self, wal: Wal, group_id: int, data: bytes) -> None:
        self._wal = wal
        self._group_id = group_id
        self._data = data
        self._index = 0
        self._submitted_at = 0.0
        self.stopped = False
        self.latencies_seconds: list[float] = []

    def create(self) -> None:
        """Create the group."""
        self._wal.submit(
            [Created(self._group_id, self._group_id, VOTERS), Appended(self._group_id, HardState(1, 1, 0))], _nothing
        )

    def append(self) -> None:
        """Append an entry; `_appended` follows."""
        self._index += 1
        entry = Entry(1, self._index, self._data)
        records: list[Record] = [Appended(self._group_id, HardState(1, 1, self._index - 1), (entry,))]
        if self._index % COMPACT_EVERY == 0:
            records.append(Compacted(self._group_id, self._index - COMPACT_EVERY // 2, 1, VOTERS))
        self._submitted_at = perf_counter()
        self._wal.submit(records, self._appended)

    def _appended(self) -> None:
        self.latencies_seconds.append(perf_counter() - self._submitted_at)
        if not self.stopped:
            self.append()


def _nothing() -> None:
    pass


def _die(error: WalError) -> None:
    sys.exit(str(error))


def measure(directory: Path, writers_count: int, seconds: float, data: bytes) -> Figures:
    """Run writers on a new log for some seconds, then the bare loop."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    wal, _ = open_wal(directory / f"wal-{writers_count}", call_from_thread=calls.put, on_fatal=_die)
    writers = [Writer(wal, group_id, data) for group_id in range(1, writers_count + 1)]
    for writer in writers:
        writer.create()
    begun = perf_counter()
    for writer in writers:
        writer.append()
    while perf_counter() - begun < seconds:
        calls.get()()
    for writer in writers:
        writer.stopped = True
    elapsed = perf_counter() - begun
    wal.close()
    latencies = [latency for writer in writers for latency in writer.latencies_seconds]
    stats = wal.stats
    bare_seconds = write_and_sync(directory / "bare", stats.rounds, stats.bytes // stats.rounds)
    return Figures(
        entries_per_second=len(latencies) / elapsed,
        bytes_per_second=stats.bytes / elapsed,
        entries_per_sync=stats.entries / stats.rounds,
        p50_ms=median(latencies) * 1e3,
        p99_ms=quantiles(latencies, n=100)[98] * 1e3,
        ratio=bare_seconds / elapsed,
    )


def write_and_sync(path: Path, rounds: int, length: int) -> float:
    """Write so many rounds of so many bytes, syncing each; return the seconds it took."""
    data = os.urandom(length)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    begun = perf_counter()
    for _ in range(rounds):
        os.write(descriptor, data)
        os.fdatasync(descriptor)
    elapsed = perf_counter() - begun
    os.close(descriptor)
    path.unlink()
    return elapsed


def main() -> None:
    """Measure as the arguments say and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wal_bench", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, help="where to write, default a temporary directory here")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--bytes", type=int, default=120, help="data of an entry")
    parser.add_argument("--runs", type=int, default=3, help="measurements of each kind, of which the median is shown")
    options = parser.parse_args()
    table = Table("writers", "entries/s", "MB/s", "entries/sync", "p50 ms", "p99 ms", "of bare loop", box=SIMPLE_HEAD)
    for writers_count in WRITERS:
        runs = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(dir=options.directory or Path.cwd()) as directory:
                runs.append(measure(Path(directory), writers_count, options.seconds, os.urandom(options.bytes)))
        table.add_row(
            str(writers_count),
            f"{median(run.entries_per_second for run in runs):,.0f}",
            f"{median(run.bytes_per_second for run in runs) / 1e6:.1f}",
            f"{median(run.entries_per_sync for run in runs):.1f}",
            f"{median(run.p50_ms for run in runs):.2f}",
            f"{median(run.p99_ms for run in runs):.2f}",
            f"{median(run.ratio for run in runs):.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
