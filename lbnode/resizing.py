"""/add and /rm as operations: all of it or nothing, whatever dies in between, while clients go on (DESIGN §5).

    begin      the target is recorded in the catalog, with fresh ids and homes
    prepare    new servers are started, new shards elect leaders, new replicas of existing shards are filled as
               learners; leaders on servers that go hand over
    commit     the catalog says that the target is the table: the commit point
    finish     each shard's learners become voters and those who leave go, in one joint change of its group; then the
               servers that go are taken down with their data

The groups' memberships are moved by the controller's rounds, before the commit point only as far as learners go, so
that rolling back is to destroy the new servers and to forget: the rounds remove learners that nobody wants. Every step
may be repeated, and `settle` does what is left after a crash: backwards before the commit point, forwards after it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dbnode.errors import ApiError
from dbnode.wire import ReplicaStatus
from lbnode.catalog import AbandonOperation, BeginResize, CommitOperation, Finishing, FinishOperation, Preparing
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import together
from lbnode.control import ReplicaWatch
from lbnode.fleet import Fleet, Sight
from lbnode.growth import plan_add, plan_remove
from lbnode.leaders import Handover, handovers
from lbnode.membership import is_filled
from lbnode.refusals import launch_failed
from lbnode.table import ServerRecord, Table
from lbnode.wire import AddRequest, InitLimits, RemoveRequest


class ResizeTimes(msgspec.Struct, frozen=True):
    """How long an /add or /rm may take, most of it the copying of rows.

    Replicas are asked every `ask_seconds`, and get `answer_seconds` to say how they are.
    """

    deadline_seconds: float = 600.0
    ask_seconds: float = 0.2
    answer_seconds: float = 1.0


class Resizing:
    """Runs /add and /rm, and settles one that a crash cut short.

    `watch` asks all servers that there are; `doing` says what is waited for in a group, `limits` how large a table may
    be. The choices that a request leaves to chance are made by `rng`.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalog: CatalogGroup,
        fleet: Fleet,
        watch: ReplicaWatch,
        doing: Callable[[int], str],
        rng: random.Random,
        limits: InitLimits,
        times: ResizeTimes,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._fleet = fleet
        self._watch = watch
        self._doing = doing
        self._rng = rng
        self._limits = limits
        self._times = times

    def plan_add(self, request: AddRequest, table: Table) -> BeginResize:
        """See lbnode.growth.plan_add."""
        return plan_add(request, table, self._rng, self._limits, self._down(table))

    def plan_remove(self, request: RemoveRequest, table: Table) -> BeginResize:
        """See lbnode.growth.plan_remove."""
        return plan_remove(request, table, self._rng, self._down(table))

    def _down(self, table: Table) -> list[str]:
        states = self._fleet.states()
        return [
            server.name
            for server in table.servers.values()
            if server.home in states and states[server.home].state in ("down", "failed")
        ]

    async def run(self, begin: BeginResize) -> None:
        """Make the change; returns once everything new serves and what goes is gone.

        Raises ApiError (503) after everything was rolled back, as cancelling before the commit point does, ApiError
        `deadline` (504) if it is committed and takes longer than it may, and Refused (lbnode.catalog_changes) if the
        catalog does not let it begin.
        """
        give_up_seconds = self._clock.seconds() + self._times.deadline_seconds
        operation = (await self._catalog.propose(begin)).operation
        if isinstance(operation, Preparing):
            try:
                await self._until(give_up_seconds, self._prepare())
            except TimeoutError:
                text = f"{self._late(begin)}; everything it started is taken down"
                await self.settle()
                raise ApiError("deadline", text, status=503, retry_after_seconds=1) from None
            except Exception:
                await self.settle()
                raise
            await self._catalog.propose(CommitOperation(operation.operation_id))
        try:
            await self._until(give_up_seconds, self._finish())
        except TimeoutError:
            raise ApiError("deadline", f"{self._late(begin)}; it goes on by itself", status=504) from None

    async def settle(self) -> None:
        """Bring the operation in the catalog nearer to its end: back before the commit point, forward after it.

        Raises ApiError (503) if servers cannot be taken down now.
        """
        operation = self._catalog.catalog.operation
        if isinstance(operation, Preparing):
            self._log.info("rolling /{kind} back", kind=operation.kind)
            await self._destroy(self._coming())
            await self._catalog.propose(AbandonOperation(operation.operation_id))
        elif isinstance(operation, Finishing) and not self._catalog.catalog.in_transit:
            await self._destroy(operation.leaving)
            await self._catalog.propose(FinishOperation(operation.operation_id))

    # ---- before the commit point --------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        failures = await self._fleet.start(self._coming())
        if failures:
            raise launch_failed("could not be started", failures)
        failures = await self._fleet.tell(self._hosted())
        failures = {server.name: failures[server.name] for server in self._coming() if server.name in failures}
        if failures:
            raise launch_failed("could not be configured", failures)
        while not self._is_ready(await self._ask()):
            await self._check_coming()
        while wanted := self._retreats(await self._ask()):
            await together(self._watch.hand_over(handover) for handover in wanted)

    def _hosted(self) -> Table:
        hosted = self._catalog.catalog.hosted
        assert hosted is not None
        return hosted

    def _coming(self) -> list[ServerRecord]:
        """Return the servers that the table has not yet."""
        table, operation = self._catalog.catalog.table, self._catalog.catalog.operation
        assert isinstance(operation, Preparing)
        assert table is not None
        return [server for name, server in operation.target.servers.items() if name not in table.servers]

    def _is_ready(self, known: Mapping[int, ReplicaStatus]) -> bool:
        """Tell whether every shard has a leader and its new replicas hold what it holds."""
        held = frozenset(self._catalog.catalog.in_transit)
        return all(is_filled(shard, known, held.intersection(shard.joining)) for shard in self._hosted().shards)

    async def _check_coming(self) -> None:
        """Give up at once if a new server has died: nobody looks after it yet."""
        coming = self._coming()
        sights = await together(self._fleet.look(server) for server in coming)
        dead = [server.name for server, sight in zip(coming, sights, strict=True) if sight is not Sight.THERE]
        if dead:
            raise launch_failed("did not stay", dict.fromkeys(dead, "its process ended"))

    def _retreats(self, known: Mapping[int, ReplicaStatus]) -> list[Handover]:
        """Return how servers that go hand over what they lead, where another replica can lead already."""
        catalog = self._catalog.catalog
        assert catalog.table is not None
        going = catalog.table.servers.keys() - catalog.staying
        wanted = handovers(catalog.table.shards, known, without=going)
        return [handover for handover in wanted if handover.leader in going]

    async def _ask(self) -> dict[int, ReplicaStatus]:
        """Return what there is to know of each replica, by id, after a pause."""
        await deferLater(self._clock, self._times.ask_seconds)
        statuses = await self._watch.ask(self._times.answer_seconds)
        return {status.replica_id: status for replicas in statuses.values() for status in replicas}

    # ---- after it -----------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Wait until all replicas have joined or left, and take down the servers that go."""
        while self._catalog.catalog.in_transit:
            await deferLater(self._clock, self._times.ask_seconds)
        try:
            await self.settle()
        except ApiError as error:
            self._log.warn("an operation is done but not tidied up yet: {error}", error=error)

    async def _destroy(self, servers: Iterable[ServerRecord]) -> None:
        failures = await self._fleet.destroy(servers)
        if failures:
            raise launch_failed("cannot be taken down", failures)

    # ---- in time ------------------------------------------------------------------------------------------------

    def _until(self, give_up_seconds: float, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Do what must be done in time. Fails with TimeoutError."""
        remaining_seconds = max(0.0, give_up_seconds - self._clock.seconds())
        return Deferred.fromCoroutine(work).addTimeout(remaining_seconds, self._clock)

    def _late(self, begin: BeginResize) -> str:
        table = self._catalog.catalog.hosted
        doing = {shard.shard: self._doing(shard.group_id) for shard in table.shards} if table is not None else {}
        waiting = "; ".join(f"{shard}: {what}" for shard, what in doing.items() if what)
        text = f"/{begin.kind} did not end within {self._times.deadline_seconds:g} seconds"
        return f"{text} ({waiting})" if waiting else text
