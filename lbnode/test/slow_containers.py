"""The launcher of containers, with a real engine: what every launcher promises, and what a container may not."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from dbnode.client.control import Control
from dbnode.client.tls import ServersOnly
from lbnode.launchers import Launcher, LaunchFailed, LaunchTimes, LostHome, ServerSpec
from lbnode.launchers.docker import THREADS_MAX, DockerLauncher
from lbnode.launchers.docker_client import EngineUnreachable, connect_to_engine
from lbnode.launchers.docker_containers import Containers
from lbnode.launchers.docker_names import DockerSettings, home_name
from lbnode.test.containers import PROJECT, SERVER_IMAGE, built_images, container_of, docker, inspect
from lbnode.test.launcher_contract import SPEC, LauncherContract
from raftlog.tls import MutualTls
from raftlog.tls.authority import issue, make_authority

SECRET = b"5ec3e7" * 8
NAME = home_name("c1", "Server0")
LIMITED = DockerSettings(image=SERVER_IMAGE, project=PROJECT, memory_bytes=256 << 20, cpus=0.5)


class ContainerCase(TestCase):
    """A launcher of the cluster c1 on the engine of this machine."""

    timeout = 120

    def setUp(self) -> Any:
        """Open the launcher; the images are built before the first test."""
        from twisted.internet import reactor

        built_images()
        self.reactor: Any = reactor
        self.settings = LIMITED
        self.control = self.controlling()
        self.launcher: Launcher = self.with_environment(dict(os.environ))
        self.addCleanup(self.remove_all)
        return self.launcher.open()

    def controlling(self) -> Control:
        """Return what asks servers whether they live."""
        pool = HTTPConnectionPool(self.reactor, persistent=False)
        return Control(self.reactor, HTTPClient(Agent(self.reactor, pool=pool)), SECRET)

    def with_environment(self, environment: dict[str, str]) -> DockerLauncher:
        """Return another launcher of the same cluster."""
        containers = Containers(lambda: connect_to_engine(environment, THREADS_MAX), "c1", SECRET, self.settings, None)
        launcher = DockerLauncher(
            self.reactor, containers, "c1", self.control.heartbeat, self.reactor.seconds, LaunchTimes()
        )
        self.addCleanup(launcher.close)
        return launcher

    async def remove_all(self) -> None:
        """Leave nothing of the cluster."""
        for home in ("Server0", "Server0@2"):
            await self.launcher.destroy(home)
        await docker("network", "rm", "shardlb-c1")

    async def turn(self) -> None:
        """See LauncherContract.turn."""
        await deferLater(self.reactor, 1)


class RealContainerTests(ContainerCase, LauncherContract):
    pass


class TlsTests(ContainerCase):
    """Containers in mutual TLS."""

    def controlling(self) -> Control:
        """Ask in TLS, with certificates that are made now."""
        certificates = Path(self.mktemp()).absolute()
        make_authority(certificates, "c1", datetime.now(UTC))
        issue(certificates, "balancer", "balancer", datetime.now(UTC))
        self.settings = msgspec.structs.replace(LIMITED, tls_dir=str(certificates))
        tls = MutualTls(self.reactor, certificates, "balancer", "balancer")
        agent = Agent(self.reactor, ServersOnly(tls), pool=HTTPConnectionPool(self.reactor, persistent=False))
        return Control(self.reactor, HTTPClient(agent), SECRET, tls=True)

    async def test_a_server_in_tls(self) -> None:
        """It answers who has a certificate, is healthy by its image's own check, and knows no key but its own."""
        await self.launcher.start(SPEC)

        await docker("exec", NAME, "python", "-m", "dbnode.healthcheck", "http://127.0.0.1:5000/heartbeat")
        self.assertEqual(await docker("exec", NAME, "stat", "-c", "%a %u", "/data/server-Server0.pem"), "600 10001")
        self.assertNotIn("ca.key", await docker("exec", NAME, "ls", "/data"))


