"""`bin/bench ycsb`: the core workloads A to F of the Yahoo! Cloud Serving Benchmark, as its workload files define them.

A record is a row of ten strings of 100 bytes each under an integer key. Every workload starts with a fresh cluster
and a table that was loaded first, so that none depends on what an earlier one inserted.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.suite.context import Context
from benchmarks.suite.document import OURSELVES, Point, Points
from benchmarks.suite.keys import Latest, ScrambledZipfian
from benchmarks.suite.layouts import large_a_1
from benchmarks.suite.stream import Mix
from benchmarks.suite.streaming import Loaded, by_kind, open_loaded
from benchmarks.suite.table import usertable

_ALL = (
    Mix("A", "update heavy", {"read": 0.5, "update": 0.5}, ScrambledZipfian),
    Mix("B", "read mostly", {"read": 0.95, "update": 0.05}, ScrambledZipfian),
    Mix("C", "read only", {"read": 1.0}, ScrambledZipfian),
    Mix("D", "read latest", {"read": 0.95, "insert": 0.05}, Latest),
    Mix("E", "short ranges", {"scan": 0.95, "insert": 0.05}, ScrambledZipfian),
    Mix("F", "read-modify-write", {"read": 0.5, "read-modify-write": 0.5}, ScrambledZipfian),
)
WORKLOADS = {mix.name: mix for mix in _ALL}


async def ycsb(context: Context, letters: Sequence[str], records: int, connections: int) -> list[Point]:
    """Return points of every workload: all its operations, and each kind."""
    points = Points()
    table = usertable(large_a_1().capacity())
    for run in range(1, context.common.runs + 1):
        for letter in letters:
            async with open_loaded(context, table) as subject:
                loaded = Loaded(context, subject, table, records, run)
                await loaded.fill()
                stream = loaded.stream(WORKLOADS[letter], context.common.rows)
                measured, usage = await loaded.closed(stream, f"workload {letter}", connections)
                problems = await loaded.problems(stream)
                for phase, sample in by_kind(stream, measured, usage):
                    sample.problems.extend(problems if phase == "all" else ())
                    points.add(OURSELVES, phase, letter, sample)
    return points.all()
