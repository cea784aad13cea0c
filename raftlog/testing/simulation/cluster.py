"""A simulated cluster with one group, from one seed: faults, then peace, and the invariants all the time.

    outcome = Simulation(seed, Application()).run()

What is replicated and what clients do is the `Application`'s. A run raises Violation, or returns how far it came.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from twisted.logger import ILogObserver, globalLogPublisher

from raftlog.messages import RaftItem
from raftlog.status import RoleChange
from raftlog.testing.simulation.clock import SimulatedClock
from raftlog.testing.simulation.faults import Faults
from raftlog.testing.simulation.invariants import Invariants
from raftlog.testing.simulation.membership import Membership
from raftlog.testing.simulation.network import SimulatedNetwork
from raftlog.testing.simulation.server import SimulatedServer
from raftlog.testing.simulation.timeline import STEP_SECONDS, Timeline
from raftlog.testing.simulation.world import GROUP, SimulatedMachine, Violation, World

#: How many voters the group has at least, and the servers; the larger ones are every fourth seed's.
SMALL = 3, "ABCDE"
LARGE = 5, "ABCDEFG"
#: The first replicas are durable by then: before, there is no group that could be asked to survive anything.
FOUND_SECONDS = 0.1
#: Simulated seconds of faults, and how long healing may take at most: a snapshot that is stuck is given up after 30.
FAULT_SECONDS = 12.0
HEAL_SECONDS_MAX = 80.0
#: How often it is asked whether all is well again.
LOOK_SECONDS = 0.1


class Application(Protocol):
    """What is replicated, and who uses it."""

    def new_machine(self, rng: random.Random) -> SimulatedMachine:
        """Return an empty state machine."""

    def start(self, simulation: Simulation) -> None:
        """Let clients begin."""

    def finish(self) -> None:
        """Let clients begin nothing new but a last request each; called when everything has healed."""

    def is_done(self) -> bool:
        """Return whether all clients have come to an end and their last requests succeeded."""

    def check(self) -> None:
        """Raise Violation if what the clients saw can't be."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went: simulated seconds, events, committed entries, the seconds that healing took, what happened."""

    seed: int
    seconds: float
    events: int
    committed: int
    healed_seconds: float
    happened: Mapping[str, int]


class Simulation:
    """One run. `tell` takes the lines of the trace."""

    def __init__(self, seed: int, application: Application, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.application = application
        self._tell = tell
        self._failure: BaseException | None = None
        clock = SimulatedClock()
        network = SimulatedNetwork(clock, self.new_rng(), self._deliver, self._sent)
        self.world = World(
            clock,
            network,
            new_machine=application.new_machine,
            tell=self.tell,
            look=self._look,
            role_changed=self._role_changed,
            failed=self._failed,
        )
        self.invariants = Invariants(self.world.happened)
        voters_min, names = SMALL if seed % 4 else LARGE
        self.servers = {name: SimulatedServer(name, self.world, self.new_rng()) for name in names}
        self._membership = Membership(self.world, self.new_rng(), self.servers, voters_min)
        self.timeline = Timeline(self.servers, GROUP)

    def new_rng(self) -> random.Random:
        """Return a generator of its own for something."""
        return random.Random(self.rng.getrandbits(64))

    # ---- what is heard ----------------------------------------------------------------------------------------

    def tell(self, line: str) -> None:
        """Put a line into the trace, with the time."""
        if self._tell is not None:
            self._tell(f"{self.world.clock.seconds():10.6f} {line}")

    def _sent(self, sender: str, to: str, item: RaftItem) -> None:
        self.invariants.sent(item)
        self.world.happened[f"sent: {type(item).__name__}"] += 1
        if self._tell is not None:
            self.tell(f"{sender} -> {to} {item}")

    def _deliver(self, to: str, item: RaftItem) -> None:
        self.servers[to].deliver(item)

    def _look(self, node: Any) -> None:
        self.invariants.look(node)

    def _role_changed(self, server: str, change: RoleChange) -> None:
        self.world.happened[f"role: {change.role}"] += 1
        if self._tell is not None:
            self.tell(
                f"{server} replica {change.replica_id} is {change.role} in term {change.term}, "
                f"leader {change.leader_id or 'unknown'}"
            )

    def _failed(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error

    def _logged(self, event: Mapping[str, Any]) -> None:
        """Take a failure that was only logged: whatever it is, it must not happen here."""
        failure = event.get("log_failure")
        if failure is not None:
            self._failed(failure.value)

    # ---- a run ------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Run to the end; raises Violation, or whatever else went wrong."""
        observer = cast(ILogObserver, self._logged)
        globalLogPublisher.addObserver(observer)
        try:
            return self._run()
        finally:
            globalLogPublisher.removeObserver(observer)

    def _run(self) -> Outcome:
        clock = self.world.clock
        for server in self.servers.values():
            server.start()
        self._membership.found()
        self._run_until(FOUND_SECONDS)
        faults = Faults(self.world, self.new_rng(), self.servers, self._membership.faults())
        self.application.start(self)
        faults.start()
        self._draw()
        self._run_until(FAULT_SECONDS)
        faults.heal()
        self._membership.repair()
        self.application.finish()
        began = clock.seconds()
        while not self._has_settled():
            if clock.seconds() > began + HEAL_SECONDS_MAX:
                raise Violation(
                    f"no progress within {HEAL_SECONDS_MAX} seconds after everything healed\n{self._states()}"
                )
            self._run_until(clock.seconds() + LOOK_SECONDS)
        self._compare()
        self.application.check()
        return Outcome(
            self.seed,
            clock.seconds(),
            clock.events,
            len(self.invariants.committed),
            clock.seconds() - began,
            self.world.happened,
        )

    def _run_until(self, seconds: float) -> None:
        step = self.world.clock.step
        while step(seconds):
            if self._failure is not None:
                raise self._failure

    def _draw(self) -> None:
        self.timeline.look()
        self.world.clock.callLater(STEP_SECONDS, self._draw)

    # ---- the end ----------------------------------------------------------------------------------------------

    def _has_settled(self) -> bool:
        members = self._membership.members()
        if not members or not self.application.is_done():
            return False
        return len({member.machine.applied_index for member in members if member.machine is not None}) == 1

    def _compare(self) -> None:
        contents = {m.name: m.machine.content() for m in self._membership.members() if m.machine is not None}
        first = next(iter(contents))
        for name, content in contents.items():
            if content != contents[first]:
                raise Violation(f"replicas differ: {name} has {content}, {first} has {contents[first]}")

    def _states(self) -> str:
        return "\n".join(f"  {name}: {_state(server)}" for name, server in self.servers.items())


def _state(server: SimulatedServer) -> str:
    if server.node is None:
        return "down"
    if GROUP not in server.node.group_ids:
        return "no replica"
    return repr(server.node.status(GROUP))
