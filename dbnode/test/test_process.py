"""A real `twistd -n dbnode`: started, written to, killed without mercy, started again on its directory alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dbnode.postgres.orphans import processes_in
from dbnode.test.postgres_rig import need_postgres

SCHEMA = {"columns": ["Stud_id", "Stud_name", "Stud_marks"], "dtypes": ["Number", "String", "String"]}
#: How long a process may take to start or to end; it takes about a second.
PATIENCE_SECONDS = 30.0


class Process:
    """A server process on a data directory; `arguments` are further options."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.output = directory.with_name(directory.name + ".log")
        command = [
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "--nodaemon",
            "--pidfile=",
            "dbnode",
            "--data-dir",
            str(directory),
            *arguments,
        ]
        environment = {name: value for name, value in os.environ.items() if name not in ("PORT", "PYTHONWARNINGS")}
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def wait_until_it_serves(self) -> None:
        """Return once endpoints.json is this process's own and it answers."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output.read_text()
            if self.endpoints().get("pid") == self.process.pid:
                return
            self.pause()
        raise AssertionError(self.output.read_text())

    def endpoints(self) -> dict[str, Any]:
        """Return what endpoints.json says, nothing if it is not there."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "endpoints.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request; return status and JSON."""
        http = self.endpoints()["http"]
        request = urllib.request.Request(
            f"http://{http['host']}:{http['port']}{path}", json.dumps(body).encode(), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())

    def end(self, how: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_SECONDS)

    @staticmethod
    def pause() -> None:
        """Wait a little."""
        time.sleep(0.02)  # noqa: TID251 - a process of its own does not share our reactor


class ProcessTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Choose a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.processes: list[Process] = []
        self.addCleanup(self.kill_all)

    def kill_all(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            if process.process.poll() is None:
                process.end(signal.SIGKILL)

    def start(self, *arguments: str) -> Process:
        """Start a server and wait until it serves."""
        process = Process(self.directory, *arguments)
        self.processes.append(process)
        process.wait_until_it_serves()
        return process

    def test_everything_acknowledged_survives_a_kill(self) -> None:
        """After kill -9 the data directory is enough to have the same server at the same port with all its rows."""
        self.survive_a_kill()

    def test_so_it_does_over_postgres(self) -> None:
        """The same goes for a server with a PostgreSQL of its own, of which nothing is left running in the end."""
        need_postgres()

        last = self.survive_a_kill("--storage", "postgres")
        running = processes_in(self.directory / "postgres")
        self.assertEqual(last.end(signal.SIGTERM), -signal.SIGTERM, last.output.read_text())

        self.assertGreater(len(running), 2)
        self.assertEqual(processes_in(self.directory / "postgres"), [])

    def survive_a_kill(self, *options: str) -> Process:
        """Kill a server that has some rows, start it again without a word, and look for them; return it."""
        first = self.start("--name", "Server0", *options)
        told = {"schema": SCHEMA, "shards": ["sh1"]}
        self.assertEqual(first.ask("POST", "/config", told)[0], 200)
        rows = [{"Stud_id": id_, "Stud_name": f"\U0001f600{id_}", "Stud_marks": id_ / 2} for id_ in range(50)]
        for row in rows:
            self.assertEqual(first.ask("POST", "/write", {"shard": "sh1", "data": [row]})[0], 200)
        before = first.endpoints()
        self.assertEqual(first.end(signal.SIGKILL), -signal.SIGKILL)

        second = self.start()
        read = second.ask("POST", "/read", {"shard": "sh1", "Stud_id": {"low": 0, "high": 99}})

        self.assertEqual(read, (200, {"data": rows, "status": "success"}))
        after = second.endpoints()
        self.assertEqual((after["http"], after["incarnation"]), (before["http"], before["incarnation"]))
        self.assertNotEqual(after["pid"], before["pid"])
        return second

    def test_term_stops_it_in_order(self) -> None:
        """SIGTERM ends the process with everything on disk, and the next one may follow at once."""
        process = self.start("--name", "Server0")
        self.assertEqual(process.ask("POST", "/config", {"schema": SCHEMA, "shards": ["sh1"]})[0], 200)

        self.assertEqual(process.end(signal.SIGTERM), -signal.SIGTERM, process.output.read_text())

        self.assertIn("stopped", process.output.read_text())
        self.assertEqual(self.start().ask("GET", "/copy", {"shards": ["sh1"]}), (200, {"sh1": [], "status": "success"}))

    def test_directory_in_use_is_refused_with_a_word(self) -> None:
        """A second process on the same directory says why it does not start, and ends."""
        self.start("--name", "Server0")

        second = Process(self.directory)
        self.processes.append(second)

        self.assertEqual(second.process.wait(PATIENCE_SECONDS), 1)
        self.assertIn("dbnode: cannot start:", second.output.read_text())
        self.assertIn("in use by another process", second.output.read_text())
