"""The launcher of containers, over an engine in memory. With a real one: slow_containers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dbnode.client.control import ControlFailed
from dbnode.wire import Endpoint
from lbnode.launchers import (
    Launcher,
    LaunchFailed,
    LaunchTimes,
    LostHome,
    ServerSpec,
    docker_exits,
    docker_network,
)
from lbnode.launchers.docker import DockerLauncher
from lbnode.launchers.docker_client import EngineUnreachable
from lbnode.launchers.docker_containers import Containers
from lbnode.launchers.docker_homes import copy_homes
from lbnode.launchers.docker_names import LABEL_CLUSTER, LABEL_PROJECT, USER_ID, DockerSettings, home_name
from lbnode.launchers.docker_network import own_container_id
from lbnode.test.fake_engine import FakeContainer, FakeEngine, FakeNetwork, FakeVolume
from lbnode.test.launcher_contract import SPEC, LauncherContract, who
from raftlog.tls.authority import issue, make_authority

SECRET = b"5ec3e7" * 8
NAME = "shardlb-c1-Server0"


class DockerLauncherCase(TestCase):
    """A launcher on an engine in memory."""

    timeout = 20
    own_container: str | None = None

    def setUp(self) -> Any:
        """Open the launcher."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.engine = FakeEngine()
        self.patch(docker_network, "SETTLE_SECONDS", 0.0)
        self.certificates = Path(self.mktemp()).absolute()
        self.serves = True
        self.launcher: Launcher = self.with_settings(DockerSettings())
        return self.launcher.open()

    def with_settings(self, settings: DockerSettings, start_seconds: float = 5.0) -> DockerLauncher:
        """Return another launcher of the same cluster; it is closed in the end."""
        containers = Containers(self.engine.client, "c1", SECRET, settings, self.own_container)
        launcher = DockerLauncher(
            self.reactor, containers, "c1", self.heartbeat, lambda: 0.0, LaunchTimes(start_seconds=start_seconds)
        )
        self.addCleanup(launcher.close)
        return launcher

    async def heartbeat(self, http: Endpoint, timeout_seconds: float) -> None:
        """Answer for a server."""
        if not self.serves:
            raise ControlFailed("unreachable", "nobody there")

    @property
    def container(self) -> FakeContainer:
        """The container of Server0."""
        return self.engine.containers[NAME]

    @property
    def volume(self) -> FakeVolume:
        """The volume of Server0."""
        return self.engine.volumes[NAME]

    async def turn(self) -> None:
        """See LauncherContract.turn."""
        await deferLater(self.reactor, 0.05)


class DockerLauncherTests(DockerLauncherCase, LauncherContract):
    pass


