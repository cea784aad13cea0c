"""Tests of benchmarks.suite.plan and of what contexts show."""

from __future__ import annotations

import subprocess
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from random import Random
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import cli
from benchmarks.client import Clocks, Watch
from benchmarks.suite import cli as suite
from benchmarks.suite.catalog import EXPERIMENTS
from benchmarks.suite.context import Common, Context
from benchmarks.suite.plan import PLAN, main_all
from benchmarks.suite.subjects import Stage
from benchmarks.test.command_lines import check_refusals


class Plans(SynchronousTestCase):
    def test_lines(self) -> None:
        """Every planned command line is one that bin/bench takes, and all experiments are planned."""
        for planned in PLAN:
            words = planned.line.split()
            if planned.name in EXPERIMENTS:
                suite.parse(words)
            else:
                cli.parse(words)

        self.assertEqual({planned.name for planned in PLAN} - {"A-1", "A-2", "A-3"}, set(EXPERIMENTS))

    def test_what_is_run(self) -> None:
        """Each experiment is a process of its own; one that fails does not keep the next from running."""
        directory = Path(self.mktemp())
        ran: list[list[str]] = []

        def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
            ran.append(command[2:])
            return subprocess.CompletedProcess(command, 1 if "single" in command else 0)

        with patch("benchmarks.suite.plan.subprocess.run", run), redirect_stderr(StringIO()) as said:
            failed = self.assertRaises(SystemExit, main_all, [str(directory), "--only", "single,shards"])

        self.assertEqual(failed.code, 1)
        self.assertIn("failed: single", said.getvalue())
        self.assertEqual([command[0] for command in ran], ["single", "shards"])
        self.assertEqual(ran[1][-2:], ["--json", str(directory / "shards.json")])

    def test_refusals(self) -> None:
        """A name that is not in the plan is refused."""
        check_refusals(self, main_all, {"somewhere --only A-9": "no A-9"})


class Contexts(SynchronousTestCase):
    def context(self) -> Context:
        """Return a context with two runs whose display is kept in `shown`."""
        self.clock = Clock()
        self.shown: list[tuple[str, int]] = []
        clocks = Clocks(wall=self.clock.seconds, cpu=self.clock.seconds)
        common = Common(runs=2, rows=1, seconds=1.0, width=1, seed=7, peers=(), deadline_seconds=1.0)
        return Context(self.clock, clocks, Stage(self.clock, Path()), Path(), common, self.display)

    def display(self, title: str, total: int) -> Watch:
        """Keep what is shown."""
        return lambda over: self.shown.append((title, over))

    def test_turns(self) -> None:
        """The order of subjects is reversed in every other run."""
        found = list(self.context().turns(["etcd"]))

        self.assertEqual(found, [(1, "shardlb"), (1, "etcd"), (2, "etcd"), (2, "shardlb")])

    def test_randomness(self) -> None:
        """Every run has its own, the same for all subjects of it."""
        context = self.context()

        self.assertEqual(context.rng(1).random(), Random(8).random())
        self.assertNotEqual(context.rng(1).random(), context.rng(2).random())

    def test_ticking(self) -> None:
        """While somebody else works the seconds pass, and never more of them than there are."""
        with self.context().ticking("wrk", 3.0):
            self.clock.pump([1.0] * 5)

        self.assertEqual(self.shown, [("wrk", over) for over in (1, 2, 2, 2, 2, 3)])
        self.assertEqual(self.clock.getDelayedCalls(), [])
