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
from dbnode.errors import ApiError
from lbnode.app import BalancerApp
from lbnode.catalog import Catalog
from lbnode.catalog_group import CatalogGroup
from lbnode.catalog_machine import CatalogMachine
from lbnode.cluster import ClusterRequests
from lbnode.control import LinkWatch, ServerControl, SharedWatch, WatchedLinks
from lbnode.controller import Controller, ControllerTimes
from lbnode.council import Company, Council
from lbnode.feed import Announcing, CatalogEndpoint, CatalogFeed
from lbnode.fleet import Fleet, FleetTimes
from lbnode.forwarding import Forwarding, no_controller
from lbnode.hot import DataRequests
from lbnode.initialise import Initialisation, InitTimes
from lbnode.launchers import Launcher
from lbnode.launchers.fenced import FencedLauncher
from lbnode.metrics import Metrics
from lbnode.operations import Operations
from lbnode.refusals import RETRY_AFTER_SECONDS, not_initialised
from lbnode.reshape import Reshape
from lbnode.resizing import ResizeTimes, Resizing
from lbnode.router import Router, RouterOptions
from lbnode.shared_cluster import SharedController, SharedRequests
from lbnode.upkeep import Upkeep, UpkeepTimes
from lbnode.wire import InitLimits, InitRequest
from raftlog.link import Lane, Receive
from raftlog.node import Node
from raftlog.options import Times
from raftlog.wal import RecoveredGroup, WriteAheadLog

#: What lbnode.reshape counts.
_STEPS = (
    ("change", "Changes of membership in effect."),
    ("handover", "Leaders asked to hand over because they leave."),
    ("failure", "Changes of membership that failed or whose outcome is unknown."),
)


#: More patience than shards have: without a controller only changes of the cluster wait, and a balancer that starts
#: servers on a busy machine is soon late. An election takes one to two seconds.
_CATALOG_TIMES = Times(tick_seconds=0.05, heartbeat_ticks=3, election_ticks=20)


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
    `company` is for one of several.
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
        company: Company | None = None,
        settings: BalancerSettings,
    ) -> None:
        self._machine = CatalogMachine(state_file)
        self._node = Node(
            clock,
            wal,
            recovered,
            _Others(lambda: self.council),
            rng,
            fatal=fatal,
            times=_CATALOG_TIMES,
            observe=lambda _: self.council.office.role_changed() if self.council is not None else None,
        )
        self._links = links_of(name, lambda _, items: self._requests.received(items))
        self._requests = Requests(clock, self._links)
        self.router = Router(
            clock, self._requests, self._links, rng, client_name=name, options=settings.router, absent=self._absent
        )

        def open_watch() -> LinkWatch:
            return LinkWatch(clock, lambda receive: links_of(f"{name} init", receive))

        catalog = CatalogGroup(self._node, self._machine, name, restored)
        # Whoever is alone is the controller for as long as it lives.
        acting = launcher if company is None else FencedLauncher(launcher, self._confirm)
        fleet = Fleet(clock, acting, control, catalog, settings.fleet)
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
        #: Its part among several balancers, None for one alone.
        self.council = (
            Council(clock, company, catalog, self.controller, self._node.receive) if company is not None else None
        )
        gauges: dict[tuple[str, str], Callable[[], float]] = {
            ("shardlb_reads_waiting", "Reads without an answer yet."): lambda: self.router.reads_waiting,
            ("shardlb_changes_waiting", "Changes without an outcome yet."): lambda: self.router.changes_waiting,
            ("shardlb_controller", "1 if this balancer is the controller, else 0."): lambda: (
                self.council is None or self.council.office.held_here
            ),
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
        cluster = self._requests_about_cluster(clock, company, limits)
        self.app = BalancerApp(self.router, data, cluster, metrics, CatalogEndpoint(self.feed, secret).answer)

    async def open(self, cluster_id: str) -> None:
        """Open the catalog and route to what it holds; requests can be taken from now on."""
        self._machine.load()
        self._machine.watch(self._catalog_changed)
        self._node.startService()
        self._links.watch(_ignore, self._requests.dropped)
        self._links.startService()
        self.router.startService()
        if self.council is not None:
            # What was known before is good enough to route by until more is heard.
            self.controller.catalog_changed(self._machine.catalog)
            await self.council.open(cluster_id)
        else:
            await self.controller.open(cluster_id)

    def start(self) -> None:
        """Begin to look after the servers; one of several does so when it is its turn."""
        if self.council is None:
            self.controller.startService()

    async def init(self, request: InitRequest) -> None:
        """Make a table if this balancer is the controller; raises ApiError as Operations.init does, `no_controller`."""
        if self.council is not None and not self.council.office.held_here:
            raise no_controller("another balancer is the controller, or nobody yet")
        await self.controller.init(request)

    def _requests_about_cluster(
        self, clock: IReactorTime, company: Company | None, limits: InitLimits
    ) -> ClusterRequests:
        if company is None or self.council is None:
            return ClusterRequests(Announcing(self.controller, self.feed), self.router, limits)
        council, feed = self.council, self.feed
        forwarding = Forwarding(clock, company.http, council.office.find, deadline_seconds=company.forward_seconds)

        async def announced() -> None:
            await council.caught_up()
            await feed.taken_over()

        controller = Announcing(SharedController(self.controller, council), feed)
        return SharedRequests(controller, self.router, limits, council, forwarding, announced)

    def _absent(self) -> ApiError:
        """Return what a request is told while there is nothing to route by."""
        if self.council is None or self.council.is_current:
            return not_initialised()
        text = "this balancer does not know the cluster yet: it waits for the others"
        return ApiError("no_catalog", text, status=503, applied="no", retry_after_seconds=RETRY_AFTER_SECONDS)

    async def _confirm(self) -> None:
        assert self.council is not None
        await self.council.office.confirm()

    @property
    def catalog(self) -> Catalog:
        """The catalog as last applied here."""
        return self._machine.catalog

    def release_followers(self) -> None:
        """Let nobody wait for a newer catalog any more, as the first step of stopping."""
        self.feed.stop()

    def _catalog_changed(self, catalog: Catalog) -> None:
        self.controller.catalog_changed(catalog)
        self.feed.changed(catalog)
        if self.council is not None:
            self.council.catalog_changed(catalog)

    async def stop(self) -> None:
        """Route no more, stop the servers unless there are other balancers, then the rest.

        The log is closed by who opened it.
        """
        await maybeDeferred(self.router.stopService)
        if self.council is not None:
            await self.council.stop()
        elif self.controller.running:
            await self.controller.stopService()
        self._requests.stop()
        await self._links.stopService()
        await maybeDeferred(self._node.stopService)


class _Others:
    """The transport of the catalog's group; a balancer alone has nobody to send to."""

    def __init__(self, council: Callable[[], Council | None]) -> None:
        self.council = council

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for another balancer; False if it was dropped."""
        council = self.council()
        return council is not None and council.links.send(name, lane, item)


def _ignore(name: str, lane: Lane) -> None:
    """Take no notice of a lane that came up."""
