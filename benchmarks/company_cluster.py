"""A cluster of the bench's own with several balancers, which share its servers; one is the controller."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
from twisted.internet.task import deferLater

from benchmarks.door import Door, NotConnectedError
from benchmarks.http1 import Response
from benchmarks.process import answers, free_port
from benchmarks.spawn import Cluster
from benchmarks.workloads import Workload

#: How long a balancer may take to come back and find the others.
_BACK_SECONDS = 60.0
#: How long to wait while nobody is the controller.
_RETRY_SECONDS = 0.2


class AnyDoor(Door):
    """Several balancers as a client uses them: its own one first, another if that takes no connection.

    What only a controller can do is asked again while there is none, since nothing has happened then.
    """

    def __init__(self, reactor: Any, ports: Sequence[int], first: int = 0) -> None:
        ordered = [*ports[first:], *ports[:first]]
        super().__init__(reactor, "127.0.0.1", ordered[0])
        self._others = [Door(reactor, "127.0.0.1", port) for port in ordered[1:]]

    async def ask(self, method: str, path: str, body: object = None, *, deadline_seconds: float = 60.0) -> Response:
        """See Door.ask."""
        until_seconds = self._reactor.seconds() + deadline_seconds
        while True:
            response = await self._ask_any(method, path, body, deadline_seconds)
            nobody_decides = response.status == 503 and b'"no_controller"' in response.body
            if not nobody_decides or self._reactor.seconds() > until_seconds:
                return response
            await deferLater(self._reactor, _RETRY_SECONDS)

    async def _ask_any(self, method: str, path: str, body: object, deadline_seconds: float) -> Response:
        try:
            return await super().ask(method, path, body, deadline_seconds=deadline_seconds)
        except NotConnectedError as reason:
            for door in self._others:
                try:
                    return await door.ask(method, path, body, deadline_seconds=deadline_seconds)
                except NotConnectedError:
                    continue
            raise reason


class CompanyCluster(Cluster):
    """`count` balancers in a directory of their own, and their servers; `doors` has one for clients of each.

    `arguments` are further ones of every balancer.
    """

    def __init__(self, reactor: Any, directory: Path, count: int, arguments: Sequence[str] = ()) -> None:
        names = [f"lb{number}" for number in range(1, count + 1)]
        secret = directory / "secret"
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(token_hex(32))
        shared = ["--peers", ",".join(f"{name}=127.0.0.1:{free_port()}" for name in names)]
        shared += ["--secret-file", str(secret), "--servers-dir", str(directory / "servers"), *arguments]
        super().__init__(reactor, directory, ["--name", names[0], *shared])
        first_port = int(self.door.host.rpartition(":")[2])
        ports = [first_port, *(free_port() for _ in names[1:])]
        self._data = {name: directory / name for name in names} | {names[0]: directory / "data"}
        self._balancers = {names[0]: self._balancer}
        for name, port in zip(names[1:], ports[1:], strict=True):
            where = ["--port", str(port), "--data-dir", str(self._data[name])]
            self._balancers[name] = self._child(f"{name}.log", "shardlb", *where, "--name", name, *shared)
        self.doors = [AnyDoor(reactor, ports, place) for place in range(count)]
        self.door = self.doors[0]
        self._own = {name: Door(reactor, "127.0.0.1", port) for name, port in zip(names, ports, strict=True)}
        self._kills = 0
        self._killed = names[0]

    async def start(self, workload: Workload) -> None:
        """See Cluster.start."""
        for balancer in list(self._balancers.values())[1:]:
            balancer.start()
        await super().start(workload)

    async def stop(self) -> None:
        """Stop the balancers, then the servers that they leave."""
        for balancer in list(self._balancers.values())[1:]:
            await balancer.stop()
        await super().stop()

    def kill_balancer(self) -> None:
        """End a balancer without warning: the controller every other time, else each in turn."""
        names = list(self._balancers)
        turn, self._kills = self._kills, self._kills + 1
        self._killed = self._controller() if turn % 2 == 0 else names[turn // 2 % len(names)]
        self._balancers[self._killed].kill()

    async def start_balancer(self) -> None:
        """Start the balancer that was killed last; returns once it is ready. Raises StartError."""
        balancer, door = self._balancers[self._killed], self._own[self._killed]
        await balancer.stop()
        balancer.start()
        await balancer.until(lambda: answers(door, "GET", "/healthz"), _BACK_SECONDS)

    def _controller(self) -> str:
        """Return who is the controller as the catalogs on the balancers' disks say."""
        offices = []
        for path in self._data.values():
            try:
                state = msgspec.json.decode((path / "catalog" / "state.json").read_bytes())
            except FileNotFoundError:
                continue
            if (office := state["catalog"].get("office")) is not None:
                offices.append((office["number"], office["holder"]))
        return str(max(offices)[1]) if offices else self._killed
