"""Shards in memory behind dbnode.client's Asker: the real state machine on a store in memory, without Raft or links.

Every server answers for every group, since all replicas of a group are one here. What a test wants to see go wrong, it
says: a server that is gone or silent, replies that are lost, groups without a leader.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from dbnode.apply import apply_items
from dbnode.client import Unanswered
from dbnode.machine import Machine, command_from_bytes
from dbnode.memory import MemoryStore
from dbnode.schema import Schema, rows_to_json, rows_to_lines
from dbnode.sessions import Rejected
from dbnode.wire import (
    STALE,
    UNAVAILABLE,
    Answer,
    Applied,
    Endpoint,
    Leader,
    Propose,
    Read,
    ReadPositions,
    Refused,
    Reply,
    Request,
    Rows,
    Tour,
    WhoLeads,
)
from lbnode.layout import Layout, ServerAddress, ShardLayout
from lbnode.router import Router, RouterOptions
from raftlog.testimony import NOWHERE, Position

STUDENTS = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))


class MemoryShards:
    """An Asker that answers in the next reactor turn."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        #: Servers that refuse connections, and servers that take requests and never answer.
        self.gone: set[str] = set()
        self.silent: set[str] = set()
        #: Groups without a leader: they refuse everything but stale reads. Groups whose replies to changes are lost.
        self.leaderless: set[int] = set()
        self.forgetful: set[int] = set()
        #: Who leads all groups, as far as tours are concerned.
        self.leader = "Server0"
        #: Whom each request was for, in order.
        self.asked: list[tuple[str, Request]] = []
        self._schema = STUDENTS
        self._groups: dict[int, tuple[Machine, MemoryStore]] = {}
        self._numbers = count(1)

    def set_schema(self, schema: Schema) -> None:
        """Forget all groups and be a table of another schema."""
        self._schema = schema
        self._groups.clear()

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """Carry out one request."""
        request = build(next(self._numbers))
        self.asked.append((server, request))
        if server in self.gone:
            return fail(Unanswered(UNAVAILABLE, f"{server} is not connected", sent=False))
        reply: Deferred[Reply] = Deferred()
        if server in self.silent or (isinstance(request, Tour) and self.silent.intersection(request.route)):
            self._time_out(reply, timeout_seconds)
            return reply
        answer = self._found(server, request) if isinstance(request, Tour) else self._answer(request)
        if isinstance(request, Propose) and request.group_id in self.forgetful:
            self._time_out(reply, timeout_seconds)
        else:
            self.clock.callLater(0, reply.callback, answer)
        return reply

    def _time_out(self, reply: Deferred[Reply], timeout_seconds: float) -> None:
        error = Unanswered(UNAVAILABLE, "no reply in time", sent=True)
        self.clock.callLater(timeout_seconds, reply.errback, error)

    def _found(self, entry: str, tour: Tour) -> Reply:
        visited = {entry, *tour.route} - self.gone
        answers = []
        for question in tour.questions:
            known = self.leader in visited and question.group_id not in self.leaderless
            applied_index = self._group(question.group_id)[0].position.applied_index
            answers.append(Answer(question.group_id, Position(1 + applied_index, 1) if known else NOWHERE, self.leader))
        return ReadPositions(tour.request_id, tuple(answers))

    def _answer(self, request: Request) -> Reply:
        if isinstance(request, WhoLeads):
            return Leader(request.request_id, "", 0)
        assert isinstance(request, Propose | Read)
        stale = isinstance(request, Read) and request.consistency == STALE
        if request.group_id in self.leaderless and not stale:
            return Refused(request.request_id, UNAVAILABLE, f"group {request.group_id} has no leader")
        machine, store = self._group(request.group_id)
        if isinstance(request, Read):
            page = store.scan(request.low, request.high, request.limit, request.bytes_max)
            encode = rows_to_lines if request.as_lines else rows_to_json
            return Rows(request.request_id, len(page.rows), encode(self._schema, page.rows), page.next)
        command = command_from_bytes(self._schema, request.command)
        outcomes = apply_items(machine, store, [(machine.position.applied_index + 1, command)])
        assert isinstance(outcomes, list)
        outcome = outcomes[0]
        if isinstance(outcome, Rejected):
            return Refused(request.request_id, outcome.code, outcome.message)
        return Applied(request.request_id, outcome)

    def _group(self, group_id: int) -> tuple[Machine, MemoryStore]:
        if group_id not in self._groups:
            store, machine = MemoryStore(self._schema), Machine()
            machine.restore(store.open())
            self._groups[group_id] = machine, store
        return self._groups[group_id]


class MemoryDirectory:
    """A Directory that only remembers."""

    def __init__(self) -> None:
        self.peers: dict[str, Endpoint] = {}

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Remember an address."""
        self.peers[name] = endpoint

    def remove_peer(self, name: str) -> None:
        """Forget an address."""
        del self.peers[name]


def layout(
    *sizes: int,
    schema: Schema = STUDENTS,
    servers: tuple[str, ...] = ("Server0", "Server1", "Server2"),
    first_id: int = 0,
) -> Layout:
    """Return shards sh1, sh2… of these sizes, one after the other from `first_id`, each on all servers."""
    shards, low = [], first_id
    for number, size in enumerate(sizes, start=1):
        replicas = {10 * number + place: name for place, name in enumerate(servers)}
        shards.append(ShardLayout(number, f"sh{number}", low, size, replicas))
        low += size
    addresses = {
        name: ServerAddress(Endpoint("127.0.0.1", 7000 + place), Endpoint("127.0.0.1", 8000 + place))
        for place, name in enumerate(servers)
    }
    return Layout("cluster", schema, tuple(shards), addresses)


def router_over(
    shards: MemoryShards, options: RouterOptions | None = None, directory: MemoryDirectory | None = None
) -> Router:
    """Return a router without a layout."""
    return Router(
        shards.clock,
        shards,
        directory or MemoryDirectory(),
        random.Random(1),
        client_name="balancer",
        options=options or RouterOptions(),
    )
