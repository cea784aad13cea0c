"""Tests of benchmarks.spawn: that only processes of our own are ever signalled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.spawn import ServerProcess, servers_below
from dbnode.wire import Endpoint, ServerFile


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


class Homes(SynchronousTestCase):
    def setUp(self) -> None:
        """Let two servers have written what they are."""
        self.directory = Path(self.mktemp())
        self.homes = [self.home("Server0"), self.home("Server1")]

    def home(self, place: str) -> Path:
        """Make a data directory of a server that is called like its place."""
        home = self.directory / "data" / "servers" / place
        home.mkdir(parents=True)
        described = ServerFile(home.name, "", "", 1, 0, Endpoint("127.0.0.1", 1), None)
        (home / "endpoints.json").write_bytes(msgspec.json.encode(described))
        return home

    def test_all_of_them(self) -> None:
        """Servers are found in order of their homes."""
        self.assertEqual([server.data_dir for server in servers_below(self.directory)], self.homes)

    def test_what_a_home_holds(self) -> None:
        """Nothing in a home is looked at, since directories come and go there."""
        _ = self.home("Server0/postgres/Inner")

        self.assertEqual([server.name for server in servers_below(self.directory)], ["Server0", "Server1"])

    def test_removed_in_the_meantime(self) -> None:
        """A home that is removed while we look is none."""
        found = servers_below(self.directory)
        first = next(found)
        shutil.rmtree(self.homes[1])

        self.assertEqual([first.data_dir, *found], self.homes[:1])


def server_process(pid: int, started_at: int) -> ServerProcess:
    """Return what a server of this process would write of itself."""
    return ServerProcess("Server0", Path(), pid, started_at, Endpoint("127.0.0.1", 1))


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
