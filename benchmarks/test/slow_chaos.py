"""A short chaos at a real cluster: `make test-slow`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.test.test_chaos_cli import CHAOS


class Chaos(SynchronousTestCase):
    def test_half_a_minute(self) -> None:
        """Nothing is lost, and nobody sees an error without a cause, while servers and balancer die."""
        found = Path(self.mktemp()).absolute()

        done = subprocess.run(
            [*CHAOS, "--minutes=0.5", "--seed=3", f"--json={found}"], capture_output=True, text=True, check=False
        )

        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = msgspec.json.decode(found.read_bytes())
        self.assertGreater(sum(report["faults"].values()), 0)
        self.assertGreater(report["acknowledged"], 100)
        self.assertEqual((report["lost"], report["linearizability"]["violated"]), ([], []))
