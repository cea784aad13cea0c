"""A balancer put together: catalog, controller, router and endpoints, started and stopped in order.

What is particular to a process (files, sockets, threads) comes in from outside.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.client import Requests
from lbnode.app import BalancerApp
from lbnode.catalog import Catalog
from lbnode.catalog_group import CatalogGroup
from lbnode.catalog_machine import CatalogMachine
from lbnode.cluster import ClusterRequests
from lbnode.control import LinkWatch, ServerControl, SharedWatch, WatchedLinks
from lbnode.controller import Controller, ControllerTimes
from lbnode.feed import Announcing, CatalogEndpoint, CatalogFeed
from lbnode.fleet import Fleet, FleetTimes
from lbnode.hot import DataRequests
from lbnode.initialise import Initialisation, InitTimes
from lbnode.launchers import Launcher
from lbnode.metrics import Metrics
from lbnode.operations import Operations
from lbnode.reshape import Reshape
from lbnode.resizing import ResizeTimes, Resizing
from lbnode.router import Router, RouterOptions
from lbnode.upkeep import Upkeep, UpkeepTimes
from lbnode.wire import InitLimits
from raftlog.link import Lane, Receive
from raftlog.node import Node
from raftlog.wal import RecoveredGroup, WriteAheadLog

#: What lbnode.reshape counts.
_STEPS = (
    ("change", "Changes of membership in effect."),
    ("handover", "Leaders asked to hand over because they leave."),
    ("failure", "Changes of membership that failed or whose outcome is unknown."),
)


class BalancerSettings(msgspec.Struct, frozen=True):
    """What an operator chose."""

    router: RouterOptions
    init: InitTimes
    resize: ResizeTimes
    rows_max: int
    fleet: FleetTimes = FleetTimes()
    upkeep: UpkeepTimes = UpkeepTimes()


class Balancer:
    """One balancer.

    `name` was never used before by a balancer of the cluster: its sessions and links go by it. `state_file` keeps the
    catalog, `wal` and `recovered` are its log. `links_of` makes unstarted links for a name and a receiver; who knows
    `secret` may follow the catalog; `fatal` ends the process. `restored` is what a catalog that is gone begins with.
    """

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        *,
        name: str,
        state_file: Path,
        wal: WriteAheadLog,
        recovered: dict[int, RecoveredGroup],
        links_of: Callable[[str, Receive], WatchedLinks],
        launcher: Launcher,
        control: ServerControl,
        secret: bytes,
        fatal: Callable[[Failure], None],
        restored: Catalog | None = None,
        settings: BalancerSettings,
    ) -> None:
        self._machine = CatalogMachine(state_file)
        self._node = Node(clock, wal, recovered, _Nobody(), rng, fatal=fatal)
        self._links = links_of(name, lambda _, items: self._requests.received(items))
        self._requests = Requests(clock, self._links)
        self.router = Router(clock, self._requests, self._links, rng, client_name=name, options=settings.router)

        def open_watch() -> LinkWatch:
            return LinkWatch(clock, lambda receive: links_of(f"{name} init", receive))

        catalog = CatalogGroup(self._node, self._machine, name, restored)
        fleet = Fleet(clock, launcher, control, catalog, settings.fleet)
        upkeep = Upkeep(clock, catalog, fleet, settings.upkeep)
        launcher.on_exit(upkeep.ended)
        watch = SharedWatch(self._requests)
        reshape = Reshape(catalog, watch)
        limits = InitLimits()
        self.controller = Controller(
            clock,
            catalog,
            fleet,
            upkeep,
            Operations(
                catalog,
                Initialisation(clock, catalog, fleet, open_watch, settings.init),
                Resizing(clock, catalog, fleet, watch, reshape.doing, rng, limits, settings.resize),
            ),
            reshape,
            watch,
            self.router.configure,
            ControllerTimes(),
        )
        gauges: dict[tuple[str, str], Callable[[], float]] = {
            ("shardlb_reads_waiting", "Reads without an answer yet."): lambda: self.router.reads_waiting,
            ("shardlb_changes_waiting", "Changes without an outcome yet."): lambda: self.router.changes_waiting,
            ("shardlb_followers", "Processes that follow the catalog here."): lambda: self.feed.followers,
        }
        counters: dict[tuple[str, str], Callable[[], float]] = {
            ("shardlb_respawns", "Servers started by their keepers."): lambda: upkeep.respawns,
            ("shardlb_homes_replaced", "Servers that lost their data and began anew."): lambda: upkeep.homes_replaced,
            ("shardlb_replicas_moved", "Replicas replaced by others."): lambda: self.controller.replicas_moved,
        }
        for kind, text in _STEPS:
            counters[(f"shardlb_membership_{kind}s", text)] = partial(reshape.steps.__getitem__, kind)
        metrics = Metrics(clock.seconds, gauges, counters, {"name": name, "role": "balancer"})
        data = DataRequests(self.router, rows_max=settings.rows_max)
        self.feed = CatalogFeed(clock, lambda: self._machine.catalog)
        cluster = ClusterRequests(Announcing(self.controller, self.feed), self.router, limits)
        self.app = BalancerApp(self.router, data, cluster, metrics, CatalogEndpoint(self.feed, secret).answer)

    async def open(self, cluster_id: str) -> None:
        """Open the catalog and route to what it holds; requests can be taken from now on."""
        self._machine.load()
        self._machine.watch(self._catalog_changed)
        self._node.startService()
        self._links.watch(_ignore, self._requests.dropped)
        self._links.startService()
        self.router.startService()
        await self.controller.open(cluster_id)

    def start(self) -> None:
        """Begin to look after the servers."""
        self.controller.startService()

    def release_followers(self) -> None:
        """Let nobody wait for a newer catalog any more, as the first step of stopping."""
        self.feed.stop()

    def _catalog_changed(self, catalog: Catalog) -> None:
        self.controller.catalog_changed(catalog)
        self.feed.changed(catalog)

    async def stop(self) -> None:
        """Route no more, stop the servers, then the rest. The log is closed by who opened it."""
        await maybeDeferred(self.router.stopService)
        if self.controller.running:
            await self.controller.stopService()
        self._requests.stop()
        await self._links.stopService()
        await maybeDeferred(self._node.stopService)


class _Nobody:
    """The transport of a group of one: there is nobody to send to."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Drop it."""
        return False


def _ignore(name: str, lane: Lane) -> None:
    """Take no notice of a lane that came up."""
