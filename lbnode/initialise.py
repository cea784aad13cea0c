"""/init as an operation: all of it or nothing, whatever dies in between (DESIGN §5).

    begin      the target is recorded in the catalog, with fresh ids and homes
    prepare    its servers are started and told what they hold; every shard elects a leader
    commit     the catalog says that the target is the table: the commit point
    finish     servers that only the old table used are taken down

Until the commit point an old table and its servers are left alone, so that rolling back is to destroy what was
started. Every step may be repeated, and `settle` does so after a crash: backwards before the commit point, forwards
after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dbnode.errors import ApiError
from dbnode.wire import ReplicaStatus
from lbnode.catalog import AbandonOperation, BeginInit, CommitOperation, Finishing, FinishOperation, Preparing
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import together
from lbnode.control import ReplicaWatch
from lbnode.fleet import Fleet
from lbnode.leaders import handovers, leader_of
from lbnode.refusals import launch_failed
from lbnode.table import ServerRecord, Table


class InitTimes(msgspec.Struct, frozen=True):
    """How long all of /init may take, and the spreading of leaders, which it does not wait for any longer.

    Servers are asked every `ask_seconds` who leads.
    """

    deadline_seconds: float = 180.0
    spread_seconds: float = 3.0
    ask_seconds: float = 0.1


class Initialisation:
    """Runs /init, and settles one that a crash cut short. `open_watch` returns connections for asking its servers."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalog: CatalogGroup,
        fleet: Fleet,
        open_watch: Callable[[], ReplicaWatch],
        times: InitTimes,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._fleet = fleet
        self._open_watch = open_watch
        self._times = times

    async def run(self, begin: BeginInit) -> None:
        """Make the table.

        Raises ApiError (503) after everything was taken down again, as cancelling does, and
        lbnode.catalog_changes.Refused if the catalog does not let it begin. What cannot be tidied up after the commit
        point is left to a later `settle`.
        """
        operation = (await self._catalog.propose(begin)).operation
        assert isinstance(operation, Preparing)
        try:
            await self._prepare_in_time(operation.operation_id)
        except Exception:
            await self.settle()
            raise
        await self._catalog.propose(CommitOperation(operation.operation_id))
        try:
            await self.settle()
        except ApiError as error:
            self._log.warn("/init is done but not tidied up yet: {error}", error=error)

    async def settle(self) -> None:
        """Bring the operation in the catalog to its end: back before the commit point, forward after it."""
        operation = self._catalog.catalog.operation
        if isinstance(operation, Preparing):
            self._log.info("rolling /{kind} back", kind=operation.kind)
            await self._destroy(operation.target.servers.values())
            await self._catalog.propose(AbandonOperation(operation.operation_id))
        elif isinstance(operation, Finishing):
            await self._destroy(operation.leaving)
            await self._catalog.propose(FinishOperation(operation.operation_id))

    async def _destroy(self, servers: Iterable[ServerRecord]) -> None:
        failures = await self._fleet.destroy(servers)
        if failures:
            raise launch_failed("cannot be taken down", failures)

    # ---- preparing --------------------------------------------------------------------------------------------

    async def _prepare_in_time(self, operation_id: int) -> None:
        deadline_seconds = self._times.deadline_seconds
        try:
            await Deferred.fromCoroutine(self._prepare()).addTimeout(deadline_seconds, self._clock)
        except TimeoutError:
            text = f"/init did not end within {deadline_seconds:g} seconds; everything it started is taken down"
            raise ApiError("deadline", text, status=503, retry_after_seconds=1) from None

    async def _prepare(self) -> None:
        failures = await self._fleet.start(self._target().servers.values())
        if failures:
            raise launch_failed("could not be started", failures)
        failures = await self._fleet.tell(self._target())
        if failures:
            raise launch_failed("could not be configured", failures)
        watch = self._open_watch()
        try:
            await self._lead(self._target(), watch)
        finally:
            await watch.close()

    def _target(self) -> Table:
        """Return what is being made, with all that was recorded about its servers up to now."""
        operation = self._catalog.catalog.operation
        assert isinstance(operation, Preparing)
        return operation.target

    async def _lead(self, target: Table, watch: ReplicaWatch) -> None:
        """Wait until every shard has a leader, and spread the leaders over the servers."""
        watch.set_servers({server.name: server.link for server in target.servers.values() if server.link})
        known = await self._ask(watch)
        while not all(leader_of(shard, known) for shard in target.shards):
            known = await self._ask(watch)
        give_up_seconds = self._clock.seconds() + self._times.spread_seconds
        while self._clock.seconds() < give_up_seconds and (wanted := handovers(target.shards, known)):
            await together(watch.hand_over(handover) for handover in wanted)
            known = await self._ask(watch)

    async def _ask(self, watch: ReplicaWatch) -> dict[int, ReplicaStatus]:
        """Return what there is to know of each replica, by id, after a pause."""
        await deferLater(self._clock, self._times.ask_seconds)
        statuses = await watch.ask(self._times.ask_seconds)
        return {status.replica_id: status for replicas in statuses.values() for status in replicas}
