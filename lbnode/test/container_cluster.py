"""A balancer on this machine with its servers in containers, under writes."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.task import deferLater

from lbnode.test.containers import PROJECT, SERVER_IMAGE, built_images, container_of, docker
from lbnode.test.test_tap import Running
from lbnode.test.under_writes import UnderWritesCase

#: Within this an engine has done what it was asked for.
ENGINE_SECONDS_MAX = 30.0


class ContainerClusterCase(UnderWritesCase):
    """Three servers, each in a container; whatever the cluster has in the engine is removed in the end."""

    def setUp(self) -> None:
        """Have the images."""
        built_images()
        super().setUp()
        self.addCleanup(self.remove_cluster)

    def start(self, *arguments: str, **environment: str) -> Running:
        """Start a balancer whose servers are containers."""
        ours = {"SHARDLB_LAUNCHER": "docker", "SERVER_IMAGE": SERVER_IMAGE, "SHARDLB_PROJECT": PROJECT}
        return super().start(*arguments, **ours, **environment)

    @property
    def ours(self) -> str:
        """The label of all that the cluster has in the engine."""
        identity = msgspec.json.decode((self.data / "identity.json").read_bytes())
        return f"label=shardlb.cluster={identity['cluster_id']}"

    async def remove_cluster(self) -> None:
        """End the balancer, which would start its servers again, and remove what the cluster has in the engine.

        The engine may still be at what the balancer asked for last: a container that it is about to make or remove is
        not listed, but holds its volume.
        """
        await self.end_all()
        if not (self.data / "identity.json").exists():
            return
        latest = self.reactor.seconds() + ENGINE_SECONDS_MAX
        while True:
            try:
                await self._remove_listed()
                return
            except AssertionError:
                if self.reactor.seconds() > latest:
                    raise
            await deferLater(self.reactor, 0.5)

    async def _remove_listed(self) -> None:
        for ids, remove in (
            (("ps", "--all"), ("rm", "--force")),
            (("volume", "ls"), ("volume", "rm")),
            (("network", "ls"), ("network", "rm")),
        ):
            found = await docker(*ids, "--quiet", "--filter", self.ours)
            if found:
                await docker(*remove, *found.split())

    async def home_of(self, server: str) -> str:
        """Return the home of a server now."""
        home: str = (await self.ask("GET", "/status"))[1]["server_states"][server]["home"]
        return home

    async def containers(self) -> dict[str, str]:
        """Return the container of each server, running or not."""
        return {server: await container_of(await self.home_of(server), of=self.ours) for server in self.servers_up}

    async def pid_of(self, server: str) -> Any:
        """Return the process of a server."""
        return (await self.ask("GET", "/status"))[1]["server_states"][server]["pid"]
