"""Three balancers as processes, with real servers: killed under writes, wiped and taken back; slow."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, ResponseNeverReceived

from dbnode.wire import ServerFile
from lbnode.concurrent import in_background
from lbnode.launchers.processes import Process
from lbnode.test.test_tap import Running

_TWISTD = "from twisted.scripts.twistd import run; run()"
NAMES = ("lb1", "lb2", "lb3")
#: What a balancer that dies does to its clients.
_CUT_OFF = (ConnectError, ResponseFailed, ResponseNeverReceived)


class Company:
    """Three balancers with one directory of servers below `directory`; nothing is left running after `end`."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self.reactor = reactor
        self.directory = directory
        directory.mkdir()
        (directory / "secret").write_text(secrets.token_hex(16))
        (directory / "secret").chmod(0o600)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * len(NAMES))]
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        self.ports = dict(zip(NAMES, ports, strict=False))
        self.peers = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(NAMES, ports[3:], strict=True))
        self.http = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)))
        self.running: dict[str, tuple[Running, IProcessTransport]] = {}

    def start(self, name: str, *arguments: str) -> Running:
        """Start a balancer."""
        running = Running()
        command = [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "shardlb", "--name", name]
        command += ["--peers", self.peers, "--secret-file", "secret", "--servers-dir", "servers", "--data-dir", name]
        command += ["--port", str(self.ports[name]), *arguments]
        transport = self.reactor.spawnProcess(
            running, sys.executable, command, env=dict(os.environ), path=str(self.directory)
        )
        self.running[name] = (running, transport)
        return running

    def signal(self, name: str, number: signal.Signals) -> Deferred[None]:
        """Signal a balancer; fires when it has ended."""
        running, transport = self.running.pop(name)
        transport.signalProcess(number.name[3:])
        return running.ended

    def servers(self) -> dict[str, Process]:
        """Return the processes of the servers that there are or were."""
        paths = sorted(self.directory.glob("servers/*/endpoints.json"))
        files = [msgspec.json.decode(path.read_bytes(), type=ServerFile) for path in paths]
        return {file.name: Process(file.pid, file.started_at) for file in files}

    async def ask(self, name: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of a balancer's answer."""
        url = f"http://127.0.0.1:{self.ports[name]}{path}"
        response = await self.http.request(method, url, data=None if body is None else msgspec.json.encode(body))
        return response.code, msgspec.json.decode(await response.content())

    async def until(self, name: str, path: str, wanted: Any) -> Any:
        """Wait until a balancer's answer is as `wanted(status, body)` says, and return its body."""
        while True:
            try:
                status, body = await self.ask(name, "GET", path)
            except _CUT_OFF:
                status, body = 0, None
            if status and wanted(status, body):
                return body
            await deferLater(self.reactor, 0.05)

    async def end(self) -> None:
        """Leave nothing running."""
        for name in list(self.running):
            running = self.running[name][0]
            if not running.ended.called:
                await self.signal(name, signal.SIGKILL)
        for process in self.servers().values():
            process.send_signal(signal.SIGKILL)


class CompanyTests(TestCase):
    """From the first start to the loss of a disk."""

    timeout = 120

    def setUp(self) -> None:
        """Make a directory and a secret."""
        from twisted.internet import reactor

        self.company = Company(reactor, Path(self.mktemp()).absolute())
        self.addCleanup(self.company.end)
        self.acknowledged: set[int] = set()
        self.writing = True

    async def write(self, name: str, first_id: int) -> None:
        """Write row after row through one balancer as long as it lives; remember what was acknowledged."""
        for number in count(first_id):
            if not self.writing:
                return
            row = {"Stud_id": number, "Stud_name": name, "Stud_marks": number}
            status, answer = await self.company.ask(name, "POST", "/write", {"data": [row]})
            self.assertEqual(status, 200, answer)
            self.acknowledged.add(number)

    async def test_through_deaths(self) -> None:
        """No acknowledged row is lost when the controller is killed; its successor cares for the servers."""
        company = self.company
        for name in NAMES:
            company.start(name, "--auto-init", "default", "--server-number", "3")
        for name in NAMES:
            await company.until(name, "/readyz", lambda status, _: status == 200)
        controller = (await company.ask("lb1", "GET", "/status"))[1]["controller"]
        others = [name for name in NAMES if name != controller]
        writers = [in_background(self.write(name, 4000 * place), name) for place, name in enumerate(others)]
        await deferLater(company.reactor, 1)

        await company.signal(controller, signal.SIGKILL)
        told = await company.until(others[0], "/status", lambda _, body: body["controller"] in others)
        victim = company.servers()["Server1"]
        victim.send_signal(signal.SIGKILL)
        await company.until(others[1], "/status", lambda _, __: company.servers()["Server1"] != victim)
        await company.until(others[1], "/readyz", lambda status, _: status == 200)
        self.assertNotEqual(told["controller"], controller)

        await self.lost_and_taken_back(controller, others)
        self.writing = False
        for writer in writers:
            await writer
        read = await company.ask(controller, "POST", "/read", {"Stud_id": {"low": 0, "high": 16383}})
        stored = {row["Stud_id"] for row in read[1]["data"]}
        self.assertGreater(len(self.acknowledged), 100)
        self.assertEqual(self.acknowledged - stored, set())
        await self.stopped_one_by_one()

    async def lost_and_taken_back(self, name: str, others: list[str]) -> None:
        """Check that a balancer without its data is refused, and taken back under a new id when asked to."""
        company = self.company
        shutil.rmtree(company.directory / name)

        refused = company.start(name)
        await refused.ended
        self.assertIn(b"cannot take part", refused.output)
        company.start(name, "--rejoin")
        await company.until(name, "/readyz", lambda status, _: status == 200)

        roster = msgspec.json.decode((company.directory / name / "roster.json").read_bytes())
        self.assertEqual(roster["members"][name]["replica_id"], 4)

    async def stopped_one_by_one(self) -> None:
        """Check that Ctrl-C at balancers leaves the servers running."""
        company = self.company
        servers = company.servers()

        for name in NAMES:
            await company.signal(name, signal.SIGINT)

        self.assertTrue(all(process.is_alive() for process in servers.values()))
