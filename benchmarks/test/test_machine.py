"""Tests of benchmarks.machine."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.machine import describe_machine


class Facts(SynchronousTestCase):
    def test_this_machine(self) -> None:
        """Every fact is found, and measuring the disk leaves nothing behind."""
        directory = Path(self.mktemp())
        directory.mkdir()

        machine = describe_machine(directory, time.perf_counter)

        for fact in (machine.cpu, machine.kernel, machine.python, machine.filesystem, machine.revision):
            self.assertTrue(fact)
        self.assertGreater(machine.cores, 0)
        self.assertGreater(machine.memory_mb, 0)
        self.assertGreater(machine.sync_ms, 0)
        self.assertEqual(list(directory.iterdir()), [])
