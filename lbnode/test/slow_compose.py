"""`make up` to `make clean` with a real engine: a composition that serves, and leaves nothing of ours behind."""

from __future__ import annotations

import socket
import sys
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from lbnode.test.containers import (
    BASE_IMAGE,
    PROJECT,
    ROOT,
    built_images,
    command,
    docker,
    everything,
    inspect,
    make_command,
)

ROWS = [{"Stud_id": id_, "Stud_name": f"n{id_}", "Stud_marks": id_} for id_ in (0, 5000, 16383)]
ALL = {"Stud_id": {"low": 0, "high": 20000}}
#: Other tests go on with the images of PROJECT, which `make clean` would remove; these are made of the same layers.
COMPOSED = f"{PROJECT}-composed"
OURS = f"label=shardlb.project={COMPOSED}"
FOREIGN = f"foreign-{PROJECT}"


class CompositionCase(TestCase):
    """A composition of this process's own project, on free ports; it is removed afterwards."""

    timeout = 300
    compose_file = "compose.yaml"

    def setUp(self) -> None:
        """Have the images and three free ports."""
        from twisted.internet import reactor

        built_images()
        self.reactor: Any = reactor
        free = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.ports: list[int] = [one.getsockname()[1] for one in free]
        for one in free:
            one.close()
        self.http = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)))
        self.addCleanup(self.make, "clean-containers")

    async def make(self, target: str, *variables: str) -> str:
        """Return what `make` says."""
        ports = [f"{name}={port}" for name, port in zip(("PORT", "PORT_2", "PORT_3"), self.ports, strict=True)]
        return await command(*make_command(target, COMPOSED), f"COMPOSE_FILE={self.compose_file}", *ports, *variables)

    async def ask(self, method: str, path: str, body: Any = None, place: int = 0) -> Any:
        """Return the body of an answer of the balancer at one of the ports."""
        url = f"http://127.0.0.1:{self.ports[place]}{path}"
        response = await self.http.request(method, url, data=None if body is None else msgspec.json.encode(body))
        return msgspec.json.decode(await response.content())

    async def running(self) -> list[str]:
        """Return our containers that run."""
        return (await docker("ps", "--quiet", "--filter", OURS)).split()


class OneBalancerTests(CompositionCase):
    async def test_from_up_to_clean(self) -> None:
        """It serves, A-4 passes, what was written survives `make down`, and `make clean` leaves what is not ours."""
        foreign = ["--name", FOREIGN, "--volume", f"{FOREIGN}:/data", "--label", "shardlb.project=another"]
        await docker("run", "--detach", *foreign, BASE_IMAGE, "sleep", "1000")
        self.addCleanup(docker, "volume", "rm", FOREIGN)
        self.addCleanup(docker, "rm", "--force", FOREIGN)

        await self.make("up")
        balancer = await inspect(await docker("ps", "--quiet", "--filter", f"ancestor={COMPOSED}-balancer"))
        await self.check_confined(balancer)
        bench = await command(sys.executable, f"{ROOT}/bin/bench", "A-4", "--url", f"http://127.0.0.1:{self.ports[0]}")
        self.assertIn("exactly what was acknowledged", bench)

        await self.ask("POST", "/write", {"data": ROWS})
        await self.make("down")
        self.assertEqual(await self.running(), [])
        await self.make("up")
        self.assertEqual((await self.ask("POST", "/read", ALL))["data"], ROWS)

        await self.make("clean-containers")
        self.assertEqual(await everything(OURS), [])
        self.assertTrue((await inspect(FOREIGN))["State"]["Running"])
        self.assertEqual(await docker("volume", "ls", "--quiet", "--filter", f"name={FOREIGN}"), FOREIGN)

    async def check_confined(self, balancer: Any) -> None:
        """Check that the balancer is not root, is reached from this machine only, and alone has the engine's socket."""
        status = await docker("exec", balancer["Id"], "cat", "/proc/1/status")
        for line in ("Uid:\t10001\t10001\t10001\t10001", "CapEff:\t0000000000000000"):
            self.assertIn(line, status)
        self.assertEqual(balancer["HostConfig"]["PortBindings"]["5000/tcp"][0]["HostIp"], "127.0.0.1")
        for container in await self.running():
            told = await inspect(container)
            has_socket = any("docker.sock" in mount["Source"] for mount in told["Mounts"])
            self.assertEqual(has_socket, told["Id"] == balancer["Id"], told["Name"])
