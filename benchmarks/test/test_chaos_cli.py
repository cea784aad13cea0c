"""Tests of benchmarks.chaos.cli, of bin/chaos, and of a whole chaos at a fake balancer."""

from __future__ import annotations

import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.cli import parse
from benchmarks.chaos.report import Options
from benchmarks.chaos.session import hold_chaos
from benchmarks.chaos.view import View
from benchmarks.test.command_lines import check_refusals
from benchmarks.test.serving import ServedCase

CHAOS = [sys.executable, str(Path(__file__).parents[2] / "bin" / "chaos")]


class CommandLines(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Nothing said is a minute with eight clients at a cluster of its own."""
        self.assertEqual(parse([]), (Options(1, 1.0, 8, None, None, None, False), None))

    def test_all_that_can_be_said(self) -> None:
        """What is given on the command line arrives in the options."""
        line = "--url http://h:1 --data-dir . --minutes 0.5 --seed 7 --clients 3 --json o.json --directory /tmp --keep"

        self.assertEqual(parse(line.split()), (Options(7, 0.5, 3, "http://h:1", ".", "/tmp", True), Path("o.json")))

    def test_refusals(self) -> None:
        """What makes no sense is refused before anything is started, and the message says what."""
        cases = {
            "--minutes 0": "not above 0",
            "--clients 0": "less than 1",
            "--url http://h:1": "go together",
            "--data-dir .": "go together",
            "--url h:1 --data-dir .": "http://host:port",
            "--url http://h:1 --data-dir no/such": "no directory",
            "--balancers 2": "invalid choice",
            "--balancers 3 --containers image": "only started with servers that are processes",
            "--spawn --url http://h:1 --data-dir .": "not allowed with",
            "--json no/such/o.json": "no directory",
        }

        check_refusals(self, parse, cases)


class Scripts(SynchronousTestCase):
    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run bin/chaos."""
        return subprocess.run([*CHAOS, *arguments], capture_output=True, text=True, check=False)

    def test_help(self) -> None:
        """The script shows its help."""
        self.assertIn("--minutes", self.start("--help").stdout)

    def test_nobody_serves(self) -> None:
        """A chaos that cannot be held ends with status 2 and a reason, without a traceback."""
        done = self.start("--url=http://127.0.0.1:1", "--data-dir=.")

        self.assertEqual(done.returncode, 2)
        self.assertIn("no answer to GET /status", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class Whole(ServedCase):
    async def test_rows_that_were_there(self) -> None:
        """A running cluster's own rows stay as they are, and what clients did is judged; so short, no fault fits."""
        self.balancer.rows[5] = {"Stud_id": 5, "Stud_name": "Ada", "Stud_marks": 1}
        options = Options(1, 0.01, 2, f"http://127.0.0.1:{self.port_number}", self.mktemp(), None, False)

        with View(Console(file=StringIO())) as view:
            report, kept = await ensureDeferred(hold_chaos(self.reactor, time.perf_counter, options, view))

        self.assertTrue(report.good)
        self.assertEqual((report.faults, kept), ({}, None))
        self.assertGreater(report.acknowledged, 0)
        self.assertEqual(self.balancer.rows[5]["Stud_name"], "Ada")
        self.assertEqual(report.replicas.replicas, 12)
