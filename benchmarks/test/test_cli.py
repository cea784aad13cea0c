"""Tests of benchmarks.cli and of bin/bench."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cli import parse
from benchmarks.command import command_of
from benchmarks.process import Child
from benchmarks.test.command_lines import check_refusals
from benchmarks.test.serving import ServedCase

ROOT = Path(__file__).parents[2]


class CommandLines(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A workload alone is 10,000 rows over 100 connections on a cluster of its own."""
        options, json = parse(["A-1"])

        self.assertEqual((options.workload, options.rows, options.concurrency), ("A-1", 10_000, 100))
        self.assertEqual((options.url, options.kill, json), (None, None, None))

    def test_all_that_can_be_said(self) -> None:
        """What is given on the command line arrives in the options."""
        line = (
            "A-2 --spawn --rows 50 --concurrency 3 --width 10000 --seed 9 --runs 5 --ceiling --kill leader "
            "--deadline 2.5 --agree 3 --json out.json --directory /var/tmp --keep"
        )

        options, json = parse([*line.split(), "--balancer=--workers 2"])

        self.assertEqual((options.rows, options.concurrency, options.width, options.seed), (50, 3, 10_000, 9))
        self.assertEqual((options.runs, options.ceiling, options.kill), (5, True, "leader"))
        self.assertEqual((options.deadline_seconds, options.agree_seconds, options.keep), (2.5, 3.0, True))
        self.assertEqual(options.balancer, ["--workers", "2"])
        self.assertEqual((options.directory, json), ("/var/tmp", Path("out.json")))

    def test_refusals(self) -> None:
        """What makes no sense is refused before anything is started, and the message says what."""
        cases = {
            "A-9": "A-9",
            "A-1 --rows 0": "less than 1",
            "A-1 --rows 16385": "only 16384 ids",
            "A-1 --url localhost:5000": "http://host:port",
            "A-1 --url http://h:1 --spawn": "not allowed with",
            "A-1 --url http://h:1 --kill leader": "--kill needs",
            "A-1 --url http://h:1 --balancer=--workers=2": "--balancer needs",
            "A-1 --json no/such/directory/out.json": "no directory",
        }

        check_refusals(self, parse, cases)


class Quoting(SynchronousTestCase):
    def test_places(self) -> None:
        """A command line is quoted without the places that its output went to."""
        line = "A-1 --json /somewhere/out.json --runs 5 --directory=/elsewhere --kill leader"

        self.assertEqual(command_of(line.split()), "bin/bench A-1 --runs 5 --kill leader")


class Door(SynchronousTestCase):
    def start(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command without the environment of the tests."""
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.defpath})

    def test_help(self) -> None:
        """The script shows its help with this interpreter."""
        done = self.start(sys.executable, str(ROOT / "bin" / "bench"), "--help")

        self.assertEqual(done.returncode, 0)
        self.assertIn("A-1: 6 servers", done.stdout)

    def test_without_environment(self) -> None:
        """Outside a checkout with its environment, an interpreter that lacks the packages is told to run make."""
        elsewhere = Path(self.mktemp())
        for name in ("bin/bench", "benchmarks/__init__.py", "benchmarks/environment.py", "benchmarks/cli.py"):
            (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, elsewhere / name)
        script = elsewhere / "bin" / "bench"

        done = self.start(sys.executable, "-I", "-S", str(script), "A-1")

        self.assertEqual(done.returncode, 1)
        self.assertIn("run `make bench`", done.stderr)

    def test_nobody_serves(self) -> None:
        """A session that cannot be held ends with status 2 and a reason, without a traceback."""
        done = self.start(
            sys.executable,
            str(ROOT / "bin" / "bench"),
            "A-1",
            "--rows=5",
            "--concurrency=1",
            "--url=http://127.0.0.1:1",
        )

        self.assertEqual(done.returncode, 2)
        self.assertIn("no answer to GET /status", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class Interruptions(ServedCase):
    async def test_signal(self) -> None:
        """A session that is told to stop takes its processes and files with it."""
        directory = directory_at(self.mktemp())
        bench = [sys.executable, str(ROOT / "bin" / "bench"), "A-1", "--rows=50", "--runs=1000", "--ceiling"]
        where = [f"--url=http://127.0.0.1:{self.port_number}", f"--directory={directory}"]
        child = Child(self.reactor, [*bench, *where], directory.with_suffix(".log"))

        child.start()
        await child.until(lambda: succeed(bool(content(directory))), 30)
        await child.stop()

        self.assertEqual(content(directory), [])


def directory_at(path: str) -> Path:
    """Make a directory."""
    directory = Path(path).absolute()
    directory.mkdir()
    return directory


def content(directory: Path) -> list[Path]:
    """Return what is in a directory."""
    return list(directory.iterdir())
