"""The way of a simulated client to the servers, and between them: real requests and replies over the simulated network.

As over a link, a request arrives once or never, and what a server that is down is asked fails at once. A reply that is
lost is missed after the time the asker gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from dbnode.client.outcome import Unanswered
from dbnode.client.requests import Requests
from dbnode.serving import Serving
from dbnode.testing.machine import ShardMachine
from dbnode.tours import Tours
from dbnode.wire import UNAVAILABLE, LinkItem, Read, ReadPositions, Reply, Request, Rows
from raftlog.link import Lane
from raftlog.node import Node
from raftlog.testing.simulation.cluster import Simulation
from raftlog.testing.simulation.server import SimulatedServer
from raftlog.testing.simulation.world import GROUP

#: How long it takes to find out that nobody listens.
REFUSED_SECONDS = 0.002


class SimulatedRequests:
    """An Asker. The requests of all clients of a simulation go through one."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._clock = simulation.world.clock
        self._last_id = 0
        self._rng = simulation.new_rng()
        #: What serves in each server's process.
        self._processes: dict[str, _Process] = {}

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """See Asker."""
        asked = _Asked(self._clock.callLater(timeout_seconds, lambda: asked.fail(sent=True)))
        target = self._simulation.servers.get(server)
        if target is None or not target.is_up:
            self._clock.callLater(REFUSED_SECONDS, lambda: asked.fail(sent=False))
            return asked.reply
        self._last_id += 1
        request = build(self._last_id)
        self._simulation.tell(f"client -> {server} {request}")
        self._simulation.world.network.carry(
            "client", server, lambda: target.run(lambda: self._ask(target, asked, request))
        )
        return asked.reply

    def _ask(self, server: SimulatedServer, asked: _Asked, request: Request) -> None:
        met = self._meets(server, request)
        self._serve(server, _Path(lambda reply: self._reply(server.name, asked, reply, met)), request)

    def _serve(self, server: SimulatedServer, path: _Path, item: LinkItem) -> None:
        node = server.node
        if node is not None:
            process = self._process_of(server, node)
            process.requests.received(process.serving.receive(path, [item]))

    def send(self, sender: str, to: str, item: LinkItem) -> bool:
        """Send something from server to server; False if nobody is there."""
        target = self._simulation.servers[to]
        if not target.is_up:
            return False
        self._simulation.tell(f"{sender} -> {to} {item}")
        back = _Path(lambda reply: self.send(to, sender, reply))
        self._simulation.world.network.carry(sender, to, lambda: target.run(lambda: self._serve(target, back, item)))
        return True

    def _process_of(self, server: SimulatedServer, node: Node) -> _Process:
        process = self._processes.get(server.name)
        if process is None or process.node is not node:
            process = self._processes[server.name] = self._new_process(server, node)
        serving = process.serving
        if isinstance(server.machine, ShardMachine):
            serving.replicas[GROUP] = server.machine.replica
        else:
            serving.replicas.clear()
        return process

    def _new_process(self, server: SimulatedServer, node: Node) -> _Process:
        links = _Links(partial(self.send, server.name))
        requests = Requests(server.clock, links, first_id=self._rng.getrandbits(63))
        tours = Tours(node, server.name, links, requests, lambda group_id: serving.leader_server(group_id))
        serving = Serving(node, self._clock, tours=tours)
        serving.peers[GROUP] = self._simulation.world.peers
        return _Process(node, serving, requests)

    def _reply(self, server: str, asked: _Asked, reply: Reply, met: list[str]) -> None:
        self._simulation.tell(f"{server} -> client {reply}")
        happened = self._simulation.world.happened
        code = getattr(reply, "code", "")
        if code:
            happened[f"refused: {code}"] += 1
        elif isinstance(reply, Rows):
            happened.update(met)
        elif isinstance(reply, ReadPositions):
            happened.update("tour: found a position" if a.position.index else "tour: found none" for a in reply.answers)
        self._simulation.world.network.carry(server, "client", lambda: asked.answer(reply))

    def _meets(self, server: SimulatedServer, request: Request) -> list[str]:
        """Return what will have happened once there are rows for this request."""
        node = server.node
        if node is None or GROUP not in node.group_ids or not isinstance(request, Read) or not request.position.index:
            return []
        index = request.position.index
        status = node.status(GROUP)
        met = ["read: at a position"]
        if index > status.applied_index:
            met.append("read: waited for a position")
        if index > status.last_index:
            met.append("read: waited for an entry to come")
        elif index > status.commit_index:
            met.append("read: told what is committed")
        return met


@dataclass(frozen=True, slots=True)
class _Process:
    """What serves in one process of a server, and what that process asks others."""

    node: Node
    serving: Serving
    requests: Requests


class _Links:
    """A server's links to the others. Fulfils dbnode.client's Sender."""

    def __init__(self, send: Callable[[str, LinkItem], bool]) -> None:
        self._send = send

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        return self._send(name, item)


class _Asked:
    """One request whose reply is waited for until `timeout`."""

    def __init__(self, timeout: Any) -> None:
        self.reply: Deferred[Reply] = Deferred()
        self._timeout = timeout

    def answer(self, reply: Reply) -> None:
        if not self.reply.called:
            self._timeout.cancel()
            self.reply.callback(reply)

    def fail(self, *, sent: bool) -> None:
        if self.reply.called:
            return
        if self._timeout.active():
            self._timeout.cancel()
        self.reply.errback(Unanswered(UNAVAILABLE, "no answer", sent=sent))


class _Path:
    """A ReplyPath back to the asker."""

    def __init__(self, reply: Callable[[Reply], object]) -> None:
        self._reply = reply

    def send(self, item: Any) -> bool:
        self._reply(item)
        return True