class ConfinementTests(ContainerCase):
    async def test_what_a_container_may_not(self) -> None:
        """It is not root, has no capabilities and no way out, and as much of the machine as it was given."""
        file = await self.launcher.start(SPEC)

        status = await docker("exec", NAME, "cat", "/proc/1/status")
        for line in ("Uid:\t10001\t10001", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
            self.assertIn(line, status)
        made = (await inspect(NAME))["HostConfig"]
        self.assertEqual((made["Memory"], made["NanoCpus"], made["ReadonlyRootfs"]), (256 << 20, 500_000_000, True))
        self.assertEqual((made["Privileged"], made["Binds"]), (False, [f"{NAME}:/data:rw"]))
        self.assertFalse(made["PortBindings"])
        self.assertEqual(await docker("network", "inspect", "--format", "{{.Internal}}", "shardlb-c1"), "true")
        self.assertEqual((await inspect(NAME))["State"]["Pid"], file.pid)

    async def test_the_secret_is_in_a_private_file_only(self) -> None:
        """Nothing that the engine tells of the container shows it, and the server does not log it."""
        await self.launcher.start(SPEC)

        self.assertEqual(await docker("exec", NAME, "stat", "-c", "%a %u", "/data/secret"), "600 10001")
        self.assertEqual(await docker("exec", NAME, "cat", "/data/secret"), SECRET.decode())
        for told in (await docker("inspect", NAME), await docker("logs", NAME)):
            self.assertNotIn(SECRET.decode(), told)

    async def test_it_is_healthy(self) -> None:
        """The image's own check says so, and who is in the network finds it by its name; SIGTERM ends it in order."""
        await self.launcher.start(SPEC)
        url = "http://Server0:5000/heartbeat"

        await docker("exec", NAME, "python", "-m", "dbnode.healthcheck", url)
        await self.launcher.stop("Server0")

        told = await inspect(NAME)
        self.assertIn("dbnode.healthcheck", told["Config"]["Healthcheck"]["Test"])
        self.assertEqual(told["State"]["ExitCode"], 0)

    async def test_a_volume_that_was_removed(self) -> None:
        """Its home is lost, and nothing takes its place."""
        file = await self.launcher.start(SPEC)
        await docker("rm", "--force", NAME)
        again = ServerSpec("Server0", "Server0", "c1", file.incarnation)

        self.assertEqual((await self.launcher.start(again)).incarnation, file.incarnation)
        await docker("rm", "--force", NAME)
        await docker("volume", "rm", NAME)

        with self.assertRaises(LostHome):
            await self.launcher.start(again)
        self.assertEqual(await container_of("Server0"), "")

    async def test_a_log_that_was_removed(self) -> None:
        """A server that kept its identity and lost its log is lost too."""
        file = await self.launcher.start(SPEC)
        await docker("exec", NAME, "rm", "-r", "/data/wal")
        await docker("kill", NAME)

        with self.assertRaises(LostHome):
            await self.launcher.start(ServerSpec("Server0", "Server0", "c1", file.incarnation))

    async def test_what_is_not_ours_is_not_touched(self) -> None:
        """A volume that has our name without our label is neither used nor removed."""
        await docker("volume", "create", NAME)

        for act in (lambda: self.launcher.start(SPEC), lambda: self.launcher.destroy("Server0")):
            with self.assertRaisesRegex(LaunchFailed, "not of this cluster"):
                await act()

        self.assertEqual(await docker("volume", "rm", NAME), NAME)

    async def test_why_it_did_not_start(self) -> None:
        """The error carries the end of the server's log."""
        await self.launcher.start(SPEC)
        await docker("exec", NAME, "sh", "-c", "echo nonsense > /data/config.json")
        await self.launcher.stop("Server0")

        with self.assertRaisesRegex(LaunchFailed, "config.json is damaged"):
            await self.launcher.start(SPEC)

    async def test_an_engine_that_is_not_there(self) -> None:
        """The launcher cannot be opened, and says which engine it looked for."""
        nowhere = self.with_environment({"DOCKER_HOST": "unix:///nowhere/docker.sock"})

        with self.assertRaisesRegex(EngineUnreachable, "cannot be reached"):
            await nowhere.open()
