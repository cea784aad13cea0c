"""Three servers, or more, with a driver each over an in-memory network and log, and one clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from raftlog.link import Lane
from raftlog.messages import ConfState, Entry, RaftItem
from raftlog.node import Node
from raftlog.options import Limits, Times
from raftlog.status import RoleChange
from raftlog.wal import MemoryWal, RecoveredGroup

GROUP = 7


class Journal:
    """A state machine that remembers the data it applied."""

    def __init__(self) -> None:
        self.applied_index = 0
        self.lines: list[bytes] = []

    def apply(self, entries: Sequence[Entry]) -> list[Any]:
        """Append each entry's data; the result is how many lines there are then."""
        results = []
        for entry in entries:
            assert entry.index == self.applied_index + 1
            self.applied_index = entry.index
            if entry.data:
                self.lines.append(entry.data)
            results.append(len(self.lines))
        return results

    def make_durable(self) -> Deferred[int]:
        """All of it is as durable as memory is here."""
        return succeed(self.applied_index)

    def export(self, chunk_bytes: int) -> Deferred[Any]:
        """Copy it, a line a chunk."""
        copy: Any = JournalExport(self.applied_index, [b"", *self.lines])
        return succeed(copy)

    def begin_import(self) -> JournalImport:
        """Begin to take another journal's lines."""
        return JournalImport(self)


class JournalExport:
    """A copy on its way out; the first chunk is its index."""

    def __init__(self, applied_index: int, chunks: list[bytes]) -> None:
        self.applied_index = applied_index
        self._chunks = [str(applied_index).encode(), *chunks[1:]]

    def next_chunk(self) -> Deferred[bytes | None]:
        """Return the next chunk."""
        return succeed(self._chunks.pop(0) if self._chunks else None)

    def close(self) -> Deferred[None]:
        """Do nothing: a copy in memory holds nothing."""
        return succeed(None)


class JournalImport:
    """A copy on its way in."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._chunks: list[bytes] = []
        self.aborted = False

    def write(self, chunk: bytes) -> Deferred[None]:
        """Take a chunk."""
        self._chunks.append(chunk)
        return succeed(None)

    def finish(self) -> Deferred[None]:
        """Replace the journal's content."""
        self._journal.applied_index = int(self._chunks[0])
        self._journal.lines = self._chunks[1:]
        return succeed(None)

    def abort(self) -> Deferred[None]:
        """Forget it."""
        self.aborted = True
        return succeed(None)


class SlowJournal(Journal):
    """A state machine that answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[tuple[Sequence[Entry], Deferred[Sequence[Any]]]] = []

    def apply(self, entries: Sequence[Entry]) -> Any:
        """Queue the entries until `go`."""
        deferred: Deferred[Sequence[Any]] = Deferred()
        self.pending.append((entries, deferred))
        return deferred

    def go(self) -> None:
        """Apply what was asked for first."""
        entries, deferred = self.pending.pop(0)
        deferred.callback(super().apply(entries))


class Network:
    """Delivers everything in the next instant, except to or from servers that are cut off."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.nodes: dict[str, Node] = {}
        self.cut: set[str] = set()
        #: Items for which this is true are dropped.
        self.drops: Callable[[RaftItem], bool] = lambda item: False
        self.sent: list[tuple[str, str, Lane, RaftItem]] = []

    def door(self, sender: str) -> Door:
        """Return the sender's transport."""
        return Door(self, sender)


class Door:
    """One server's side of the network."""

    def __init__(self, network: Network, sender: str) -> None:
        self.network = network
        self.sender = sender

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Deliver `item` at the same instant, but in a later call."""
        network = self.network
        if name in network.cut or self.sender in network.cut or network.drops(item):
            return False
        network.sent.append((self.sender, name, lane, item))
        network.clock.callLater(0, lambda: network.nodes[name].receive([item]))
        return True


class Three:
    """Three servers A, B, C with replicas 1, 2, 3 of one group, or as many as are named."""

    def __init__(
        self,
        machines: dict[str, Journal] | None = None,
        limits: Limits | None = None,
        times: Times | None = None,
        servers: str = "ABC",
    ) -> None:
        self.limits = limits
        self.times = times
        self.clock = Clock()
        self.network = Network(self.clock)
        self.machines = machines or {name: Journal() for name in servers}
        self.wals = {name: MemoryWal(auto=True) for name in servers}
        self.recovered: dict[str, dict[int, RecoveredGroup]] = {name: {} for name in servers}
        self.failures: list[Failure] = []
        self.changes: list[RoleChange] = []
        self.peers = dict(enumerate(servers, start=1))
        voters = ConfState(voters=tuple(self.peers))
        for replica_id, name in self.peers.items():
            node = self.start(name)
            _ = node.create_group(GROUP, replica_id, voters, dict(self.peers), self.machines[name])

    def start(self, name: str) -> Node:
        """Make a node on what its log holds."""
        node = Node(
            self.clock,
            self.wals[name],
            self.recovered[name],
            self.network.door(name),
            random.Random(name),
            fatal=self.failures.append,
            observe=self.changes.append,
            limits=self.limits,
            times=self.times,
        )
        self.network.nodes[name] = node
        node.startService()
        return node

    def crash(self, name: str) -> Node:
        """Stop a server at once, losing what was not synced, and make a node on what its log holds."""
        self.network.nodes[name].stopService()
        self.wals[name], self.recovered[name] = self.wals[name].crash()
        return self.start(name)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)
            for _ in range(8):
                self.clock.advance(0)

    def leader(self) -> str:
        """Return the server that leads, after making sure that there is one."""
        leaders = [name for name, node in self.network.nodes.items() if node.status(GROUP).role == "leader"]
        live = [name for name in leaders if name not in self.network.cut]
        assert len(live) == 1, leaders
        return live[0]
