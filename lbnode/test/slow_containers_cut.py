"""Servers in containers that are cut off from their network, wholly or one way, under writes and reads."""

from __future__ import annotations

import os
import sys
from shutil import which
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from lbnode.test.container_cluster import ContainerClusterCase
from lbnode.test.containers import command, docker, inspect

#: Longer than elections and than links need to notice, shorter than a request is held.
CUT_SECONDS = 6.0


class ContainersCutTests(ContainerClusterCase):
    """No client is refused anything, nothing is lost, and the server is back by itself; who waited how long is told."""

    def setUp(self) -> None:
        """Have measured nothing yet."""
        super().setUp()
        self.longest_write_seconds = self.longest_read_seconds = 0.0

    async def _one(self, key: int) -> None:
        """Write a row and read it at once."""
        began = self.reactor.seconds()
        await super()._one(key)
        written = self.reactor.seconds()
        _, answer = await self.ask("POST", "/read", {"Stud_id": {"low": key, "high": key}})
        self.longest_write_seconds = max(self.longest_write_seconds, written - began)
        self.longest_read_seconds = max(self.longest_read_seconds, self.reactor.seconds() - written)
        if key in self.acknowledged and [row["Stud_id"] for row in answer.get("data", [])] != [key]:
            self.refused.append(answer)

    async def leader(self) -> str:
        """Return the server that leads sh1."""
        name = (await self.ask("GET", "/primary_elect"))[1]["sh1"]
        assert isinstance(name, str)
        return name

    async def healed(self, what: str) -> None:
        """Wait until every replica serves again, tell who waited, and check what clients saw."""
        ended = self.reactor.seconds()
        await self.until_whole()
        waited = f"write {self.longest_write_seconds:.2f} s, read {self.longest_read_seconds:.2f} s"
        again = f"whole again after {self.reactor.seconds() - ended:.2f} s"
        sys.stdout.write(f"\n{what} for {CUT_SECONDS:g} s: longest {waited}; {again}\n")
        await self.check()

    async def cut_off(self, server: str) -> None:
        """Take a server out of the cluster's network for a while."""
        container = (await self.containers())[server]
        joined = (await inspect(container))["NetworkSettings"]["Networks"]
        (network,) = joined
        aliases = [f"--alias={name}" for name in joined[network]["Aliases"] or ()]
        await docker("network", "disconnect", network, container)
        await deferLater(self.reactor, CUT_SECONDS)
        await docker("network", "connect", *aliases, network, container)

    async def test_leader(self) -> None:
        """A leader is alone for a while: its shards are led by others, and it follows when it is back."""
        await self.begin()
        await self.until_whole()

        await self.cut_off(await self.leader())

        await self.healed("a leader disconnected")

    async def test_follower(self) -> None:
        """A server that leads nothing of sh1 is alone for a while."""
        await self.begin()
        await self.until_whole()
        leader = await self.leader()

        await self.cut_off(next(server for server in self.servers_up if server != leader))

        await self.healed("another server disconnected")

    async def test_one_way(self) -> None:
        """A leader is heard by the other servers for a while, and hears none of them."""
        if os.geteuid() != 0 or which("nft") is None or which("nsenter") is None:
            raise SkipTest("to break one direction takes root, nft and nsenter")
        await self.begin()
        await self.until_whole()
        leader = await self.leader()
        others = [await self.address(server) for server in self.servers_up if server != leader]

        inside = ("nsenter", "--net", f"--target={await self.pid_of(leader)}", "nft")
        await command(*inside, "add table ip breaks")
        await command(*inside, "add chain ip breaks input { type filter hook input priority 0; }")
        await command(*inside, f"add rule ip breaks input ip saddr {{ {', '.join(others)} }} drop")
        await deferLater(self.reactor, CUT_SECONDS)
        await command(*inside, "delete table ip breaks")

        await self.healed("a leader deaf to the other servers")

    async def address(self, server: str) -> Any:
        """Return a server's address in the cluster's network."""
        (joined,) = (await inspect((await self.containers())[server]))["NetworkSettings"]["Networks"].values()
        return joined["IPAddress"]
