"""What all servers of a simulation share: time, network, the directory of replicas, and who hears of what happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from raftlog.node import Node
from raftlog.statemachine import StateMachine
from raftlog.status import RoleChange
from raftlog.testing.simulation.clock import SimulatedClock
from raftlog.testing.simulation.network import SimulatedNetwork

#: The one group of a simulation.
GROUP = 1


class Violation(AssertionError):
    """Something happened that must never happen, or did not happen in time."""


class SimulatedMachine(StateMachine, Protocol):
    """A state machine that can be looked into, and outlives processes."""

    def begin(self, clock: IReactorTime) -> None:
        """Take up what is there, in a new process with this clock."""

    def crash(self, *, power_off: bool) -> None:
        """Lose the process; without power also what was not made durable, or some of it."""

    def content(self) -> object:
        """Return everything replicated, comparable between replicas."""


@dataclass
class World:
    """`peers` is the cluster's directory of replicas. `happened` counts what happened, by its name.

    `new_machine` makes an empty state machine; `tell` takes a line of the trace; `look` is called after everything
    that ran in a node's process; `role_changed` hears of roles by server; `failed` takes what went wrong in a place
    that cannot raise.
    """

    clock: SimulatedClock
    network: SimulatedNetwork
    new_machine: Callable[[Random], SimulatedMachine]
    tell: Callable[[str], None]
    look: Callable[[Node], None]
    role_changed: Callable[[str, RoleChange], None]
    failed: Callable[[BaseException], None]
    peers: dict[int, str] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
