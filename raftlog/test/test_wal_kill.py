"""A real process on a real disk, killed with SIGKILL while it writes, again and again on the same directory."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from raftlog.test.wal_child import KEEP
from raftlog.test.wal_fixture import entries
from raftlog.wal import WalError
from raftlog.wal.directory import OsDirectory
from raftlog.wal.inspect import inspect
from raftlog.wal.recovery import recover

KILLS = 3


class KillTests(SynchronousTestCase):
    def test_kill(self) -> None:
        """Whenever the process is killed, every entry that it acknowledged is there, as it was."""
        rng = random.Random(1)
        directory = Path(self.mktemp())
        acknowledged = 0
        for _ in range(KILLS):
            before = acknowledged

            acknowledged = self.write_and_kill(directory, rng.randrange(50, 400))

            self.assertGreater(acknowledged, before)
            self.check(directory, acknowledged)

    def write_and_kill(self, directory: Path, acknowledgements: int) -> int:
        """Let a process write until it has acknowledged so many submits, and return the last index that it named."""
        command = [sys.executable, "-m", "raftlog.test.wal_child", str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            heard = child.stdout.read(8 * acknowledgements)
            child.kill()
            heard += child.stdout.read()
            self.assertEqual(child.stderr.read(), b"")
        return int.from_bytes(heard[-8:], "big")

    def check(self, directory: Path, acknowledged: int) -> None:
        """Check what the log holds without opening it."""
        try:
            recovered = recover(OsDirectory(directory, read_only=True))
        except WalError as error:
            self.fail(f"{error}")
        for record in recovered.tail:
            recovered.images.apply(record, recovered.segments[-1])
        group = recovered.images.groups[1]
        self.assertGreaterEqual(group.last_index, acknowledged)
        self.assertLessEqual(group.snapshot.index, acknowledged - KEEP + 10)
        for entry in group.entries:
            self.assertEqual((entry,), entries(entry.index, 1, size=entry.index % 300))
        self.assertTrue(inspect(OsDirectory(directory, read_only=True)).whole)
