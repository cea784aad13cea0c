"""Tests of benchmarks.suite.cli and catalog."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.suite.cli import parse
from benchmarks.suite.missing import MissingProgramError
from benchmarks.suite.subjects import check_present
from benchmarks.suite.wrk import Wrk
from benchmarks.test.command_lines import check_refusals


class CommandLines(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Every experiment has defaults of its own beside the common ones."""
        experiment, given = parse(["versus-etcd"])

        self.assertEqual((experiment.name, given.runs, given.connections), ("versus-etcd", 5, (32, 128)))
        self.assertEqual((given.peers, given.json, given.balancer), ([], None, []))

    def test_all_that_can_be_said(self) -> None:
        """What is given arrives."""
        line = "concurrency --connections 1,7 --runs 3 --rows 50 --seconds 1.5 --width 9 --seed 4 --deadline 2 "
        line += "--peer etcd --peer klein --json out.json --directory /var/tmp --keep"

        _, given = parse([*line.split(), "--balancer=--slots 64 --rows-max 5"])

        self.assertEqual((given.connections, given.runs, given.rows, given.seconds), ((1, 7), 3, 50, 1.5))
        self.assertEqual((given.width, given.seed, given.deadline_seconds), (9, 4, 2.0))
        self.assertEqual((given.peers, given.json, given.keep), (["etcd", "klein"], Path("out.json"), True))
        self.assertEqual(given.balancer, ["--slots", "64", "--rows-max", "5"])

    def test_refusals(self) -> None:
        """What makes no sense is refused before anything is started, and the message says what."""
        cases = {
            "concurrency --connections 1,0": "--connections",
            "concurrency --peer mysql": "mysql",
            "versus-etcd --peer klein": "--peer",
            "batch --runs 0": "less than 1",
            "batch --json no/such/out.json": "no directory",
        }

        check_refusals(self, parse, cases)


class Missing(SynchronousTestCase):
    def test_programs(self) -> None:
        """Where a peer's program is not installed the message says which package has it."""
        with patch.dict("os.environ", {"PATH": ""}), patch("benchmarks.suite.postgres._DEBIAN", Path("nowhere")):
            etcd = self.assertRaises(MissingProgramError, check_present, ["etcd"])
            postgres = self.assertRaises(MissingProgramError, check_present, ["postgres"])
            wrk = self.assertRaises(MissingProgramError, Wrk, None, Path())
            check_present(["klein", "web", "constant"])

        self.assertEqual(str(etcd), "etcd is not here; on Debian: apt-get install etcd-server")
        self.assertIn("apt-get install postgresql", str(postgres))
        self.assertIn("apt-get install wrk", str(wrk))
