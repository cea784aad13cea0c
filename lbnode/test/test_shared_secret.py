"""The secret that several balancers share."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from lbnode.shared_secret import make_secret


class SharedSecretTests(SynchronousTestCase):
    def test_made_once(self) -> None:
        """It is long, private, and the same at every later start."""
        path = Path(self.mktemp()).absolute()

        make_secret(path, os.getuid())
        first = path.read_bytes()
        make_secret(path, os.getuid())

        self.assertEqual(path.read_bytes(), first)
        self.assertGreaterEqual(len(first.strip()), 64)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
