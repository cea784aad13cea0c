"""A whole cluster in memory: the real balancer and real servers over links, logs and stores in memory, by one clock.

Nothing here is pretended but the edges: sockets, disks, processes and time.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dbnode.jsonhttp import JsonSite, Limits
from lbnode.balancer import Balancer, BalancerSettings
from lbnode.initialise import InitTimes
from lbnode.launchers.memory import HomeLinks, MemoryControl, MemoryLauncher
from lbnode.resizing import ResizeTimes
from lbnode.router import RouterOptions
from lbnode.test.balancers import Disk, run
from raftlog.link import Identity, Receive
from raftlog.link.memory import MemoryLinks

T = TypeVar("T")

CLUSTER_ID = "c1"
_NAME = "balancer-1"
SECRET = b"secret"


class Cluster:
    """A balancer that has begun to serve, without a table. `directory` takes the balancer's state file."""

    def __init__(self, directory: Path, router: RouterOptions | None = None) -> None:
        self.clock = Clock()
        #: What would have ended a process.
        self.fatal: list[Failure] = []
        self.launcher = MemoryLauncher(self.clock, random.Random(1), self.fatal.append)
        disk = Disk(directory)
        self.balancer = Balancer(
            self.clock,
            random.Random(2),
            name=_NAME,
            state_file=disk.path,
            wal=disk.wal,
            recovered=disk.recovered,
            links_of=self._links_of,
            launcher=self.launcher,
            control=MemoryControl(self.launcher),
            secret=SECRET,
            fatal=self.fatal.append,
            settings=BalancerSettings(router or RouterOptions(), InitTimes(), ResizeTimes(), rows_max=100_000),
        )
        run(self.clock, self.balancer.open(CLUSTER_ID))
        self.balancer.start()

    def site(self, *, lean: bool) -> JsonSite:
        """Return the balancer's site, with the hot endpoints in the lean lane or behind Klein."""
        app = self.balancer.app
        return JsonSite(self.clock, app.app.resource(), Limits(), app.direct if lean else None, app.uploads)

    def run(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """Let time go by until something has ended, and return what it returns."""
        return run(self.clock, work)

    def stop(self) -> None:
        """Stop everything."""
        run(self.clock, self.balancer.stop())

    def _links_of(self, name: str, receive: Receive) -> HomeLinks:
        identity = Identity(CLUSTER_ID, "balancer", name, _NAME)
        return HomeLinks(MemoryLinks(self.launcher.network, identity, receive), self.launcher.home_at)
