"""Executes what the README says about several balancers; slow, for it starts nine processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, ResponseNeverReceived

from benchmarks.test.test_readme import README
from lbnode.launchers.processes import running_below

_STOP = Path(__file__).parents[2] / "bin" / "stop"
_PORTS = ("5001", "5002", "5003", "5101", "5102", "5103")


class SeveralBalancers(TestCase):
    timeout = 120

    def setUp(self) -> None:
        """Take the README's commands, with ports that are free here, and start them."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.http = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)))
        section = README.read_text().split("### Several balancers")[1]
        (block,) = re.findall(r"```sh\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in _PORTS]
        self.ports = [str(one.getsockname()[1]) for one in sockets]
        # In one pass and as whole numbers: a free port may read like one of the README's, or hold one.
        free = dict(zip(_PORTS, self.ports, strict=True))
        block = re.sub(rf"\b({'|'.join(_PORTS)})\b", lambda found: free[found[0]], block)
        for one in sockets:
            one.close()
        block = block.replace(".venv/bin/twistd", f"{Path(sys.executable).parent}/twistd")
        self.balancers = subprocess.Popen(
            ["bash", "-c", f"{block}\nwait"], cwd=self.directory, start_new_session=True, env=dict(os.environ)
        )
        self.addCleanup(self.end)

    def end(self) -> None:
        """Leave nothing running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.balancers.pid, signal.SIGKILL)
        self.balancers.wait()
        for process in running_below(self.directory / "servers").values():
            process.send_signal(signal.SIGKILL)

    async def ask(self, port: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of an answer, (0, None) if there is none."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            response = await self.http.request(method, f"http://127.0.0.1:{port}{path}", data=data)
        except (ConnectError, ResponseFailed, ResponseNeverReceived):
            return 0, None
        return response.code, msgspec.json.decode(await response.content())

    async def test_three_commands(self) -> None:
        """They serve, all of them; once they are stopped bin/stop ends the servers."""
        row = {"Stud_id": 1, "Stud_name": "a", "Stud_marks": 1}
        for port in self.ports[:3]:
            while (await self.ask(port, "GET", "/readyz"))[0] != 200:
                await deferLater(self.reactor, 0.1)
        written = await self.ask(self.ports[0], "POST", "/write", {"data": [row]})
        read = await self.ask(self.ports[1], "POST", "/read", {"Stud_id": {"low": 0, "high": 10}})
        status = await self.ask(self.ports[2], "GET", "/status")

        os.killpg(self.balancers.pid, signal.SIGTERM)
        while any([(await self.ask(port, "GET", "/healthz"))[0] for port in self.ports[:3]]):
            await deferLater(self.reactor, 0.1)
        left = running_below(self.directory / "servers")
        stopped = stop(self.directory / "servers")

        self.assertEqual((written[0], read[1]["data"]), (200, [row]))
        self.assertEqual([one["state"] for one in status[1]["balancers"]].count("controller"), 1)
        self.assertEqual(len(left), 6)
        self.assertEqual((stopped.returncode, stopped.stderr), (0, ""))
        self.assertFalse(any(process.is_alive() for process in left.values()))


def stop(servers: Path) -> subprocess.CompletedProcess[str]:
    """Run bin/stop as a user does, which may block this process: nobody needs it meanwhile."""
    return subprocess.run([_STOP, servers], capture_output=True, text=True, check=False)
