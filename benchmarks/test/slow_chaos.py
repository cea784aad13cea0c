"""A short chaos at a real cluster: `make test-slow`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.test.test_chaos_cli import CHAOS
from dbnode.test.postgres_rig import need_postgres


class Chaos(SynchronousTestCase):
    def test_half_a_minute(self) -> None:
        """Nothing is lost, and nobody sees an error without a cause, while servers and balancer die."""
        self.hold()

    def test_over_postgres(self) -> None:
        """So it is where servers have a PostgreSQL each, which dies with them and goes with their data."""
        need_postgres()
        self.hold(SHARDLB_STORAGE="postgres")

    def test_three_balancers(self) -> None:
        """So it is with clients of three balancers of which one dies."""
        self.hold("--balancers=3")

    def hold(self, *arguments: str, **environment: str) -> None:
        """Run a chaos, and check its report."""
        found = Path(self.mktemp()).absolute()

        done = subprocess.run(
            [*CHAOS, "--minutes=0.5", "--seed=3", f"--json={found}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )

        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = msgspec.json.decode(found.read_bytes())
        self.assertGreater(sum(report["faults"].values()), 0)
        self.assertGreater(report["acknowledged"], 100)
        self.assertEqual((report["lost"], report["linearizability"]["violated"]), ([], []))
