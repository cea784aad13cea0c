"""The launcher of servers in this process."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from lbnode.launchers import LaunchFailed
from lbnode.launchers.memory import MemoryLauncher
from lbnode.test.launcher_contract import SPEC, LauncherContract


class MemoryLauncherTests(LauncherContract, TestCase):
    def setUp(self) -> None:
        """Make a launcher."""
        self.failures: list[Failure] = []
        self.clock = Clock()
        self.launcher: MemoryLauncher = MemoryLauncher(self.clock, random.Random(1), self.failures.append)

    async def turn(self) -> None:
        """See LauncherContract.turn."""
        self.clock.advance(0)

    async def test_a_killed_server_leaves_its_home(self) -> None:
        """Kill -9 ends the server and keeps its data."""
        first = await self.launcher.start(SPEC)

        self.launcher.kill("Server0")

        self.assertIsNone(await self.launcher.look("Server0"))
        self.assertEqual((await self.launcher.start(SPEC)).incarnation, first.incarnation)

    async def test_a_refused_server_does_not_start(self) -> None:
        """A test can have a start fail."""
        self.launcher.refused.add("Server0")

        with self.assertRaises(LaunchFailed):
            await self.launcher.start(SPEC)
