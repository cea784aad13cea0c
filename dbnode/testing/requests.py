"""The way of a simulated client to the servers: real requests and replies over the simulated network.

As over a link, a request arrives once or never, and what a server that is down is asked fails at once. A reply that is
lost is missed after the time the asker gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from dbnode.client.outcome import Unanswered
from dbnode.serving import Serving
from dbnode.testing.machine import ShardMachine
from dbnode.wire import UNAVAILABLE, Reply, Request
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
        #: Who serves in which process.
        self._serving: dict[str, tuple[Node, Serving]] = {}

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
        path = _Path(lambda reply: self._reply(server, asked, reply))
        self._simulation.world.network.carry(
            "client", server, lambda: target.run(lambda: self._serve(target, path, request))
        )
        return asked.reply

    def _serve(self, server: SimulatedServer, path: _Path, request: Request) -> None:
        node = server.node
        if node is not None:
            self._serving_of(server, node).receive(path, [request])

    def _serving_of(self, server: SimulatedServer, node: Node) -> Serving:
        known = self._serving.get(server.name)
        if known is None or known[0] is not node:
            known = self._serving[server.name] = (node, Serving(node, self._clock))
            known[1].peers[GROUP] = self._simulation.world.peers
        serving = known[1]
        if isinstance(server.machine, ShardMachine):
            serving.replicas[GROUP] = server.machine.replica
        else:
            serving.replicas.clear()
        return serving

    def _reply(self, server: str, asked: _Asked, reply: Reply) -> None:
        self._simulation.tell(f"{server} -> client {reply}")
        code = getattr(reply, "code", "")
        if code:
            self._simulation.world.happened[f"refused: {code}"] += 1
        self._simulation.world.network.carry(server, "client", lambda: asked.answer(reply))


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

    def __init__(self, reply: Callable[[Reply], None]) -> None:
        self._reply = reply

    def send(self, item: Any) -> bool:
        self._reply(item)
        return True
