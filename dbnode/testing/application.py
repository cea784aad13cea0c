"""What a simulated cluster replicates and who uses it: a shard, some clients, and the check of what they saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from dbnode import sessions
from dbnode.client import tours
from dbnode.testing.clients import Client, History, Target
from dbnode.testing.machine import ShardMachine
from dbnode.testing.requests import SimulatedRequests
from dbnode.testing.shared_reads import SharedReads
from raftlog import quiet
from raftlog.testing.linearizability import Verdict, check
from raftlog.testing.simulation.cluster import Outcome, Simulation
from raftlog.testing.simulation.world import GROUP, Violation

CLIENTS = 4
#: Sessions are forgotten all the time: after so many entries, or when so many others were opened.
SESSION_IDLE_ENTRIES = 40
SESSIONS_MAX = 5
#: Groups fall asleep whenever clients pause to think (see raftlog.sleep).
QUIET_TICKS = 3
#: A tour leaves for one group as well (see dbnode.client.tours).
SAVING_MIN = 0
#: Steps of the checker per key: more than any history of this length took yet.
STEPS_MAX = 3_000_000


class ShardApplication:
    """A raftlog.testing.simulation Application."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._history: History = []
        self._simulation: Simulation | None = None

    def new_machine(self, rng: random.Random) -> ShardMachine:
        """See Application."""
        return ShardMachine(random.Random(rng.getrandbits(64)))

    def start(self, simulation: Simulation) -> None:
        """See Application."""
        self._simulation = simulation
        requests = SimulatedRequests(simulation)
        world = simulation.world
        names = tuple(simulation.servers)
        shared = SharedReads(world.clock, requests, simulation.new_rng(), GROUP, names, self._without_replica)
        target = Target(world.clock, requests, GROUP, names, world.happened, self._history, shared=shared)
        self._clients = [Client(f"client{n}", target, simulation.new_rng()) for n in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _without_replica(self) -> frozenset[str]:
        """Return the servers that no tour needs to visit."""
        assert self._simulation is not None
        return frozenset(name for name, server in self._simulation.servers.items() if not server.replica_id)

    def finish(self) -> None:
        """See Application."""
        for client in self._clients:
            client.finish()

    def is_done(self) -> bool:
        """See Application."""
        return all(client.is_done for client in self._clients)

    def check(self) -> None:
        """See Application: every key's history must be linearizable."""
        assert self._simulation is not None
        for key, verdict in check(self._history, steps_max=STEPS_MAX).items():
            if verdict is Verdict.NOT_LINEARIZABLE:
                raise Violation(f"what the clients saw of key {key} is not linearizable:\n{self._events(key)}")
            self._simulation.world.happened["checker: undecided"] += 1

    def _events(self, key: object) -> str:
        part = sorted((operation for known, operation in self._history if known == key), key=lambda o: o.invoked)
        return "\n".join(
            f"  {o.invoked:8.4f} {o.returned:8.4f} {o.client} {o.kind.value} {o.argument} -> "
            f"{o.result if o.known else 'unknown'}"
            for o in part
        )


@contextmanager
def in_short() -> Iterator[None]:
    """Let happen within seconds and in one group what else takes a million entries, or minutes, or many groups."""
    with (
        patch.object(sessions, "SESSION_IDLE_ENTRIES", SESSION_IDLE_ENTRIES),
        patch.object(sessions, "SESSIONS_MAX", SESSIONS_MAX),
        patch.object(quiet, "QUIET_TICKS", QUIET_TICKS),
        patch.object(tours, "SAVING_MIN", SAVING_MIN),
    ):
        yield


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed to its end; raises Violation."""
    return new_simulation(seed, tell).run()


def new_simulation(seed: int, tell: Callable[[str], None] | None = None) -> Simulation:
    """Return a run of a shard that has not begun."""
    return Simulation(seed, ShardApplication(), tell)
