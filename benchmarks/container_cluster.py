"""A cluster of the bench's own whose servers are containers; the balancer is a process beside us.

The engine is asked through a client that blocks: for the few milliseconds of a look, and for some tenths of a second
while it kills, whoever runs in this process stands still too.
"""

from __future__ import annotations

import os
import signal
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.spawn import Cluster
from dbnode.wire import Endpoint
from lbnode.launchers.docker_client import asking, connect_to_engine
from lbnode.launchers.docker_names import HTTP_PORT, LABEL_CLUSTER, LABEL_SERVER


class ContainerServer:
    """A server in a container, as it was when the engine was asked."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.name: str = container.labels[LABEL_SERVER]
        self.alive: bool = container.attrs["State"]["Running"]

    @property
    def http(self) -> Endpoint:
        """Where it serves HTTP; host "" if it is in no network."""
        networks = self._container.attrs["NetworkSettings"]["Networks"].values()
        return Endpoint(next((network["IPAddress"] for network in networks), ""), HTTP_PORT)

    def signal(self, number: int) -> None:
        """Send it a signal if it runs."""
        if self.alive:
            with asking():
                self._container.kill(signal=signal.Signals(number).name)

    def wipe(self) -> None:
        """Remove it and its volume."""
        with asking():
            volumes = [mount["Name"] for mount in self._container.attrs["Mounts"] if mount["Type"] == "volume"]
            self._container.remove(force=True)
            for name in volumes:
                self._container.client.volumes.get(name).remove()


class ContainerCluster(Cluster):
    """A balancer in a directory of its own, with servers in containers of `image`."""

    def __init__(self, reactor: Any, directory: Path, image: str) -> None:
        project = f"bench-{os.getpid()}"
        super().__init__(reactor, directory, ["--launcher", "docker", "--server-image", image, "--project", project])
        self._identity = directory / "data" / "identity.json"
        self._client: Any = None

    async def stop(self) -> None:
        """Stop everything, and remove what the cluster has in the engine."""
        await super().stop()
        if self._cluster_id:
            with asking():
                self._remove_all()

    def containers(self) -> list[ContainerServer]:
        """Return the servers that have a container; of two with one name the one that runs is the later one."""
        if not self._cluster_id:
            return []
        with asking():
            containers = self._engine.containers.list(all=True, filters=self._ours)
        found = [ContainerServer(container) for container in reversed(containers)]
        return sorted(found, key=attrgetter("alive"))

    def _remove_all(self) -> None:
        for container in self._engine.containers.list(all=True, filters=self._ours):
            container.remove(force=True)
        for kind in (self._engine.volumes, self._engine.networks):
            for one in kind.list(filters=self._ours):
                one.remove()
        self._engine.close()

    @property
    def _engine(self) -> Any:
        if self._client is None:
            self._client = connect_to_engine(os.environ, 1)
        return self._client

    @property
    def _ours(self) -> dict[str, str]:
        return {"label": f"{LABEL_CLUSTER}={self._cluster_id}"}

    @property
    def _cluster_id(self) -> str:
        """The cluster's id, "" before the balancer has one."""
        try:
            return str(msgspec.json.decode(self._identity.read_bytes())["cluster_id"])
        except FileNotFoundError:
            return ""
