"""The way from a checked request to the shards that carry it out, and back.

Changes go through one session per shard, which finds the leader, coalesces what many clients send in one turn and
applies each change once however often it is sent. Reads go to the replica that the shard's ring names and from there to
the next one, until a deadline; small ones in batches, or with those of other shards, whose ring may choose for all.
What waits is bounded: beyond it a request is refused at once.

The router learns from the controller where everything is (`configure`) and finds out by itself who leads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.client import (
    Departures,
    ReadBatches,
    ReadChannel,
    ReadTours,
    RequestFailed,
    SessionOptions,
    ShardSession,
    Unavailable,
)
from dbnode.client.requests import Asker
from dbnode.errors import ApiError
from dbnode.wire import LINEARIZABLE, OVERLOADED, STALE, Operation, Result, Rows
from lbnode.circles import circles
from lbnode.layout import Layout, ServerAddress, ShardLayout
from lbnode.refusals import not_initialised, read_failed
from lbnode.ring import SLOTS, VIRTUAL_SERVERS, Ring
from lbnode.routes import Route, Routes
from lbnode.suspects import Suspects
from raftlog.link import Endpoint


class Directory(Protocol):
    """What the router needs of the links: whom to dial."""

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial this server from now on, at this address."""

    def remove_peer(self, name: str) -> None:
        """Forget a server."""


#: A read of so many rows at most is small: it may travel with others.
SMALL_READ_ROWS = 256


class RouterOptions(msgspec.Struct, frozen=True):
    """Bounds and shapes. `deadline_seconds` is how long a request is held and retried while a shard cannot serve it."""

    deadline_seconds: float = 10.0
    reads_waiting_max: int = 20_000
    page_bytes: int = 256 << 10
    slots: int = SLOTS
    virtual_servers: int = VIRTUAL_SERVERS
    session: SessionOptions = SessionOptions()


