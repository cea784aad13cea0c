"""`twistd shardlb` as a real process with real servers: it serves, dies, comes back, and stops."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived

from dbnode.wire import ServerFile
from lbnode.default_table import default_table
from lbnode.launchers.processes import Process, with_argument

_TWISTD = "from twisted.scripts.twistd import run; run()"
ROWS = [{"Stud_id": id_, "Stud_name": f"n{id_}", "Stud_marks": id_} for id_ in (0, 5000, 16383)]
ALL = {"Stud_id": {"low": 0, "high": 20000}}


class Running(ProcessProtocol):
    """A twistd process: what it said, and when it ended."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """Keep what it says."""
        self.output += data

    def errReceived(self, data: bytes) -> None:
        """Keep what it complains of."""
        self.output += data

    def processEnded(self, reason: object) -> None:
        """Take note."""
        self.ended.callback(None)


class BalancerProcessCase(TestCase):
    """A balancer as a process, on a data directory of its own; nothing is left running."""

    timeout = 120

    def setUp(self) -> None:
        """Take an empty data directory, and a free port."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.data = Path(self.mktemp()).absolute()
        self.http = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        #: A table that is no default, once a test has written one.
        self.table = Path(self.mktemp()).absolute()
        self.balancers: list[tuple[Running, IProcessTransport]] = []
        self.addCleanup(self.end_all)

    def start(self, *arguments: str, **environment: str) -> Running:
        """Start a balancer."""
        return self.run_shardlb("--data-dir", str(self.data), *arguments, **environment)

    def run_shardlb(self, *arguments: str, **environment: str) -> Running:
        """Start `twistd shardlb`, by default at the port that is asked."""
        running = Running()
        command = [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", "shardlb"]
        transport = self.reactor.spawnProcess(
            running, sys.executable, [*command, *arguments], env={**os.environ, "PORT": str(self.port), **environment}
        )
        self.balancers.append((running, transport))
        return running

    def signal(self, number: signal.Signals) -> Deferred[None]:
        """Signal the balancer started last; fires when it has ended."""
        running, transport = self.balancers[-1]
        transport.signalProcess(number.name[3:])
        return running.ended

    def servers(self) -> dict[str, Process]:
        """Return the processes of the servers that there are or were."""
        files = [
            msgspec.json.decode(path.read_bytes(), type=ServerFile)
            for path in sorted(self.data.glob("servers/*/endpoints.json"))
        ]
        return {file.name: Process(file.pid, file.started_at) for file in files}

    async def end_all(self) -> None:
        """Leave nothing running."""
        for running, transport in self.balancers:
            if not running.ended.called:
                transport.signalProcess("KILL")
                await running.ended
        for process in self.servers().values():
            process.send_signal(signal.SIGKILL)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of an answer."""
        url = f"http://127.0.0.1:{self.port}{path}"
        response = await self.http.request(method, url, data=None if body is None else msgspec.json.encode(body))
        return response.code, msgspec.json.decode(await response.content())

    async def until_ready(self) -> None:
        """Wait until every shard has a leader."""
        running, _ = self.balancers[-1]
        while True:
            self.assertFalse(running.ended.called, running.output)
            try:
                status, _ = await self.ask("GET", "/readyz")
            except (ConnectError, ResponseNeverReceived):
                status = 0
            if status == 200:
                return
            await deferLater(self.reactor, 0.05)


class BalancerProcessTests(BalancerProcessCase):
    async def test_through_deaths(self) -> None:
        """What was acknowledged is there after kill -9 of the balancer, and of everything; SIGTERM stops all."""
        self.start("--auto-init", "default", SERVER_NUMBER="3")
        await self.until_ready()
        self.assertEqual((await self.ask("POST", "/write", {"data": ROWS}))[0], 200)
        first = self.servers()
        self.assertEqual(list(first), ["Server0", "Server1", "Server2"])

        await self.signal(signal.SIGKILL)
        self.start()
        await self.until_ready()
        self.assertEqual(self.servers(), first)
        self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)

        for process in first.values():
            process.send_signal(signal.SIGKILL)
        await self.signal(signal.SIGKILL)
        self.start()
        await self.until_ready()
        self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)
        self.assertTrue(all(process.is_alive() for process in self.servers().values()))

        await self.signal(signal.SIGTERM)
        self.assertFalse(any(process.is_alive() for process in self.servers().values()))

    async def test_killed_in_the_middle_of_init(self) -> None:
        """The next balancer takes down what was started, and has no table."""
        self.start("--auto-init", "default", SERVER_NUMBER="3")
        while not self.servers():
            await deferLater(self.reactor, 0.01)
        await self.signal(signal.SIGKILL)
        left = self.servers()

        self.start()
        while True:
            try:
                status = (await self.ask("GET", "/status"))[1]
            except ConnectError:
                status = {"operation": "not yet"}
            if status["operation"] is None:
                break
            await deferLater(self.reactor, 0.05)

        self.assertEqual(status["N"], 0)
        self.assertFalse(any(process.is_alive() for process in left.values()))
        for name in ("Server0", "Server1", "Server2"):
            self.assertEqual(with_argument("--data-dir", str(self.data / "servers" / name)), [])
        self.assertEqual(list((self.data / "servers").iterdir()), [])

    async def test_a_table_from_a_file(self) -> None:
        """--auto-init takes the body of an /init from a file; a second balancer on the data is refused."""
        table = {**default_table(), "servers": {"Only": ["sh1", "sh2", "sh3", "sh4"]}}
        self.table.write_bytes(msgspec.json.encode(table))
        self.start("--auto-init", str(self.table))
        await self.until_ready()

        second = self.start(PORT="0")
        await second.ended
        self.balancers.pop()

        self.assertIn(b"is in use by another balancer", second.output)
        self.assertEqual((await self.ask("GET", "/primary_elect"))[1]["sh4"], "Only")
        await self.signal(signal.SIGINT)
        self.assertFalse(self.servers()["Only"].is_alive())

    async def test_a_socket_of_the_file_system(self) -> None:
        """Clients may come by a socket in the file system, and are told how."""
        # Its path is at most 107 bytes, and trial's are longer.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = f"{directory.name}/http"
        running = self.start("--port", f"unix:{path}")
        while b"/status" not in running.output:
            self.assertFalse(running.ended.called, running.output)
            await deferLater(self.reactor, 0.05)

        def ask() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"GET /status HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: client.recv(65536), b""))

        answer = await deferToThread(ask)

        self.assertIn(b"200 OK", answer.partition(b"\r\n")[0])
        self.assertIn(f"curl --unix-socket {path} http://localhost/status".encode(), running.output)

    async def test_what_keeps_it_from_starting(self) -> None:
        """A port that is taken or none and a table that cannot be are told in one line, and nothing is started."""
        self.table.write_text('{"N": 0}')
        taken = socket.create_server(("127.0.0.1", self.port))
        self.addCleanup(taken.close)

        unable = self.start("--auto-init", "default")
        await unable.ended
        wrong = self.start("--auto-init", str(self.table))
        await wrong.ended
        nowhere = self.start("--port", "tcp:99999")
        await nowhere.ended
        keyless = self.start("--port", "ssl:0:privateKey=/nowhere/key.pem")
        await keyless.ended

        self.assertIn(b"shardlb: cannot start: --port tcp:99999 is no endpoint", nowhere.output)
        self.assertIn(b"shardlb: cannot start: --port ssl:0:privateKey=/nowhere/key.pem is no endpoint", keyless.output)
        self.assertIn(b"shardlb: cannot start: Couldn't listen on 127.0.0.1", unable.output)
        self.assertIn(b"shardlb: cannot start: missing_field", wrong.output)
        self.assertEqual(self.servers(), {})
