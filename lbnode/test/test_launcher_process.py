"""The launcher of processes, with real ones."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet import defer
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from dbnode.client.control import Control, ControlFailed
from dbnode.client.tls import ServersOnly
from dbnode.wire import Endpoint, ServerFile
from lbnode.launchers import LaunchFailed, LaunchTimes, LostHome, ServerSpec, ServerStorage
from lbnode.launchers.process import ProcessLauncher
from lbnode.launchers.processes import Process, started_at, with_argument
from lbnode.test.launcher_contract import SPEC, LauncherContract, who
from raftlog.tls import MutualTls
from raftlog.tls.authority import issue, make_authority

SECRET = b"5ec3e7" * 8


class ProcessLauncherTests(LauncherContract, TestCase):
    timeout = 60

    def setUp(self) -> None:
        """Make a launcher on an empty directory."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = Path(self.mktemp()).absolute()
        self.certificates = Path(self.mktemp()).absolute()
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.control = Control(self.reactor, HTTPClient(Agent(reactor, pool=pool)), SECRET)
        self.launcher: ProcessLauncher = self.with_times(LaunchTimes())
        self.addCleanup(self.destroy_all)

    def with_times(
        self,
        times: LaunchTimes,
        tls_dir: Path | None = None,
        storage: ServerStorage | None = None,
        wrapper: Sequence[str] = (),
    ) -> ProcessLauncher:
        """Return another launcher on the same directory."""
        return ProcessLauncher(
            self.reactor,
            self.reactor,
            self.reactor,
            self.directory,
            SECRET,
            self.control.heartbeat,
            os.environ,
            times,
            tls_dir,
            storage,
            wrapper,
        )

    async def turn(self) -> None:
        """See LauncherContract.turn."""
        await deferLater(self.reactor, 0.05)

    async def test_wrapper(self) -> None:
        """A command in front of the server's becomes the server; it is found and stopped as any other."""
        self.launcher = self.with_times(LaunchTimes(), wrapper=["nice", "-n", "5"])

        file = await self.launcher.start(SPEC)

        self.assertEqual(os.getpriority(os.PRIO_PROCESS, file.pid), os.getpriority(os.PRIO_PROCESS, 0) + 5)
        await self.launcher.stop("Server0")
        self.assertFalse(Process(file.pid, file.started_at).is_alive())

    async def test_a_home_without_its_log_is_lost(self) -> None:
        """A server that kept its identity and lost its log is not started: it would vote as somebody it is not."""
        first = await self.launcher.start(SPEC)
        await self.launcher.stop("Server0")
        shutil.rmtree(self.directory / "Server0" / "wal")

        with self.assertRaises(LostHome):
            await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

    async def destroy_all(self) -> None:
        """Leave no server behind."""
        if self.directory.exists():
            for home in list(self.directory.iterdir()):
                await self.launcher.destroy(home.name)

    async def test_another_launcher_finds_it(self) -> None:
        """A balancer that was killed left its servers running; the next one adopts them."""
        first = await self.launcher.start(SPEC)

        self.assertEqual(await self.with_times(LaunchTimes()).start(SPEC), first)

    async def test_in_tls(self) -> None:
        """Servers get certificates made, and then answer only who has one; without the authority's key it is told."""
        certificates = self.certificates
        make_authority(certificates, "c1", datetime.now(UTC))
        issue(certificates, "balancer", "lb", datetime.now(UTC))
        tls = MutualTls(self.reactor, certificates, "balancer", "lb")
        plain, pool = self.control, HTTPConnectionPool(self.reactor, persistent=False)
        agent = Agent(self.reactor, ServersOnly(tls), pool=pool)
        self.control = Control(self.reactor, HTTPClient(agent), SECRET, tls=True)
        self.launcher = self.with_times(LaunchTimes(), certificates)

        started = await self.launcher.start(SPEC)
        await self.control.heartbeat(started.http, 5.0)
        with self.assertRaises(ControlFailed):
            await plain.heartbeat(started.http, 5.0)

        self.assertIn("server-Server0.pem", [path.name for path in certificates.iterdir()])
        (certificates / "ca.key").unlink()
        with self.assertRaisesRegex(LaunchFailed, "Server1 gets no certificate: .*bin/certificates DIR server:Server1"):
            await self.launcher.start(ServerSpec("Server1", "Server1", "c1"))

    async def test_damaged_files_name_no_server(self) -> None:
        """A server whose files are damaged is found by its command line."""
        await self.launcher.start(SPEC)
        home = self.directory / "Server0"
        (home / "endpoints.json").write_bytes(b'{"name":"\xff"}')
        (home / "identity.json").write_bytes(b"[" * 100_000)

        await self.launcher.destroy("Server0")

        self.assertEqual(with_argument("--data-dir", str(home)), [])
        self.assertFalse(home.exists())

    async def test_one_that_is_starting_is_waited_for(self) -> None:
        """A balancer killed while a server starts leaves a process that is found by its command line."""
        starting = self.launcher.start(SPEC)
        while not with_argument("--data-dir", str(self.directory / "Server0")):
            await deferLater(self.reactor, 0.005)

        adopted = await self.with_times(LaunchTimes()).start(SPEC)

        self.assertEqual(who(await starting), who(adopted))

    async def test_its_own_session(self) -> None:
        """Ctrl-C in the balancer's terminal does not reach it."""
        file = await self.launcher.start(SPEC)

        self.assertEqual(os.getsid(file.pid), file.pid)

    async def test_storage_is_told_in_a_private_file(self) -> None:
        """A server keeps its shards where the balancer says, which no command line shows: it may be a password."""
        file = await self.with_times(LaunchTimes(), storage=ServerStorage("sqlite")).start(SPEC)
        home = self.directory / "Server0"

        self.assertEqual((home / "told-storage").stat().st_mode & 0o777, 0o600)
        self.assertEqual((home / "storage").read_text(), "sqlite\n")
        self.assertNotIn(b"sqlite", (Path("/proc") / str(file.pid) / "cmdline").read_bytes())

    async def test_the_secret_is_in_a_private_file_only(self) -> None:
        """Neither the command line nor any log shows it."""
        file = await self.launcher.start(SPEC)
        home = self.directory / "Server0"

        self.assertEqual((home / "secret").read_bytes().strip(), SECRET)
        self.assertEqual((home / "secret").stat().st_mode & 0o777, 0o600)
        process = Path("/proc") / str(file.pid)
        for path in (process / "cmdline", process / "environ", home / "server.log", home / "start.log"):
            self.assertNotIn(SECRET, path.read_bytes(), path)

    async def test_why_it_did_not_start(self) -> None:
        """The error carries the end of the server's log."""
        await self.launcher.start(SPEC)
        await self.launcher.stop("Server0")

        with self.assertRaises(LaunchFailed) as caught:
            await self.launcher.start(ServerSpec("Other", "Server0", "c1"))

        self.assertIn("belongs to server Server0, not Other", str(caught.exception))

    async def test_one_that_takes_too_long_is_taken_down(self) -> None:
        """A start that fails leaves no process behind."""
        with self.assertRaises(LaunchFailed):
            await self.with_times(LaunchTimes(start_seconds=0.05)).start(SPEC)

        self.assertEqual(with_argument("--data-dir", str(self.directory / "Server0")), [])

    async def test_a_paused_server_is_stopped_by_force(self) -> None:
        """One that does not hear SIGTERM is killed after the deadline."""
        file = await self.launcher.start(SPEC)
        os.kill(file.pid, signal.SIGSTOP)

        await self.with_times(LaunchTimes(stop_seconds=0.2)).stop("Server0")

        self.assertIsNone(started_at(file.pid))

    async def test_a_stranger_is_not_touched(self) -> None:
        """A process that took over a dead server's number is not signalled."""
        stranger = Stranger()
        asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        transport: IProcessTransport = self.reactor.spawnProcess(stranger, sys.executable, asleep)
        pid = transport.pid
        home = self.directory / "Server0"
        home.mkdir(parents=True)
        file = ServerFile("Server0", "i", "c1", pid, 1, Endpoint("h", 1), Endpoint("h", 2))
        (home / "endpoints.json").write_bytes(msgspec.json.encode(file))

        self.assertIsNone(await self.launcher.look("Server0"))
        await self.launcher.stop("Server0")

        self.assertIsNotNone(started_at(pid))
        transport.signalProcess("KILL")
        await stranger.ended


class Stranger(ProcessProtocol):
    """A process that is none of ours."""

    def __init__(self) -> None:
        self.ended: defer.Deferred[None] = defer.Deferred()

    def processEnded(self, reason: object) -> None:
        """Take note."""
        self.ended.callback(None)


class ProcessesTests(TestCase):
    def test_a_process_is_its_start_time_too(self) -> None:
        """Our own number with another start time is somebody else, who gets no signal."""
        own = started_at(os.getpid())
        assert own is not None

        self.assertTrue(Process(os.getpid(), own).is_alive())
        self.assertFalse(Process(os.getpid(), own + 1).is_alive())
        Process(os.getpid(), own + 1).send_signal(signal.SIGKILL)

    def test_a_process_that_never_was(self) -> None:
        """It is not alive, and signalling it does nothing."""
        nobody = Process(2**22 - 1, 1)

        nobody.send_signal(signal.SIGKILL)

        self.assertFalse(nobody.is_alive())
