"""A balancer on this machine with its servers in containers, which are killed and lose their volumes under writes."""

from __future__ import annotations

import shutil
import signal

from twisted.internet.task import deferLater

from lbnode.test.container_cluster import ContainerClusterCase
from lbnode.test.containers import docker, everything


class ContainersHealingTests(ContainerClusterCase):
    async def test_killed(self) -> None:
        """A leader's container that is killed is started again, with its data; no client sees an error."""
        await self.begin()
        leader = (await self.ask("GET", "/primary_elect"))[1]["sh1"]
        before, pid = await self.containers(), await self.pid_of(leader)
        await docker("kill", before[leader])
        while (await self.ask("GET", "/primary_elect"))[1]["sh1"] in (leader, None):
            await deferLater(self.reactor, 0.02)

        await self.until_whole()

        self.assertEqual(await self.containers(), before)
        self.assertNotEqual(await self.pid_of(leader), pid)
        await self.check()

    async def test_volume_removed(self) -> None:
        """A server whose container and volume were removed is back, complete, under new replica ids."""
        await self.begin()
        before = await self.until_whole()
        container = (await self.containers())["Server1"]
        volume = await docker("inspect", "--format", "{{(index .Mounts 0).Name}}", container)
        await docker("rm", "--force", container)
        await docker("volume", "rm", volume)
        await deferLater(self.reactor, 0.2)

        after = await self.until_whole()

        self.assertBegunAnew("Server1", before, after)
        self.assertNotIn(volume, await everything(self.ours))
        await self.check()

    async def test_balancer_killed(self) -> None:
        """Killed it leaves the containers, which the next one takes up; told to stop it stops them."""
        await self.begin()
        await self.until_whole()
        await self.stop_writing()
        before, pid = await self.containers(), await self.pid_of("Server1")
        await self.signal(signal.SIGKILL)

        self.start()
        await self.until_ready()

        self.assertEqual((await self.containers(), await self.pid_of("Server1")), (before, pid))
        await self.check_rows()
        await self.signal(signal.SIGTERM)
        self.assertEqual(await docker("ps", "--quiet", "--filter", self.ours), "")
        self.assertGreater(len(await everything(self.ours)), 3)

    async def test_balancer_without_its_disk(self) -> None:
        """Everything of the balancer's is deleted; --rebuild takes the containers up again, with every row."""
        await self.begin()
        await self.until_whole()
        await self.stop_writing()
        before = await self.containers()
        await self.signal(signal.SIGKILL)
        shutil.rmtree(self.data)

        refused = self.start()
        await refused.ended
        self.start("--rebuild")
        await self.until_ready()
        await self.until_whole()

        self.assertIn(b"--rebuild", refused.output)
        self.assertEqual(await self.containers(), before)
        await self.check_rows()

    async def test_without_an_engine(self) -> None:
        """It does not begin, in one line, and nothing is made."""
        running = self.start("--auto-init", "default", DOCKER_HOST="unix:///nowhere/docker.sock")
        await running.ended

        self.assertIn(b"shardlb: cannot start: the Docker engine cannot be reached", running.output)
        self.assertEqual(await everything(self.ours), [])
