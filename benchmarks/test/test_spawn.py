"""Tests of benchmarks.spawn: that only processes of our own are ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.spawn import ServerProcess
from dbnode.wire import Endpoint


class Processes(SynchronousTestCase):
    def sleeper(self) -> subprocess.Popen[bytes]:
        """Start a process that does nothing, ended with the test."""
        process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_the_very_process(self) -> None:
        """A process is recognised by pid and start time, and killed."""
        process = self.sleeper()
        server = server_process(process.pid, start_time(process.pid))
        alive = server.alive

        server.signal(signal.SIGKILL)

        self.assertTrue(alive)
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertFalse(server.alive)

    def test_another_under_the_same_pid(self) -> None:
        """A process that started at another time is a stranger: it is not signalled."""
        process = self.sleeper()
        server = server_process(process.pid, start_time(process.pid) - 1)

        server.signal(signal.SIGKILL)

        self.assertFalse(server.alive)
        self.assertIsNone(process.poll())

    def test_zombie(self) -> None:
        """A process that ended and was not waited for is not alive."""
        process = self.sleeper()
        server = server_process(process.pid, start_time(process.pid))

        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        self.assertFalse(server.alive)


def server_process(pid: int, started_at: int) -> ServerProcess:
    """Return what a server of this process would write of itself."""
    return ServerProcess("Server0", Path(), pid, started_at, Endpoint("127.0.0.1", 1))


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
