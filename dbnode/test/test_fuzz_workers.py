"""Processes that run seeds end when they are told to, wherever they were begun."""

from __future__ import annotations

import signal

from twisted.trial.unittest import SynchronousTestCase

from dbnode.testing import fuzz
from dbnode.testing.workers import new_pool


class Workers(SynchronousTestCase):
    def test_end_at_sigterm(self) -> None:
        """They don't inherit a handler of SIGTERM, such as the one that trial's reactor leaves behind."""
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        with new_pool(1) as pool:
            self.assertEqual(pool.apply(signal.getsignal, (signal.SIGTERM,)), signal.SIG_DFL)

    def test_run_seeds(self) -> None:
        """Seeds that are run by several processes come to the same as in one."""
        ours = [fuzz.run(seed) for seed in range(300, 304)]
        theirs = sorted(fuzz.run_all(range(300, 304), 2), key=lambda result: result.seed)
        self.assertEqual(theirs, ours)
