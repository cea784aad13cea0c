"""Three balancers and their servers in containers, of which some are killed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.task import deferLater

from lbnode.test.containers import container_of, docker, inspect
from lbnode.test.slow_compose import ALL, OURS, ROWS, CompositionCase


class ThreeBalancersTests(CompositionCase):
    compose_file = "compose.three.yaml"

    async def test_one_of_three_is_killed(self) -> None:
        """The controller's container is killed, then a leader's: the others serve, and have the leader back."""
        await self.make("up", "SERVER_NUMBER=3")
        for place, row in enumerate(ROWS):
            await self.ask("POST", "/write", {"data": [row]}, place)
        controller = await self.until(lambda: self.controller(0))
        first, second = {0, 1, 2} - {int(controller[2]) - 1}

        await docker("kill", await self.balancer(controller))
        leader = (await self.ask("GET", "/primary_elect", place=first))["sh1"]
        container = await container_of(leader, of=OURS)
        died = (await inspect(container))["State"]["StartedAt"]
        await docker("kill", container)
        more = {"Stud_id": 77, "Stud_name": "n", "Stud_marks": 1}
        self.assertEqual((await self.ask("POST", "/write", {"data": [more]}, second))["status"], "success")

        for place in (first, second):
            read = (await self.ask("POST", "/read", ALL, place))["data"]
            self.assertEqual(read, sorted([*ROWS, more], key=lambda row: row["Stud_id"]))
        while (await inspect(container))["State"]["StartedAt"] == died:
            await deferLater(self.reactor, 0.2)
        await self.until(lambda: self.serves(leader, first))
        await self.make("down")
        self.assertEqual(await self.running(), [])

    async def balancer(self, name: str) -> str:
        """Return the container of a balancer."""
        service = f"label=com.docker.compose.service={name}"
        return await docker("ps", "--quiet", "--filter", OURS, "--filter", service)

    async def controller(self, place: int) -> str:
        """Return who is the controller in the eyes of a balancer, "" if nobody is."""
        balancers = (await self.ask("GET", "/status", place=place))["balancers"]
        return next((one["name"] for one in balancers if one["state"] == "controller"), "")

    async def serves(self, server: str, place: int) -> str:
        """Return a server's name if it is up and serves all its replicas, else ""."""
        status = await self.ask("GET", "/status", place=place)
        replicas = [one for shard in status["shards"] for one in shard["replicas"] if one["server"] == server]
        is_well = all(one["state"] == "serving" for one in replicas)
        return server if is_well and status["server_states"][server]["state"] == "up" else ""

    async def until(self, said: Callable[[], Coroutine[Any, Any, str]]) -> str:
        """Return what is said, as soon as something is."""
        while not (text := await said()):
            await deferLater(self.reactor, 0.2)
        return text
