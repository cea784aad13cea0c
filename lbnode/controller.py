"""The controller: carries out what changes the cluster, and keeps what is running in line with the catalog.

It opens the catalog, has its servers kept running (lbnode.upkeep), and goes round: settle an operation that was cut
short, ask all replicas how they are, replace those that are lost or whose server stays away, take the next step of
each group's membership, spread the leaders. Each round starts from what is there, so that a balancer killed anywhere
is only late. Whoever routes requests is given a new layout whenever the catalog has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dbnode.wire import ReplicaStatus
from lbnode.catalog import Catalog, Preparing
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import in_background, together
from lbnode.control import ReplicaWatch
from lbnode.fleet import Fleet
from lbnode.layout import Layout
from lbnode.leaders import handovers
from lbnode.operations import Operations
from lbnode.projection import layout_of
from lbnode.relocation import led_groups, moves
from lbnode.reshape import Reshape
from lbnode.state import ClusterState, answering, describe
from lbnode.table import Table
from lbnode.upkeep import Upkeep
from lbnode.wire import AddRequest, InitRequest, RemoveRequest
from raftlog.errors import GroupError


class ControllerTimes(msgspec.Struct, frozen=True):
    """Pause between two rounds, how long a server may take to tell its state, and the catalog to be there.

    Leaders are spread at most every `spread_seconds`, so that a server that will not lead is not asked again and again.
    """

    round_seconds: float = 1.0
    #: The pause while steps are being taken.
    busy_seconds: float = 0.1
    status_seconds: float = 1.0
    catalog_seconds: float = 30.0
    spread_seconds: float = 5.0


class Controller(Service):
    """Runs while the balancer does. `configure` takes each new layout; `watch` asks the table's servers."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalog: CatalogGroup,
        fleet: Fleet,
        upkeep: Upkeep,
        operations: Operations,
        reshape: Reshape,
        watch: ReplicaWatch,
        configure: Callable[[Layout | None], None],
        times: ControllerTimes,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._fleet = fleet
        self._upkeep = upkeep
        self._operations = operations
        self._reshape = reshape
        self._watch = watch
        self._configure = configure
        self._times = times
        self._layout: Layout | None = None
        self._background: list[Deferred[None]] = []
        self._roles = _Roles()
        self._next_spread_seconds = 0.0
        #: Replicas replaced because they were lost or their server stayed away, since the start.
        self.replicas_moved = 0

    # ---- life -------------------------------------------------------------------------------------------------

    async def open(self, new_cluster_id: str) -> None:
        """Open the catalog, found as `new_cluster_id` if there is none, and give out the layout that it holds."""
        await self._catalog.open(new_cluster_id, self._times.catalog_seconds)
        self.catalog_changed(self._catalog.catalog)

    def startService(self) -> None:
        """Begin to go round; the catalog is open."""
        super().startService()
        self._upkeep.follow(_kept(self._catalog.catalog))
        self._background.append(in_background(self._go_round(), "going round"))

    def stopService(self) -> Deferred[None]:
        """Roll back what is not committed, then stop all servers; fires when they have stopped."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._rest()
        await self._operations.stop()
        await self._upkeep.stop()
        await self._watch.close()
        failures = await self._fleet.stop(self._catalog.catalog.servers().values())
        for server, reason in failures.items():
            self._log.error("{server} was left running: {reason}", server=server, reason=reason)

    async def step_down(self) -> None:
        """Act no more and leave everything as it is, for another balancer's controller; it may begin again later."""
        await maybeDeferred(super().stopService)
        await self._rest()
        await self._operations.leave()
        await self._upkeep.stop()
        self._fleet.forget()
        self._reshape.forget()

    async def _rest(self) -> None:
        """Go round no more."""
        background, self._background = self._background, []
        for running in background:
            running.cancel()
            await running

    def catalog_changed(self, catalog: Catalog) -> None:
        """Hand on what follows from a new catalog."""
        if self.running:
            self._upkeep.follow(_kept(catalog))
        layout = layout_of(catalog)
        if layout == self._layout:
            return
        self._layout = layout
        self._configure(layout)
        self._watch.set_servers({name: address.link for name, address in layout.servers.items()} if layout else {})

    # ---- going round ------------------------------------------------------------------------------------------

    async def _go_round(self) -> None:
        while True:
            is_busy = False
            try:
                is_busy = await self._round()
            except CancelledError:
                raise
            except GroupError as error:
                self._log.info("a round of the controller was cut short: {error}", error=error)
            except Exception:  # noqa: BLE001 - whatever a round fails of, the next one begins anew
                self._log.failure("a round of the controller failed")
            await deferLater(self._clock, self._times.busy_seconds if is_busy else self._times.round_seconds)

    async def _round(self) -> bool:
        """Do what there is to do; return whether there may be more at once."""
        await self._operations.settle()
        statuses = await self._watch.ask(self._times.status_seconds)
        table = self._catalog.catalog.table
        if table is None:
            return False
        self._roles.saw(statuses, self._clock.seconds())
        known = {status.replica_id: status for replicas in statuses.values() for status in replicas}
        self._upkeep.led = led_groups(table, known)
        await self._replace_replicas(table, known)
        is_busy = await self._step(self._catalog.catalog, known)
        await self._spread_leaders(known)
        return is_busy or self._operations.is_running

    async def _step(self, catalog: Catalog, known: Mapping[int, ReplicaStatus]) -> bool:
        """Take the next step of each group's membership; what may still be rolled back is not made to vote."""
        held = catalog.in_transit if isinstance(catalog.operation, Preparing) else ()
        return await self._reshape.round(catalog.hosted.shards if catalog.hosted else (), known, held)

    async def _replace_replicas(self, table: Table, known: Mapping[int, ReplicaStatus]) -> None:
        if isinstance(self._catalog.catalog.operation, Preparing):
            return  # what it plans for must not change under it; it ends soon, one way or the other
        states = self._fleet.states()
        by_state: dict[str, list[str]] = {"up": [], "failed": []}
        for server in table.servers.values():
            if server.home in states:
                by_state.setdefault(states[server.home].state, []).append(server.name)
        for move in moves(table, known, by_state["up"], by_state["failed"]):
            self._log.warn("replica {move.replica_id} is replaced by one on {move.server}", move=move)
            await self._catalog.propose(move)
            self.replicas_moved += 1

    async def _spread_leaders(self, known: Mapping[int, ReplicaStatus]) -> None:
        table, staying = self._catalog.catalog.table, self._catalog.catalog.staying
        if table is None or self._clock.seconds() < self._next_spread_seconds:
            return
        self._next_spread_seconds = self._clock.seconds() + self._times.spread_seconds
        going = table.servers.keys() - staying
        await together(self._watch.hand_over(handover) for handover in handovers(table.shards, known, going))

    # ---- what is asked of it ----------------------------------------------------------------------------------

    @property
    def table(self) -> Table | None:
        """The table that there is."""
        return self._catalog.catalog.table

    async def init(self, request: InitRequest) -> None:
        """See Operations.init."""
        await self._operations.init(request)

    async def add(self, request: AddRequest) -> tuple[int, Sequence[str]]:
        """See Operations.add."""
        return await self._operations.add(request)

    async def remove(self, request: RemoveRequest) -> tuple[int, Sequence[str]]:
        """See Operations.remove."""
        return await self._operations.remove(request)

    async def state(self) -> ClusterState:
        """Return the cluster as it is now; a server that does not answer at once is described without its word."""
        statuses = await self._watch.ask(self._times.status_seconds)
        now_seconds = self._clock.seconds()
        self._roles.saw(statuses, now_seconds)
        return describe(
            self._catalog.catalog,
            self._fleet.states() if self.running else answering(self._catalog.catalog, statuses),
            statuses,
            self._roles.for_seconds(now_seconds),
            self._reshape.doing,
        )


def _kept(catalog: Catalog) -> Table | None:
    """Return the servers that must run: those that are coming only once it is certain that they do."""
    return catalog.table if isinstance(catalog.operation, Preparing) else catalog.hosted


class _Roles:
    """Since when each replica has had its role in its term."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, int, float]] = {}

    def saw(self, statuses: Mapping[str, Sequence[ReplicaStatus]], now_seconds: float) -> None:
        """Take note of what servers say of their replicas."""
        for status in (status for replicas in statuses.values() for status in replicas):
            known = self._since.get(status.replica_id)
            if known is None or known[:2] != (status.role, status.term):
                self._since[status.replica_id] = (status.role, status.term, now_seconds)

    def for_seconds(self, now_seconds: float) -> dict[int, float]:
        """Return how long each replica has had its role, by replica id."""
        return {replica_id: now_seconds - since for replica_id, (_, _, since) in self._since.items()}
