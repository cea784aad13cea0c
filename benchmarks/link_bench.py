"""How fast a link is: `python -m benchmarks.link_bench [--seconds N] [--profile FILE]`.

Two processes on loopback, the real items and codec. One-way: the sender puts 1, 10 or 100 items into every reactor
turn, with at most WINDOW frames not yet acknowledged; both sides' CPU time per frame is what a frame costs. Round
trip: one request at a time, answered at once, and 100 at a time.
"""

from __future__ import annotations

import argparse
import cProfile
import sys
from random import Random
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import msgspec
from twisted.internet import defer, task
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import ProcessProtocol

from dbnode.wire import Applied, LinkItem, Propose, Stored
from raftlog.link import Connection, Endpoint, Identity, Lane
from raftlog.link.links import Links

#: Frames on their way; enough to keep both sides busy, few enough to stay in the sockets' buffers.
WINDOW = 64
COMMAND = b"x" * 120
#: Request ids with a meaning of their own; other requests are counted and acknowledged once per frame.
ECHO_FROM = 1 << 40

encode_items = msgspec.msgpack.Encoder().encode
decode_items: Any = msgspec.msgpack.Decoder(list[LinkItem]).decode


def make_links(reactor: Any, name: str, receive: Any) -> Links:
    """Return the links of one of the two processes."""
    identity = Identity("benchmark", "server", name, "one")
    return Links(reactor, identity, b"no secret", encode_items, decode_items, receive, rng=Random(1))


# ---- the answering process ------------------------------------------------------------------------------------


def answer(connection: Connection, items: list[Any]) -> None:
    """Acknowledge a frame, or answer each of its requests."""
    if items[0].request_id < ECHO_FROM:
        connection.send(Applied(len(items), ()))
        return
    for item in items:
        connection.send(Applied(item.request_id, (Stored(1),)))


async def serve(reactor: Any) -> None:
    """Answer until standard input ends."""
    links = make_links(reactor, "answerer", answer)
    links.startService()
    port = await links.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    print(port.getHost().port, flush=True)
    await defer.Deferred()


class Answerer(ProcessProtocol):
    """The answering process as the measuring one sees it."""

    def __init__(self) -> None:
        self.port: defer.Deferred[int] = defer.Deferred()
        self.ended: defer.Deferred[None] = defer.Deferred()

    def outReceived(self, data: bytes) -> None:
        """Take the port."""
        self.port.callback(int(data))

    def errReceived(self, data: bytes) -> None:
        """Show what it complains about."""
        sys.stderr.write(data.decode())

    def processEnded(self, reason: object) -> None:
        """Note the end."""
        self.ended.callback(None)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


# ---- the measuring process ------------------------------------------------------------------------------------


class Measurer:
    """Sends to the answerer and counts what comes back."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self.links = make_links(reactor, "measurer", self._receive)
        self._on_reply: Any = None

    def _receive(self, connection: Connection, items: list[Any]) -> None:
        for item in items:
            self._on_reply(item)

    async def one_way(self, items_per_turn: int) -> float:
        """Send so many items in each turn; return the frames per second."""
        sent = acknowledged = 0
        waiting = False
        item = Propose(1, 7, COMMAND, 10_000)
        send = self.links.send

        def turn() -> None:
            nonlocal sent, waiting
            waiting = sent - acknowledged >= WINDOW
            if waiting:
                return
            for _ in range(items_per_turn):
                send("answerer", Lane.DATA, item)
            sent += 1
            self._reactor.callLater(0, turn)

        def on_reply(reply: Applied) -> None:
            nonlocal acknowledged
            acknowledged += 1
            if waiting:
                turn()

        self._on_reply = on_reply
        turn()
        await task.deferLater(self._reactor, self._seconds)
        frames = acknowledged
        waiting = False
        self._on_reply = lambda reply: None
        sent += WINDOW
        await task.deferLater(self._reactor, 0.2)
        return frames / self._seconds

    async def round_trips(self, outstanding: int) -> list[float]:
        """Keep so many requests on their way, each sent when its predecessor is answered; return all latencies."""
        latencies: list[float] = []
        started: dict[int, float] = {}
        number = ECHO_FROM
        stopping = False

        def ask() -> None:
            nonlocal number
            number += 1
            started[number] = perf_counter()
            self.links.send("answerer", Lane.DATA, Propose(number, 7, COMMAND, 10_000))

        def on_reply(reply: Applied) -> None:
            latencies.append(perf_counter() - started.pop(reply.request_id))
            if not stopping:
                ask()

        self._on_reply = on_reply
        for _ in range(outstanding):
            ask()
        await task.deferLater(self._reactor, self._seconds)
        stopping = True
        await task.deferLater(self._reactor, 0.2)
        return latencies
