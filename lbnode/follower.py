"""A stateless follower put together: the router and the data endpoints of a balancer, by the catalog of another.

It keeps nothing and decides nothing. Whatever changes the cluster is passed on to the balancer that it follows; what
can be learned from the servers themselves it asks them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime

from dbnode.client import Requests
from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, Response, json_response
from dbnode.wire import Endpoint
from lbnode import overview
from lbnode.app import BalancerApp
from lbnode.catalog import Catalog
from lbnode.control import SharedWatch, WatchedLinks
from lbnode.following import CatalogSource, Following, FollowTimes
from lbnode.forwarding import Forwarding
from lbnode.hot import DataRequests
from lbnode.late_links import LateLinks
from lbnode.layout import Layout
from lbnode.metrics import Metrics
from lbnode.projection import layout_of
from lbnode.refusals import RETRY_AFTER_SECONDS, not_initialised
from lbnode.router import Router, RouterOptions
from lbnode.state import ClusterState, answering, describe
from raftlog.link import Receive

#: How long a balancer may take to tell its status before a follower tells what it knows itself.
_BALANCER_SECONDS = 3.0
#: How long servers may take to say what their replicas are doing.
_STATUS_SECONDS = 1.0


class FollowerSettings(msgspec.Struct, frozen=True):
    """What an operator chose. `forward_seconds` is how long a balancer may take for what is passed on to it."""

    router: RouterOptions
    rows_max: int
    forward_seconds: float
    follow: FollowTimes = FollowTimes()


class Follower:
    """One follower of `balancers`, any of which will do.

    `name` was never used before in the cluster: sessions and links go by it. `links_of` makes unstarted links for a
    cluster's id and a receiver. `http` is a treq client that keeps no connections (see lbnode.forwarding).
    """

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        *,
        name: str,
        balancers: Sequence[Endpoint],
        source: CatalogSource,
        http: HTTPClient,
        links_of: Callable[[str, Receive], WatchedLinks],
        settings: FollowerSettings,
    ) -> None:
        self.following = Following(clock, rng, source, balancers, name, self._take_over, settings.follow)
        self._layout: Layout | None = None
        self._links = LateLinks(
            lambda cluster_id: links_of(cluster_id, lambda _, items: self._requests.received(items)),
            lambda server, lane: self._requests.dropped(server, lane),
        )
        self._requests = Requests(clock, self._links)
        self._watch = SharedWatch(self._requests)
        self.router = Router(
            clock,
            self._requests,
            self._links,
            rng,
            client_name=name,
            options=settings.router,
            absent=lambda: _no_table(self.following),
        )

        def find() -> str | None:
            return _url(self.following.balancer)

        cluster = FollowerRequests(
            name,
            self.following,
            self._watch,
            changes=Forwarding(clock, http, find, deadline_seconds=settings.forward_seconds),
            questions=Forwarding(clock, http, find, deadline_seconds=_BALANCER_SECONDS),
        )
        data = DataRequests(self.router, rows_max=settings.rows_max)
        self.app = BalancerApp(self.router, data, cluster, self._metrics(clock, name))

    def start(self) -> None:
        """Begin to follow; requests can be taken from now on, and are refused until there is a catalog."""
        self.router.startService()
        self.following.startService()

    async def informed(self, timeout_seconds: float) -> None:
        """Return as soon as there is a catalog, or after the timeout."""
        await self.following.informed(timeout_seconds)

    async def stop(self) -> None:
        """Give up what waits and close the connections."""
        await maybeDeferred(self.following.stopService)
        await maybeDeferred(self.router.stopService)
        self._requests.stop()
        await self._links.close()

    def _take_over(self, catalog: Catalog) -> None:
        """Route by a new catalog."""
        self._links.open(catalog.cluster_id)
        layout = layout_of(catalog)
        if layout != self._layout:
            self._layout = layout
            self.router.configure(layout)
            self._watch.set_servers({name: address.link for name, address in layout.servers.items()} if layout else {})

    def _metrics(self, clock: IReactorTime, name: str) -> Metrics:
        gauges: dict[tuple[str, str], Callable[[], float]] = {
            ("shardlb_reads_waiting", "Reads without an answer yet."): lambda: self.router.reads_waiting,
            ("shardlb_changes_waiting", "Changes without an outcome yet."): lambda: self.router.changes_waiting,
            ("shardlb_catalog_version", "Version of the catalog that is followed."): lambda: (
                self.following.catalog.version if self.following.catalog is not None else 0
            ),
            ("shardlb_catalog_lost_seconds", "How long no balancer has answered."): lambda: self.following.lost_seconds,
        }
        return Metrics(clock.seconds, gauges, process={"name": name, "role": "follower"})


class FollowerRequests:
    """The requests about the cluster as a follower answers them (lbnode.app.ClusterEndpoints).

    `changes` and `questions` pass on what takes minutes and what takes seconds.
    """

    def __init__(
        self, name: str, following: Following, watch: SharedWatch, *, changes: Forwarding, questions: Forwarding
    ) -> None:
        self._name = name
        self._following = following
        self._watch = watch
        self._changes = changes
        self._questions = questions

    async def init(self, headers: Headers, body: bytes) -> Response:
        """Have the balancer make the table."""
        return await self._changes.forward("POST", "/init", headers, body)

    async def add(self, headers: Headers, body: bytes) -> Response:
        """Have the balancer add servers and shards."""
        return await self._changes.forward("POST", "/add", headers, body)

    async def remove(self, headers: Headers, body: bytes) -> Response:
        """Have the balancer remove servers."""
        return await self._changes.forward("POST", "/rm", headers, body)

    async def status(self, headers: Headers, body: bytes) -> Response:
        """Tell what the balancer tells; while it does not answer, what the servers say. And who answers here."""
        told = await self._told(headers, body) or overview.status(await self._state())
        return json_response({**told, "follower": self._self()})

    async def primary_elect(self, headers: Headers, body: bytes) -> Response:
        """Tell who leads each shard."""
        return json_response(overview.primaries(await self._state()))

    async def rep(self, headers: Headers, body: bytes) -> Response:
        """Name the servers."""
        return json_response(overview.servers(await self._state()))

    async def readyz(self, headers: Headers, body: bytes) -> Response:
        """Say whether every shard can serve, and whether a balancer is there."""
        state = await self._state()
        try:
            return json_response({**overview.readiness(state), "follower": self._self()})
        except ApiError as error:
            error.extra["follower"] = self._self()
            raise

    async def _told(self, headers: Headers, body: bytes) -> dict[str, Any] | None:
        """Return the balancer's own status, None if it has none to give now."""
        try:
            forwarded = await self._questions.forward("GET", "/status", headers, body)
        except ApiError:
            return None
        return msgspec.json.decode(forwarded.body, type=dict[str, Any]) if forwarded.status == 200 else None

    async def _state(self) -> ClusterState:
        """Return the catalog's cluster as its servers describe it; raises ApiError `no_catalog` (503)."""
        catalog = self._following.catalog
        if catalog is None:
            error = _no_catalog(self._following)
            error.extra["follower"] = self._self()
            raise error
        statuses = await self._watch.ask(_STATUS_SECONDS)
        return describe(catalog, answering(catalog, statuses), statuses, {})

    def _self(self) -> dict[str, Any]:
        following = self._following
        return {
            "name": self._name,
            "pid": os.getpid(),
            "catalog_version": following.catalog.version if following.catalog is not None else 0,
            "balancer": _url(following.balancer),
            "lost_for_seconds": following.lost_seconds,
            "reason": "" if following.balancer is not None else following.reason,
        }


def _url(balancer: Endpoint | None) -> str | None:
    return None if balancer is None else f"http://{balancer.host}:{balancer.port}"


def _no_catalog(following: Following) -> ApiError:
    text = f"this follower does not know the cluster yet ({following.reason}); try again"
    return ApiError("no_catalog", text, status=503, retry_after_seconds=RETRY_AFTER_SECONDS)


def _no_table(following: Following) -> ApiError:
    return _no_catalog(following) if following.catalog is None else not_initialised()
