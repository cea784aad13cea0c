"""A running balancer whose servers are containers of this machine's engine, as `make up` makes them.

A server's container is found by the labels that the balancer gave it; nothing else is ever killed.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from benchmarks.door import Door
from benchmarks.kill import NoSuchServerError


class Containers:
    """The cluster behind `door`."""

    def __init__(self, reactor: Any, door: Door) -> None:
        self._reactor = reactor
        self.door = door

    async def kill(self, name: str) -> None:
        """End a server without warning, as `kill -9` does. Raises NoSuchServerError if it is no container."""
        status = await self.door.json("GET", "/status")
        home = status["server_states"][name]["home"]
        ours = (f"label=shardlb.cluster={status['cluster_id']}", f"label=shardlb.home={home}")
        container = await self._docker("ps", "--quiet", *(f"--filter={label}" for label in ours))
        if not container:
            raise NoSuchServerError(f"no container of this machine is {name}; at --url, A-4 kills containers only")
        await self._docker("kill", container)

    async def _docker(self, *arguments: str) -> str:
        running: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            "docker", arguments, env=os.environ, reactor=self._reactor
        )
        said, complaint, status = await running
        if status:
            raise NoSuchServerError(f"docker {arguments[0]}: {complaint.decode(errors='replace').strip()}")
        return said.decode().strip()
