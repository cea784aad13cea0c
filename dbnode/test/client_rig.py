"""A client over memory links, and servers that answer as a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.task import Clock

from dbnode.client import Departures, Requests, SessionOptions, ShardSession
from dbnode.wire import (
    NOT_LEADER,
    Applied,
    Batch,
    Delete,
    Done,
    Leader,
    OpenSession,
    Propose,
    Refused,
    Reply,
    Request,
    Status,
    WhoLeads,
    decode_command,
    decode_items,
    encode_items,
)
from raftlog.link import Connection, Endpoint, Identity, Lane
from raftlog.link.memory import MemoryLinks, MemoryNetwork

GROUP = 7
SERVERS = ("A", "B", "C")


class FakeServer:
    """A server that records requests and answers each with `answer(request)`; None: not at all, for now."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self.name = name
        self.requests: list[Request] = []
        self.answer: Callable[[Any], Reply | None] = self.accept
        #: Whom it says to lead, and in which term, when it is asked; None: it does not answer.
        self.leader: tuple[str, int] | None = ("", 0)
        #: How often it was asked.
        self.inquiries = 0
        self.links = MemoryLinks(
            network, Identity("c", "server", name, name), self._receive, encode=encode_items, decode=decode_items
        )
        self._connections: dict[int, Connection] = {}

    @property
    def commands(self) -> list[Batch | OpenSession]:
        """The commands proposed here, in order."""
        return [decode_command(item.command) for item in self.requests if isinstance(item, Propose)]

    @property
    def batches(self) -> list[Batch]:
        """The batches among them."""
        return [command for command in self.commands if isinstance(command, Batch)]

    def reply(self, reply: Reply) -> None:
        """Answer a request that was left unanswered."""
        self._connections[reply.request_id].send(reply)

    def accept(self, item: Propose) -> Reply:
        """Answer as a leader that applies everything."""
        command = decode_command(item.command)
        operations = command.operations if isinstance(command, Batch) else ()
        return Applied(item.request_id, tuple(Done() for _ in operations))

    def refuse(self, code: str = NOT_LEADER, leader: str = "", *, maybe_applied: bool = False) -> None:
        """Refuse everything from now on."""
        self.answer = lambda item: Refused(item.request_id, code, f"{code} here", leader, maybe_applied)

    def ignore(self) -> None:
        """Answer nothing from now on."""
        self.answer = lambda item: None

    def open_only(self) -> None:
        """Open sessions and answer no batch from now on."""
        self.answer = lambda item: None if isinstance(decode_command(item.command), Batch) else self.accept(item)

    def _receive(self, connection: Connection, items: list[Any]) -> None:
        for item in items:
            if isinstance(item, WhoLeads):
                self.inquiries += 1
                if self.leader is not None:
                    connection.send(Leader(item.request_id, *self.leader))
                continue
            self.requests.append(item)
            self._connections[item.request_id] = connection
            reply = self.answer(item)
            if reply is not None:
                connection.send(reply)


class ClientRig:
    """A client "balancer" and the fake servers A, B and C."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.servers = {name: FakeServer(self.network, name) for name in SERVERS}
        identity = Identity("c", "balancer", "balancer", "b")
        self.links = MemoryLinks(
            self.network,
            identity,
            lambda _, items: self.requests.received(items),
            encode=encode_items,
            decode=decode_items,
        )
        self.requests = Requests(self.clock, self.links)
        self.links.watch(lambda name, lane: None, self.requests.dropped)
        for name, server in self.servers.items():
            server.links.startService()
            self.links.set_peer(name, Endpoint("memory", 1))
        self.links.startService()
        self.settle()

    def session(
        self,
        options: SessionOptions | None = None,
        servers: Sequence[str] = SERVERS,
        *,
        group_id: int = GROUP,
        departures: Departures | None = None,
    ) -> ShardSession:
        """Return a session of the group on the servers."""
        return ShardSession(
            self.clock,
            self.requests,
            Random(1),
            group_id=group_id,
            client_name="client",
            servers=servers,
            options=options,
            departures=departures,
        )

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(8):
            self.clock.advance(0)

    def run(self, seconds: float) -> None:
        """Let time pass, in steps of 2 ms."""
        for _ in range(round(seconds / 0.002)):
            self.clock.advance(0.002)
            self.settle()

    def connected(self, name: str) -> bool:
        """Return whether the client is connected to a server."""
        return self.links.connected(name, Lane.DATA)


def status(request_id: int) -> Request:
    """Build a Status request."""
    return Status(request_id)


def delete(key: int) -> Delete:
    """Return an operation that is easy to tell from others."""
    return Delete(key)