class ContainerTests(DockerLauncherCase):
    async def test_another_launcher_finds_it(self) -> None:
        """A balancer that was killed left its servers running; the next one adopts them."""
        first = await self.launcher.start(SPEC)
        second = self.with_settings(DockerSettings())
        await second.open()

        self.assertEqual(await second.start(SPEC), first)
        self.assertEqual(len(self.engine.containers), 1)

    async def test_in_tls(self) -> None:
        """A container gets its own certificate, made at its start, and never the key of the authority."""
        make_authority(self.certificates, "c1", datetime.now(UTC))
        issue(self.certificates, "server", "Server1", datetime.now(UTC))
        self.launcher = self.with_settings(DockerSettings(tls_dir=str(self.certificates)))
        await self.launcher.open()
        await self.launcher.start(SPEC)

        self.assertIn("--tls-dir=/data", repr(self.container.made))
        given = sorted(name for name in self.volume.entries if name.endswith((".pem", ".key")))
        self.assertEqual(given, ["ca.pem", "server-Server0.pem"])
        entry = self.volume.entries["server-Server0.pem"]
        self.assertEqual((entry.mode, entry.uid), (0o600, USER_ID))

    async def test_the_secret_is_in_a_private_file_only(self) -> None:
        """Neither arguments nor environment nor labels show it."""
        await self.launcher.start(SPEC)

        entry = self.volume.entries["secret"]
        self.assertEqual(self.volume.files["/data/secret"].strip(), SECRET)
        self.assertEqual((entry.mode, entry.uid), (0o600, USER_ID))
        self.assertNotIn(SECRET.decode(), repr(self.container.made))

    async def test_the_storage_is_in_a_private_file_only(self) -> None:
        """A DSN may hold a password: the server is told where to find it, and nobody else what it is."""
        dsn = "postgresql://me:5up3r@db/table"
        told = self.with_settings(DockerSettings(storage=dsn))
        await told.open()

        await told.start(SPEC)

        self.assertEqual(self.volume.files["/data/told-storage"], dsn.encode())
        self.assertEqual(self.volume.entries["told-storage"].mode, 0o600)
        self.assertIn("--storage-file=/data/told-storage", repr(self.container.made))
        self.assertNotIn("5up3r", repr(self.container.made))

    async def test_what_a_container_may_not(self) -> None:
        """It has no privileges, no capabilities, no root, one volume, and no network but the cluster's."""
        limited = self.with_settings(DockerSettings(memory_bytes=1 << 30, cpus=0.5))
        await limited.open()
        await limited.start(SPEC)

        made = self.container.made
        self.assertEqual((made["cap_drop"], made["user"]), (["ALL"], f"{USER_ID}:{USER_ID}"))
        self.assertTrue(made["read_only"])
        self.assertNotIn("privileged", made)
        self.assertEqual(made["volumes"], {NAME: {"bind": "/data", "mode": "rw"}})
        self.assertEqual(made["network"], "shardlb-c1")
        self.assertEqual((made["mem_limit"], made["memswap_limit"], made["nano_cpus"]), (1 << 30, 1 << 30, 500_000_000))
        for labels in (
            self.container.labels,
            self.volume.attrs["Labels"],
            self.engine.networks["shardlb-c1"].attrs["Labels"],
        ):
            self.assertEqual((labels[LABEL_CLUSTER], labels[LABEL_PROJECT]), ("c1", "shardlb"))

    async def test_a_dead_container_is_started_again(self) -> None:
        """It is the same container, with what the server said before it died."""
        first = await self.launcher.start(SPEC)
        before = self.container
        before.die()

        again = await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

        self.assertIs(self.container, before)
        self.assertEqual(again.incarnation, first.incarnation)

    async def test_a_new_image(self) -> None:
        """What runs is left alone; what is dead is made anew from the new image, on the same volume."""
        first = await self.launcher.start(SPEC)
        before = self.container
        self.engine.images["shardlb-server"] = "image-2"
        upgraded = self.with_settings(DockerSettings())
        await upgraded.open()

        self.assertEqual(await upgraded.start(SPEC), first)
        before.die()
        again = await upgraded.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

        self.assertIsNot(self.container, before)
        self.assertEqual(again.incarnation, first.incarnation)

    async def test_a_container_that_was_removed(self) -> None:
        """The volume is the home: a container is made for it again."""
        first = await self.launcher.start(SPEC)
        self.container.remove(force=True)

        again = await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

        self.assertEqual(again.incarnation, first.incarnation)

    async def test_a_volume_that_was_removed(self) -> None:
        """Its home is lost, and nothing takes its place."""
        first = await self.launcher.start(SPEC)
        self.container.remove(force=True)
        self.volume.remove()

        with self.assertRaises(LostHome):
            await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))
        self.assertEqual((self.engine.containers, self.engine.volumes), ({}, {}))

    async def test_a_volume_without_its_log(self) -> None:
        """It is lost too: its server would vote as somebody it is not."""
        first = await self.launcher.start(SPEC)
        self.container.die()
        del self.volume.files["/data/wal/0"]

        with self.assertRaises(LostHome):
            await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

    async def test_why_it_did_not_start(self) -> None:
        """The error carries the end of the server's log, and the container does not stay running."""
        self.serves = False
        hasty = self.with_settings(DockerSettings(), start_seconds=0.2)
        await hasty.open()

        with self.assertRaises(LaunchFailed) as caught:
            await hasty.start(SPEC)

        self.assertIn("the end of the log", str(caught.exception))
        self.assertFalse(self.container.attrs["State"]["Running"])

    async def test_a_start_that_was_given_up(self) -> None:
        """The engine carries on with it; whoever stops the server then finds it stopped all the same."""
        self.engine.may_start.clear()
        starting = self.launcher.start(SPEC)
        while NAME not in self.engine.containers:
            await self.turn()
        starting.cancel()

        stopping = self.launcher.stop("Server0")
        await self.turn()
        self.engine.may_start.set()
        await stopping
        await self.turn()

        self.failureResultOf(starting, CancelledError)
        self.assertFalse(self.container.attrs["State"]["Running"])

    async def test_a_paused_server_is_stopped(self) -> None:
        """The engine would not stop it while it is paused."""
        await self.launcher.start(SPEC)
        self.container.attrs["State"]["Paused"] = True

        await self.launcher.stop("Server0")

        self.assertIsNone(await self.launcher.look("Server0"))

    async def test_a_server_that_is_cut_off(self) -> None:
        """While it is not in the network it is where it was; when it comes back it is where it is now."""
        before = await self.launcher.start(SPEC)
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        networks.clear()

        self.assertEqual(await self.launcher.look("Server0"), before)
        networks["shardlb-c1"] = {"IPAddress": "172.30.0.99"}
        now = await self.launcher.look("Server0")

        assert now is not None and now.link is not None
        self.assertEqual((now.http.host, now.link.host, who(now)), ("172.30.0.99", "172.30.0.99", who(before)))

    async def test_what_is_not_ours_is_not_touched(self) -> None:
        """A container or volume that has our name without our label is neither used nor removed."""
        foreign = {"labels": {LABEL_CLUSTER: "another"}, "volumes": {NAME: {}}}
        self.engine.volumes[NAME] = FakeVolume(self.engine, NAME, {})

        for act in (lambda: self.launcher.start(SPEC), lambda: self.launcher.destroy("Server0")):
            with self.assertRaisesRegex(LaunchFailed, "volume .* not of this cluster"):
                await act()
        self.engine.containers[NAME] = FakeContainer(self.engine, NAME, foreign)
        for act in (lambda: self.launcher.start(SPEC), lambda: self.launcher.destroy("Server0")):
            with self.assertRaisesRegex(LaunchFailed, "container .* not of this cluster"):
                await act()

        self.assertEqual((list(self.engine.containers), list(self.engine.volumes)), ([NAME], [NAME]))


