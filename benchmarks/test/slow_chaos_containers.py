"""A short chaos at a cluster whose servers are containers: `make test-slow`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.test.test_chaos_cli import CHAOS
from lbnode.test.containers import SERVER_IMAGE, built_images


class ChaosInContainers(SynchronousTestCase):
    def setUp(self) -> None:
        """Have the images."""
        built_images()

    def test_half_a_minute(self) -> None:
        """Nothing is lost, and nobody sees an error without a cause; nothing of the cluster stays in the engine."""
        found = Path(self.mktemp()).absolute()
        chaos = [*CHAOS, "--containers", SERVER_IMAGE, "--minutes=0.5", "--seed=5", f"--json={found}"]

        with subprocess.Popen(chaos, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
            said, _ = running.communicate()

        self.assertEqual(running.returncode, 0, said)
        report = msgspec.json.decode(found.read_bytes())
        self.assertGreater(sum(report["faults"].values()), 0)
        self.assertEqual((report["lost"], report["linearizability"]["violated"]), ([], []))
        left = ["docker", "ps", "--all", "--quiet", "--filter", f"label=shardlb.project=bench-{running.pid}"]
        self.assertEqual(subprocess.run(left, capture_output=True, check=True).stdout, b"")
