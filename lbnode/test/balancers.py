"""A balancer's catalog for tests: real Raft group, log in memory, state in a temporary file, one fake clock."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from lbnode.catalog_group import CatalogGroup, CatalogMachine
from raftlog.link import Lane
from raftlog.node import Node
from raftlog.wal import MemoryWal, RecoveredGroup

T = TypeVar("T")

#: How finely a test's time goes by.
STEP_SECONDS = 0.025


class Nobody:
    """The transport of a group of one."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Drop it."""
        return False


class Disk:
    """What a balancer's death leaves behind: its log and its state file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "catalog.json"
        self.wal = MemoryWal(auto=True)
        self.recovered: dict[int, RecoveredGroup] = {}

    def crash(self) -> None:
        """Let the process die that uses it."""
        self.wal, self.recovered = self.wal.crash()


class BalancerCatalog:
    """A catalog on a disk, with the Node that hosts it."""

    def __init__(self, clock: Clock, disk: Disk) -> None:
        self.failures: list[Failure] = []
        self.node = Node(clock, disk.wal, disk.recovered, Nobody(), random.Random(1), fatal=self.failures.append)
        self.machine = CatalogMachine(disk.path)
        self.machine.load()
        self.group = CatalogGroup(self.node, self.machine, "balancer")
        self.node.startService()


def run(clock: Clock, coroutine: Coroutine[Deferred[Any], Any, T], *, seconds_max: float = 300.0) -> T:
    """Let time go by until a coroutine ends, and return what it returns; raises what it raises."""
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    pass_time(clock, until=lambda: bool(outcome), seconds_max=seconds_max)
    assert running.called, f"still running after {seconds_max} seconds"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]  # type: ignore[no-any-return]  # a Deferred does not say what it carries


def pass_time(clock: Clock, *, until: Any, seconds_max: float = 300.0) -> None:
    """Let time go by until `until()` is true, or for so long."""
    end_seconds = clock.seconds() + seconds_max
    while not until() and clock.seconds() < end_seconds:
        clock.advance(STEP_SECONDS)
