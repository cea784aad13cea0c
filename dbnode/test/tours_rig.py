"""A client whose reads of three groups share tours, and servers that answer as a test says."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import ReadBatches, ReadChannel, ReadTours, tours
from dbnode.test.client_rig import SERVERS, ClientRig, FakeServer
from dbnode.wire import LINEARIZABLE, Answer, Read, ReadPositions, Reply, Rows, Tour
from raftlog.testimony import NOWHERE, Position

GROUPS = (1, 2, 3)
LEADERS = dict(zip(GROUPS, SERVERS, strict=True))


def position(group_id: int) -> Position:
    """Return where a group is."""
    return Position(10 * group_id, 1)


class ReadToursCase(SynchronousTestCase):
    """Reads of three groups that share their tours."""

    def setUp(self) -> None:
        """Connect a client to three servers with a replica of three groups each, of which each leads one."""
        # A tour pays for whatever is in it, but where a test says otherwise.
        self.patch(tours, "SAVING_MIN", 0)
        self.rig = ClientRig()
        self.servers = list(self.rig.servers.values())
        self.channel = ReadChannel(self.rig.clock, self.rig.requests, Random(1))
        self.suspects: frozenset[str] = frozenset()
        self.chosen: Counter[int] = Counter()
        #: The read positions that servers find out, and whether they answer tours.
        self.leaders: dict[int, str] = dict(LEADERS)
        self.answers_tours = True
        for server in self.servers:
            server.answer = self.answer
        self.tours = self.new_tours()

    def new_tours(self, replicas: dict[int, tuple[str, ...]] | None = None) -> ReadTours:
        """Return the tours of groups that are on these servers, by default all on all."""
        self.replicas = replicas or dict.fromkeys(GROUPS, SERVERS)
        self.batches = {
            group_id: ReadBatches(
                self.rig.clock, self.channel, group_id, LINEARIZABLE, self.next_servers, self.next_servers
            )
            for group_id in self.replicas
        }
        names = {group_id: frozenset(servers) for group_id, servers in self.replicas.items()}
        return ReadTours(
            self.rig.clock, self.rig.requests, Random(2), names, self.batches, self.next_servers, lambda: self.suspects
        )

    def next_servers(self, group_id: int) -> tuple[str, ...]:
        """Return the servers of a group, beginning with another one each time."""
        servers = self.replicas[group_id]
        first = self.chosen[group_id] % len(servers)
        self.chosen[group_id] += 1
        return servers[first:] + servers[:first]

    def answer(self, item: Any) -> Reply | None:
        """Answer as servers do where nothing goes wrong: a tour that comes by the leader finds the position."""
        if isinstance(item, Tour):
            return self.found(item) if self.answers_tours else None
        assert isinstance(item, Read)
        return Rows(item.request_id, 1, b"%d" % item.low, None)

    def found(self, tour: Tour) -> Reply:
        """Return what a tour finds out."""
        entry = next(server.name for server in self.servers if tour in server.requests)
        visited = {entry, *tour.route}
        answers = [
            Answer(question.group_id, position(question.group_id) if leader in visited else NOWHERE, leader)
            for question in tour.questions
            for leader in [self.leaders[question.group_id]]
        ]
        return ReadPositions(tour.request_id, tuple(answers))

    def read(self, *ids: int, group_id: int = 1, timeout_seconds: float = 10) -> list[Deferred[Rows]]:
        """Read single rows."""
        batches = self.batches[group_id]
        reads = [batches.attempts(id_, id_, timeout_seconds=timeout_seconds, as_lines=False) for id_ in ids]
        for read in reads:
            self.tours.take(read)
        return [read.rows for read in reads]

    def learn(self) -> None:
        """Let a first tour find out who leads which group."""
        reads = [read for group_id in self.replicas for read in self.read(0, group_id=group_id)]
        self.rig.run(0.02)
        for read in reads:
            self.successResultOf(read)
        for server in self.servers:
            server.requests.clear()

    def asked_tours(self) -> list[tuple[str, Tour]]:
        """Return the tours that left, and where they entered, in order of their numbers."""
        tours = [(server.name, item) for server in self.servers for item in server.requests if isinstance(item, Tour)]
        return sorted(tours, key=lambda asked: asked[1].request_id)

    def asked_reads(self) -> list[tuple[str, int, int, int]]:
        """Return the reads that were sent: server, group, id and the index that must be applied."""
        return [
            (server.name, item.group_id, item.low, item.position.index)
            for server in self.servers
            for item in server.requests
            if isinstance(item, Read)
        ]

    def way_of(self, reads: list[Deferred[Rows]]) -> set[str]:
        """Let reads be answered; return the servers that their tour visited."""
        self.rig.run(0.02)
        for read in reads:
            self.successResultOf(read)
        entry, tour = self.asked_tours()[-1]
        return {entry, *tour.route}

    def let_tours_return(self) -> None:
        """Answer the tours that were left unanswered, and those to come."""
        self.answers_tours = True
        for name, tour in self.asked_tours():
            self.server(name).reply(self.found(tour))
        self.rig.settle()

    def server(self, name: str) -> FakeServer:
        """Return a server."""
        return self.rig.servers[name]

    def check(self, reads: list[Deferred[Rows]], *ids: int) -> None:
        """Check that reads were answered with these rows."""
        self.assertEqual([self.successResultOf(read).data for read in reads], [b"%d" % id_ for id_ in ids])

    def check_soon(self, reads: list[Deferred[Rows]], *ids: int) -> None:
        """Check that reads are answered without any time passing."""
        self.rig.settle()
        self.check(reads, *ids)

    def ignore_reads(self) -> None:
        """Answer no reads, but tours."""
        for server in self.servers:
            server.answer = lambda item: self.answer(item) if isinstance(item, Tour) else None

    def answer_reads(self) -> None:
        """Answer the reads that were left unanswered, and those to come."""
        for server in self.servers:
            server.answer = self.answer
            for item in list(server.requests):
                if isinstance(item, Read):
                    server.reply(Rows(item.request_id, 1, b"%d" % item.low, None))
        self.rig.settle()

    def read_everywhere(self, id_: int) -> list[Deferred[Rows]]:
        """Read a row of each group."""
        return [read for group_id in GROUPS for read in self.read(id_, group_id=group_id)]
