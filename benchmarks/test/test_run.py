"""Tests of benchmarks.run and benchmarks.session against a fake balancer on a real port."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred

from benchmarks.client import Clocks, Watch
from benchmarks.report import good, to_json
from benchmarks.run import Options, Outcome, Run, Sender
from benchmarks.session import hold_session
from benchmarks.test.serving import ServedCase
from benchmarks.workloads import A_1, A_2, LayoutError, Record, TableFullError, draw_records

CLOCKS = Clocks(wall=time.perf_counter, cpu=time.process_time)
OPTIONS = Options(
    workload="A-1",
    rows=60,
    width=8,
    concurrency=4,
    deadline_seconds=20.0,
    seed=1,
    runs=1,
    ceiling=False,
    url="",
    kill=None,
    keep=False,
    directory=None,
    agree_seconds=0.0,
)


def no_display(title: str, total: int) -> Watch:
    """Show nothing."""
    return lambda over: None


class RunCase(ServedCase):
    def run_with(self, options: Options = OPTIONS) -> Deferred[Outcome]:
        """Do one run with seed 1 at the fake balancer."""
        sender = Sender(self.reactor, CLOCKS, options, no_display)
        run = Run(self.reactor, sender, options, A_1, Random(1), self.door, None)
        return ensureDeferred(run.outcome("run"))

    def records(self) -> list[Record]:
        """Return what a run with seed 1 writes."""
        return draw_records(A_1, OPTIONS.rows, OPTIONS.width, Random(1))


class Runs(RunCase):
    async def test_figures(self) -> None:
        """A run writes and reads every row, finds all replicas right, and leaves the table as it was."""
        self.balancer.rows[5] = {"Stud_id": 5, "Stud_name": "Ada", "Stud_marks": 1}

        outcome = await self.run_with()

        self.assertEqual((outcome.figures.writes.succeeded, outcome.figures.reads.succeeded), (60, 60))
        self.assertEqual((outcome.verdict.problems, outcome.verdict.replicas), ([], 12))
        self.assertEqual(list(self.balancer.rows), [5])

    async def test_keep(self) -> None:
        """Rows are left if that is asked for, and a second run takes other ids."""
        _ = await self.run_with(replace(OPTIONS, keep=True))

        second = await self.run_with(replace(OPTIONS, keep=True))

        self.assertEqual(second.figures.writes.errors, {})
        self.assertEqual(len(self.balancer.rows), 120)

    async def test_refused_write(self) -> None:
        """A refused row counts as failed; being absent afterwards is right."""
        self.balancer.refused.add(self.records()[3].Stud_id)

        outcome = await self.run_with()

        self.assertEqual(outcome.figures.writes.errors, {"409 duplicate": 1})
        self.assertEqual(outcome.figures.reads.errors, {})
        self.assertTrue(outcome.verdict.good)

    async def test_full_table(self) -> None:
        """Without enough free ids nothing is written."""
        self.balancer.rows = {row_id: {"Stud_id": row_id} for row_id in range(16384 - 59)}

        with self.assertRaises(TableFullError):
            await self.run_with()

        self.assertEqual(len(self.balancer.rows), 16384 - 59)

    async def test_other_layout(self) -> None:
        """A cluster laid out otherwise is refused."""
        self.balancer.layout = A_2

        with self.assertRaises(LayoutError):
            await self.run_with()


class BadClusters(RunCase):
    async def test_lost_write(self) -> None:
        """A row that was acknowledged and is gone is found by its read and by verification."""
        lost = self.records()[0].Stud_id
        self.balancer.lost.add(lost)

        outcome = await self.run_with()

        self.assertEqual(outcome.figures.reads.errors, {"wrong answer": 1})
        self.assertEqual(outcome.verdict.problems, [f"acknowledged but missing: 1 rows, ids {lost}"])

    async def test_stray_replica(self) -> None:
        """A replica that differs is found."""
        self.balancer.stray["Server3"] = {"sh1": [], "sh3": []}

        outcome = await self.run_with()

        self.assertEqual(
            [problem.partition(":")[0] for problem in outcome.verdict.problems],
            ["sh1 differs between Server0 and Server3", "sh3 differs between Server1 and Server3"],
        )


class Sessions(ServedCase):
    async def test_session(self) -> None:
        """A session measures client, ceiling and runs, and its JSON holds medians and ratios."""
        options = replace(OPTIONS, url=f"http://127.0.0.1:{self.port_number}", runs=2, ceiling=True)

        session = await hold_session(self.reactor, CLOCKS, options, no_display)

        document = msgspec.json.decode(to_json(session, "bin/bench A-1"))
        self.assertTrue(good(session))
        self.assertEqual(len(session.runs), 2)
        self.assertEqual(session.client.writes.succeeded, 60)
        self.assertEqual(document["medians"]["writes"]["succeeded"], 120)
        self.assertGreater(document["ratios"]["reads"], 0)
        self.assertEqual(self.balancer.rows, {})
