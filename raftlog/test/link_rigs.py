"""Two ways to join processes for the suite of links: memory, and the real Links over pipes that a test pumps."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

import msgspec
from twisted.internet.task import Clock

from raftlog.link import Connection, Endpoint, Identity, Lane, PeerLinks, Role
from raftlog.link.links import Links
from raftlog.link.memory import MemoryLinks, MemoryNetwork
from raftlog.link.options import LinkOptions
from raftlog.test.pipes import PipeClientEndpoint, Pipes, PipeServerEndpoint

encode = msgspec.msgpack.encode
decode: Any = msgspec.msgpack.decode


class Process:
    """A process of the suite: its links, and what they told it."""

    links: PeerLinks

    def __init__(self, name: str, role: Role, cluster_id: str, incarnation: str) -> None:
        self.identity = Identity(cluster_id, role, name, incarnation)
        #: A list per frame, and the connections that brought them.
        self.frames: list[list[Any]] = []
        self.connections: list[Connection] = []
        self.ups: list[tuple[str, Lane]] = []
        self.downs: list[tuple[str, Lane]] = []
        self.ends: list[str] = []

    def receive(self, connection: Connection, items: list[Any]) -> None:
        """Record a frame; "echo" is answered, "fail" raises."""
        self.frames.append(items)
        self.connections.append(connection)
        for item in items:
            if item == "fail":
                raise ValueError("asked to fail")
            if item == "echo":
                connection.send(f"echo of {self.identity.name}")

    def watch(self, links: PeerLinks) -> None:
        """Record what these links, ours, tell about lanes."""
        self.links = links
        links.watch(
            lambda name, lane: self.ups.append((name, lane)),
            lambda name, lane: self.downs.append((name, lane)),
            self.ends.append,
        )


class Rig(Protocol):
    """What the suite needs of a world in which processes are joined by links."""

    def start(
        self,
        name: str,
        role: Role = "server",
        cluster_id: str = "c1",
        incarnation: str = "first",
        eager: tuple[Lane, ...] | None = None,
    ) -> Process:
        """Start a process."""

    def stop(self, process: Process) -> None:
        """Stop it."""

    def endpoint(self, process: Process) -> Endpoint:
        """Return where it listens."""

    def part(self, one: Process, other: Process) -> None:
        """Break what connects the two, and let them not reach each other."""

    def rejoin(self, one: Process, other: Process) -> None:
        """Undo `part`."""

    def settle(self) -> None:
        """Let everything happen that happens by itself, redialling included."""


class MemoryRig:
    """Processes on a MemoryNetwork."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()

    def start(
        self,
        name: str,
        role: Role = "server",
        cluster_id: str = "c1",
        incarnation: str = "first",
        eager: tuple[Lane, ...] | None = None,
    ) -> Process:
        """Start a process."""
        process = Process(name, role, cluster_id, incarnation)
        links = MemoryLinks(self.network, process.identity, process.receive, encode=encode, decode=decode, eager=eager)
        process.watch(links)
        links.startService()
        return process

    def stop(self, process: Process) -> None:
        """Stop it."""
        assert isinstance(process.links, MemoryLinks)
        assert process.links.stopService().called

    def endpoint(self, process: Process) -> Endpoint:
        """Return where it listens."""
        return Endpoint(process.identity.name, 1)

    def part(self, one: Process, other: Process) -> None:
        """Cut both ways."""
        self.network.cut(one.identity.name, other.identity.name)

    def rejoin(self, one: Process, other: Process) -> None:
        """Undo `part`."""
        self.network.heal(one.identity.name, other.identity.name)

    def settle(self) -> None:
        """Flush until nothing arrives."""
        self.network.flush()
        while self.network.flush():
            pass


class PipeRig:
    """Processes with the real Links, joined by pipes."""

    def __init__(self, options: LinkOptions | None = None) -> None:
        self.clock = Clock()
        self.pipes = Pipes()
        self.options = options or LinkOptions()

    def start(
        self,
        name: str,
        role: Role = "server",
        cluster_id: str = "c1",
        incarnation: str = "first",
        eager: tuple[Lane, ...] | None = None,
    ) -> Process:
        """Start a process."""
        process = Process(name, role, cluster_id, incarnation)
        links = Links(
            self.clock,
            process.identity,
            b"the secret",
            encode,
            decode,
            process.receive,
            rng=Random(1),
            options=self.options,
            dial=lambda target: PipeClientEndpoint(self.pipes, name, target),
            eager=eager,
        )
        process.watch(links)
        links.startService()
        assert links.listen(PipeServerEndpoint(self.pipes, self.endpoint(process))).called
        return process

    def stop(self, process: Process) -> None:
        """Stop it; returns when it has stopped."""
        assert isinstance(process.links, Links)
        stopped = process.links.stopService()
        self.turn()
        assert stopped.called

    def endpoint(self, process: Process) -> Endpoint:
        """Return where it listens."""
        return Endpoint(process.identity.name, 1)

    def part(self, one: Process, other: Process) -> None:
        """Break their pipes."""
        self.pipes.part(one.identity.name, other.identity.name)

    def rejoin(self, one: Process, other: Process) -> None:
        """Undo `part`."""
        self.pipes.rejoin(one.identity.name, other.identity.name)

    def turn(self) -> None:
        """Let happen what needs no time."""
        self.clock.advance(0)
        while self.pipes.pump():
            self.clock.advance(0)

    def settle(self) -> None:
        """Let as much time pass as redialling may take."""
        self.turn()
        for _ in range(5):
            self.clock.advance(self.options.ping_seconds)
            self.turn()