class Router(Service):
    """Carries out changes and reads on the shards of the layout that it was last told.

    `client_name` is this process's and was never used before: sessions are named after it. `absent` is what requests
    are told while there is no layout. Stopping the service gives up everything that waits.
    """

    def __init__(
        self,
        clock: IReactorTime,
        requests: Asker,
        directory: Directory,
        rng: random.Random,
        *,
        client_name: str,
        options: RouterOptions,
        absent: Callable[[], ApiError] = not_initialised,
    ) -> None:
        self.options = options
        self._absent = absent
        self._clock = clock
        self._requests = requests
        self._directory = directory
        self._rng = rng
        self._client_name = client_name
        self._suspects = Suspects(clock, requests)
        self._channel = ReadChannel(clock, self._suspects, rng, self._suspects.suspect)
        self._departures = Departures(clock)
        self._tours: list[ReadTours] = []
        self._routes: Routes | None = None
        self._by_group: dict[int, Route] = {}
        self._peers: dict[str, Endpoint] = {}
        self._stopping = False
        #: How often another replica was chosen.
        self._read_count = 0
        #: Reads that wait for an answer.
        self.reads_waiting = 0

    @property
    def changes_waiting(self) -> int:
        """How many changes have no outcome yet."""
        return sum(route.session.waiting for route in self._by_group.values())

    def configure(self, layout: Layout | None) -> None:
        """Take over where everything is. Sessions of shards that stay go on; those of shards that went are stopped."""
        shards = () if layout is None else layout.shards
        previous, self._by_group = self._by_group, {}
        for shard in shards:
            self._by_group[shard.group_id] = self._route(shard, previous.pop(shard.group_id, None))
        # Before batches are stopped, to which goes what waits for a tour.
        self._share_tours(shards)
        for gone in previous.values():
            gone.session.stop()
            for batches in gone.batches.values():
                batches.stop()
        self._dial(layout.servers if layout is not None else {})
        if layout is None:
            self._routes = None
        else:
            servers = {*layout.servers, *(name for shard in shards for name in shard.replicas.values())}
            self._routes = Routes(layout.schema, self._by_group.values(), servers)

    def routes(self) -> Routes:
        """Return the table as it is now; raises ApiError: what `absent` says while there is none, `stopping` (503)."""
        if self._routes is None:
            if self._stopping:
                raise ApiError("stopping", "this balancer stops; try again", status=503, retry_after_seconds=1)
            raise self._absent()
        return self._routes

    def change(self, route: Route, operation: Operation) -> Deferred[Result]:
        """Apply an operation exactly once; fails with dbnode.client's NotApplied or OutcomeUnknown."""
        return route.session.submit(operation, self.options.deadline_seconds)

    def read(
        self, route: Route, low: int, high: int, limit: int, consistency: int, as_lines: bool = False
    ) -> Deferred[Rows]:
        """Return a page of rows low..high of one shard; fails with ApiError `no_quorum` or `overloaded` (503)."""
        if self.reads_waiting >= self.options.reads_waiting_max:
            return self._too_many_reads(route)
        options = self.options
        if high - low < SMALL_READ_ROWS or 0 < limit <= SMALL_READ_ROWS:
            batches = route.batches[consistency]
            attempts = batches.attempts(
                low,
                high,
                timeout_seconds=options.deadline_seconds,
                limit=limit,
                bytes_max=options.page_bytes,
                as_lines=as_lines,
            )
            if route.tours is not None and consistency == LINEARIZABLE:
                route.tours.take(attempts)
            else:
                batches.take(attempts)
            page = attempts.rows
        else:
            page = self._channel.read(
                route.group_id,
                self._next_readers(route.group_id),
                low,
                high,
                timeout_seconds=options.deadline_seconds,
                consistency=consistency,
                limit=limit,
                bytes_max=options.page_bytes,
                as_lines=as_lines,
                later=self._readers_now,
            )
        return self._counted(page, route)

    def read_from(
        self,
        servers: tuple[str, ...],
        route: Route,
        low: int,
        high: int,
        limit: int,
        consistency: int,
        timeout_seconds: float,
    ) -> Deferred[Rows]:
        """Return a page as `read` does, but from these servers in this order and from no others."""
        if self.reads_waiting >= self.options.reads_waiting_max:
            return self._too_many_reads(route)
        page = self._channel.read(
            route.group_id,
            servers,
            low,
            high,
            timeout_seconds=timeout_seconds,
            consistency=consistency,
            limit=limit,
            bytes_max=self.options.page_bytes,
        )
        return self._counted(page, route)

    def _too_many_reads(self, route: Route) -> Deferred[Rows]:
        refused = Unavailable(OVERLOADED, f"{self.reads_waiting} reads wait already")
        return fail(read_failed(route.shard, refused))

    def _counted(self, page: Deferred[Rows], route: Route) -> Deferred[Rows]:
        self.reads_waiting += 1
        return page.addCallbacks(self._read_done, self._read_failed, errbackArgs=(route,))

    def _next_readers(self, group_id: int) -> tuple[str, ...]:
        """Return whom to read a group from, beginning with another replica each time."""
        self._read_count += 1
        return self._readers_now(group_id)

    def _readers_now(self, group_id: int) -> tuple[str, ...]:
        """Return whom to read a group from by the layout as it is now; nobody if the group is gone."""
        route = self._by_group.get(group_id)
        return () if route is None else self._suspects.order(route.ring.order(self._read_count))

    def stopService(self) -> None:
        """Give up what waits."""
        super().stopService()
        self._stopping = True
        self.configure(None)

    def _route(self, shard: ShardLayout, previous: Route | None) -> Route:
        servers = tuple(shard.replicas.values())
        if previous is not None:
            previous.session.set_servers(servers)
            return Route(shard, previous.ring.changed_to(shard.readers), previous.session, previous.batches)
        ring = Ring.empty(salt=shard.shard, slots=self.options.slots, virtual_servers=self.options.virtual_servers)
        session = ShardSession(
            self._clock,
            self._requests,
            self._rng,
            group_id=shard.group_id,
            client_name=self._client_name,
            servers=servers,
            options=self.options.session,
            departures=self._departures,
        )
        batches = {
            consistency: ReadBatches(
                self._clock, self._channel, shard.group_id, consistency, self._next_readers, self._readers_now
            )
            for consistency in (LINEARIZABLE, STALE)
        }
        return Route(shard, ring.changed_to(shard.readers), session, batches)

    def _share_tours(self, shards: Iterable[ShardLayout]) -> None:
        """Let reads of shards be confirmed together that have something to gain by it."""
        previous, self._tours = self._tours, []
        for circle in circles(shards):
            replicas = {shard.group_id: frozenset(shard.replicas.values()) for shard in circle}
            tours = next((tours for tours in previous if tours.replicas == replicas), None)
            if tours is None:
                batches = {group_id: self._by_group[group_id].batches[LINEARIZABLE] for group_id in replicas}
                tours = ReadTours(
                    self._clock, self._suspects, self._rng, replicas, batches, self._next_readers, self._suspects.names
                )
            self._tours.append(tours)
            for group_id in replicas:
                self._by_group[group_id].tours = tours
        for gone in previous:
            if gone not in self._tours:
                gone.stop()

    def _dial(self, servers: Mapping[str, ServerAddress]) -> None:
        peers = {name: address.link for name, address in servers.items()}
        for name in self._peers.keys() - peers.keys():
            self._directory.remove_peer(name)
        for name, endpoint in peers.items():
            if self._peers.get(name) != endpoint:
                self._directory.set_peer(name, endpoint)
        self._peers = peers

    def _read_done(self, page: Rows) -> Rows:
        self.reads_waiting -= 1
        return page

    def _read_failed(self, failure: Failure, route: Route) -> Rows:
        self.reads_waiting -= 1
        error = failure.value
        if not isinstance(error, RequestFailed):
            failure.raiseException()
        raise read_failed(route.shard, error)
