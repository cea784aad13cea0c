"""Balancers for tests: a real Raft group for the catalog and real servers, all in memory and under one fake clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dbnode.client.control import ControlFailed
from dbnode.wire import Endpoint, ManagedConfig, ServerFile
from lbnode.catalog import Catalog, Command
from lbnode.catalog_group import CatalogGroup
from lbnode.catalog_machine import CatalogMachine
from lbnode.controller import Controller, ControllerTimes
from lbnode.fleet import Fleet, FleetTimes
from lbnode.initialise import Initialisation, InitTimes
from lbnode.launchers import ServerSpec
from lbnode.launchers.memory import MemoryControl, MemoryLauncher, MemoryWatch
from lbnode.layout import Layout
from lbnode.membership import Change
from lbnode.operations import Operations
from lbnode.reshape import Reshape
from lbnode.resizing import ResizeTimes, Resizing
from lbnode.upkeep import Upkeep, UpkeepTimes
from lbnode.wire import InitLimits
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


class Fuse:
    """Kills a balancer at a given step: from then on nothing that it awaits ever happens."""

    def __init__(self, steps: int | None = None) -> None:
        self.left = steps
        self.taken = 0

    @property
    def burnt(self) -> bool:
        """Whether the balancer is dead."""
        return self.left is not None and self.taken >= self.left

    async def step(self) -> None:
        """Take one step, or wait forever."""
        if self.burnt:
            await Deferred()
        self.taken += 1


class FusedLauncher:
    """A Launcher in the hands of a balancer that dies before or after something happens."""

    def __init__(self, launcher: MemoryLauncher, fuse: Fuse) -> None:
        self._launcher = launcher
        self._fuse = fuse

    def open(self) -> Deferred[None]:
        """See Launcher.open."""
        return self._launcher.open()

    def close(self) -> Deferred[None]:
        """See Launcher.close."""
        return self._launcher.close()

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """See Launcher.start."""
        return Deferred.fromCoroutine(self._fused(lambda: self._launcher.start(spec)))

    def look(self, home: str) -> Deferred[ServerFile | None]:
        """See Launcher.look."""
        return self._launcher.look(home)

    def stop(self, home: str) -> Deferred[None]:
        """See Launcher.stop."""
        return Deferred.fromCoroutine(self._fused(lambda: self._launcher.stop(home)))

    def on_exit(self, ended: Callable[[str], None]) -> None:
        """See Launcher.on_exit."""
        self._launcher.on_exit(lambda home: None if self._fuse.burnt else ended(home))

    def destroy(self, home: str) -> Deferred[None]:
        """See Launcher.destroy."""
        return Deferred.fromCoroutine(self._fused(lambda: self._launcher.destroy(home)))

    async def _fused(self, act: Callable[[], Deferred[T]]) -> T:
        await self._fuse.step()
        result = await act()
        await self._fuse.step()
        return result


class FusedControl(MemoryControl):
    """A ServerControl in the hands of such a balancer."""

    def __init__(self, launcher: MemoryLauncher, fuse: Fuse) -> None:
        super().__init__(launcher)
        self._fuse = fuse
        #: Whether no heartbeat gets an answer.
        self.deaf = False

    async def heartbeat(self, server: Endpoint, timeout_seconds: float) -> None:
        """See ServerControl.heartbeat."""
        if self.deaf:
            raise ControlFailed("unreachable", "no answer")
        await super().heartbeat(server, timeout_seconds)

    async def configure(
        self, server: Endpoint, schema: dict[str, list[str]], cluster: ManagedConfig, timeout_seconds: float
    ) -> None:
        """See ServerControl.configure."""
        await self._fuse.step()
        await super().configure(server, schema, cluster, timeout_seconds)
        await self._fuse.step()


class FusedWatch(MemoryWatch):
    """A ReplicaWatch in the hands of such a balancer."""

    def __init__(self, launcher: MemoryLauncher, fuse: Fuse) -> None:
        super().__init__(launcher)
        self._fuse = fuse

    def reconfigure(self, change: Change) -> Deferred[str]:
        """See ReplicaWatch.reconfigure."""
        return Deferred.fromCoroutine(self._reconfigure(change))

    async def _reconfigure(self, change: Change) -> str:
        await self._fuse.step()
        outcome = await super().reconfigure(change)
        await self._fuse.step()
        return outcome


class FusedCatalog(CatalogGroup):
    """The catalog of such a balancer."""

    fuse: Fuse

    async def propose(self, command: Command) -> Catalog:
        """See CatalogGroup.propose."""
        await self.fuse.step()
        result = await super().propose(command)
        await self.fuse.step()
        return result


class Balancer:
    """A controller with all that belongs to it, on a disk and over servers that outlive it."""

    def __init__(
        self,
        clock: Clock,
        disk: Disk,
        launcher: MemoryLauncher,
        *,
        fuse: Fuse | None = None,
        restored: Catalog | None = None,
    ) -> None:
        self.clock = clock
        self.disk = disk
        self.fuse = fuse or Fuse()
        self.layouts: list[Layout | None] = []
        catalog = BalancerCatalog(clock, disk)
        self.node, self.failures = catalog.node, catalog.failures
        self.catalog = FusedCatalog(catalog.node, catalog.machine, "balancer", restored)
        self.catalog.fuse = self.fuse
        fused = FusedLauncher(launcher, self.fuse)
        self.control = FusedControl(launcher, self.fuse)
        self.fleet = Fleet(clock, fused, self.control, self.catalog, FleetTimes())
        self.upkeep = Upkeep(clock, self.catalog, self.fleet, UpkeepTimes())
        fused.on_exit(self.upkeep.ended)
        self.watch = FusedWatch(launcher, self.fuse)
        initialisation = Initialisation(
            clock, self.catalog, self.fleet, lambda: MemoryWatch(launcher), InitTimes(deadline_seconds=60.0)
        )
        reshape = Reshape(self.catalog, self.watch)
        resizing = Resizing(
            clock,
            self.catalog,
            self.fleet,
            self.watch,
            reshape.doing,
            random.Random(1),
            InitLimits(),
            ResizeTimes(deadline_seconds=60.0),
        )
        self.controller = Controller(
            clock,
            self.catalog,
            self.fleet,
            self.upkeep,
            Operations(self.catalog, initialisation, resizing),
            reshape,
            self.watch,
            self.layouts.append,
            ControllerTimes(),
        )
        catalog.machine.watch(self.controller.catalog_changed)

    def open(self) -> None:
        """Start the balancer."""
        run(self.clock, self.controller.open("c1"))
        self.controller.startService()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.fuse.left = 0
        self.node.stopService()
        self.disk.crash()


def run(clock: Clock, coroutine: Coroutine[Deferred[Any], Any, T], *, seconds_max: float = 300.0) -> T:
    """Let time go by until a coroutine ends, and return what it returns; raises what it raises."""
    outcome: list[Any] = []
    running = Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    pass_time(clock, until=lambda: bool(outcome), seconds_max=seconds_max)
    assert running.called, f"still running after {seconds_max} seconds"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]  # type: ignore[no-any-return]  # a Deferred does not say what it carries


def pass_time(clock: Clock, *, until: Callable[[], bool], seconds_max: float = 300.0) -> None:
    """Let time go by until `until()` is true, or for so long."""
    end_seconds = clock.seconds() + seconds_max
    while not until() and clock.seconds() < end_seconds:
        clock.advance(STEP_SECONDS)