class EngineTests(DockerLauncherCase):
    own_container = "the balancer's"

    async def test_no_engine(self) -> None:
        """A launcher cannot be opened without an engine, and says so."""
        self.engine.is_down = True

        with self.assertRaisesRegex(EngineUnreachable, "Docker engine cannot be reached"):
            await self.with_settings(DockerSettings()).open()

    async def test_no_image(self) -> None:
        """A launcher cannot be opened without the servers' image; nothing is made."""
        self.engine.networks.clear()

        with self.assertRaisesRegex(LaunchFailed, "no image mine"):
            await self.with_settings(DockerSettings(image="mine")).open()

        self.assertEqual(self.engine.networks, {})

    async def test_the_balancer_joins_the_network(self) -> None:
        """Its own container is in the network, however often it is opened."""
        await self.with_settings(DockerSettings()).open()

        self.assertEqual(list(self.engine.networks["shardlb-c1"].attrs["Containers"]), ["the balancer's"])

    async def test_balancers_that_begin_together(self) -> None:
        """Of two networks that they make at once the first one stays, and both are in it."""
        labels = self.engine.networks.pop("shardlb-c1").attrs["Labels"]
        for number, is_first in ((0, True), (59, False)):
            self.engine.rival = rival = FakeNetwork("shardlb-c1", labels, number)

            await self.with_settings(DockerSettings()).open()

            own, _ = self.engine.networks.pop("shardlb-c1"), self.engine.networks.pop("rival")
            self.assertEqual((own.is_removed, rival.is_removed), (is_first, False))
            self.assertEqual(list((rival if is_first else own).attrs["Containers"]), ["the balancer's"])

    async def test_a_network_of_others(self) -> None:
        """One that is named is used if it is there; one that only has our name is not."""
        with self.assertRaisesRegex(LaunchFailed, "no network theirs"):
            await self.with_settings(DockerSettings(network="theirs")).open()
        self.engine.networks["theirs"] = FakeNetwork("theirs", {})
        await self.with_settings(DockerSettings(network="theirs")).open()
        self.engine.networks["shardlb-c1"] = FakeNetwork("shardlb-c1", {})

        with self.assertRaisesRegex(LaunchFailed, "network shardlb-c1 that is not of this cluster"):
            await self.with_settings(DockerSettings()).open()

    async def test_servers_of_a_cluster_whose_catalog_is_gone(self) -> None:
        """A new cluster does not begin over them; beside servers of its own they do not matter."""
        await self.launcher.start(SPEC)
        other = Containers(self.engine.client, "c2", SECRET, DockerSettings(), None)

        error = self.assertRaises(LaunchFailed, other.open)
        self.assertIn("from cluster c1", str(error))
        self.assertNotIn("shardlb-c2", self.engine.networks)
        Containers(self.engine.client, "c2", SECRET, DockerSettings(project="two"), None).open()
        await self.with_settings(DockerSettings()).open()

    async def test_homes_are_copied(self) -> None:
        """What servers tell of their cluster can be read; one that died or was never told anything is among them."""
        await self.launcher.start(SPEC)
        await self.launcher.start(ServerSpec("Server1", "Server1", "c1"))
        self.container.die()
        self.volume.files["/data/config.json"] = b"told"

        copied = self.copies()

        config, identity, secret = "config.json", "identity.json", "secret"
        self.assertEqual(set(copied["c1 Server0"]), {config, identity, secret})
        self.assertEqual(set(copied["c1 Server1"]), {identity, secret})
        self.assertEqual(copied["c1 Server0"][secret], (SECRET + b"\n", 0o600))

    def copies(self) -> dict[str, dict[str, tuple[bytes, int]]]:
        """Return the files that are copied for each home, each with its mode."""
        target = Path(self.mktemp())
        target.mkdir()
        copy_homes(self.engine.client, "shardlb", target)
        return {
            home.name: {file.name: (file.read_bytes(), file.stat().st_mode & 0o777) for file in home.iterdir()}
            for home in target.iterdir()
        }

    async def test_while_the_engine_is_away(self) -> None:
        """Servers that were seen running are taken to run; of others nothing can be said; nothing can be changed."""
        file = await self.launcher.start(SPEC)
        self.engine.is_down = True

        self.assertEqual(await self.launcher.look("Server0"), file)
        for act in (
            lambda: self.launcher.look("Server1"),
            lambda: self.launcher.start(ServerSpec("Server1", "Server1", "c1")),
            lambda: self.launcher.stop("Server0"),
        ):
            with self.assertRaises(EngineUnreachable):
                await act()

        self.engine.is_down = False
        self.container.die()
        self.assertIsNone(await self.launcher.look("Server0"))

    async def test_no_events_any_more(self) -> None:
        """A launcher is closed in time while the engine is away and tells no events."""
        self.engine.is_down = True
        self.engine.breaks()
        await deferLater(self.reactor, 1.2)  # the stream was asked for again, in vain

        await self.launcher.close()

    async def test_events_go_on(self) -> None:
        """When the stream of events breaks, be it in the middle of one, it is opened again."""
        self.patch(docker_exits, "_PAUSE_SECONDS", 0.01)
        await self.launcher.start(SPEC)
        for midway in (False, True):
            ended: Deferred[str] = Deferred()
            self.launcher.on_exit(ended.callback)
            self.engine.breaks(midway=midway)
            while not self.engine.streams:
                await self.turn()

            self.container.die()

            self.assertEqual(await ended, "Server0")
            await self.launcher.start(SPEC)


class NamesTests(SynchronousTestCase):
    def test_homes_that_are_no_names(self) -> None:
        """Whatever a server is called, the engine takes its container's name, and no two homes share one."""
        homes = ["Server0", "Server0@2", "Server0-2", "Server0 2", "ä" * 64, "x" * 128, "x" * 127]

        names = [home_name("c1", home) for home in homes]

        self.assertEqual(len(set(names)), len(homes))
        for name in names:
            self.assertRegex(name, r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,200}$")

    def test_whether_it_runs_in_a_container(self) -> None:
        """The engine's own mounts tell; a host has none."""
        id_, path = "ab" * 32, self.mktemp()
        line = f"600 583 254:0 /var/lib/docker/containers/{id_}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n"
        for mounts, expected in ((line, id_), ("22 1 254:0 / / rw - ext4 /dev/vda rw\n", None)):
            with open(path, "w") as file:
                file.write(mounts)
            self.assertEqual(own_container_id(path), expected)
