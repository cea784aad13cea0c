"""/init, /add and /rm, one at a time: who asks is told how it ended, and what was cut short is brought to its end.

An operation runs in the background: a client that goes away does not stop it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from dbnode.errors import ApiError
from lbnode.catalog_changes import Refused
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import in_background
from lbnode.forwarding import no_controller, outcome_unknown
from lbnode.initialise import Initialisation
from lbnode.planner import is_same, plan_init
from lbnode.refusals import not_initialised
from lbnode.resizing import Resizing
from lbnode.table import Table
from lbnode.wire import AddRequest, InitRequest, RemoveRequest
from raftlog.errors import GroupError

_STOPPING = ApiError(
    "stopping", "the balancer stops; the operation is rolled back, or goes on when it starts again", status=503
)


class Operations:
    """Runs operations on the table in the catalog.

    All of them raise ApiError: `busy` (409) while another one runs, `not_initialised` or `already_initialised` (409),
    400 if the request does not fit the table, 503 if it could not be carried out, and nothing has changed then.
    """

    def __init__(self, catalog: CatalogGroup, initialisation: Initialisation, resizing: Resizing) -> None:
        self._catalog = catalog
        self._initialisation = initialisation
        self._resizing = resizing
        self._running: Deferred[None] | None = None
        self._told_at_end = _STOPPING

    @property
    def is_running(self) -> bool:
        """Whether an operation runs in this process."""
        return self._running is not None and not self._running.called

    async def init(self, request: InitRequest) -> None:
        """Make the table that is asked for; returns once it serves."""
        self._check_idle()
        table = self._catalog.catalog.table
        if table is not None and not request.replace and is_same(request, table):
            return
        await self._run(self._initialisation.run(plan_init(request)), "/init")

    async def add(self, request: AddRequest) -> tuple[int, Sequence[str]]:
        """Add servers and shards; returns how many servers there are then, and the names of the new ones."""
        table = self._idle_table()
        begin = self._resizing.plan_add(request, table)
        await self._run(self._resizing.run(begin), "/add")
        return len(table.servers) + len(begin.change.coming), begin.change.coming

    async def remove(self, request: RemoveRequest) -> tuple[int, Sequence[str]]:
        """Remove servers; returns how many are left, and the names of those that went."""
        table = self._idle_table()
        begin = self._resizing.plan_remove(request, table)
        await self._run(self._resizing.run(begin), "/rm")
        return len(table.servers) - len(begin.change.going), begin.change.going

    async def settle(self) -> None:
        """Bring an operation that was cut short nearer to its end; raises ApiError (503) if that must wait."""
        operation = self._catalog.catalog.operation
        if operation is None or self.is_running:
            return
        if operation.kind == "init":
            await self._initialisation.settle()
        else:
            await self._resizing.settle()

    async def stop(self) -> None:
        """Roll back what is not committed."""
        await self._cut_short(_STOPPING)

    async def leave(self) -> None:
        """Leave what runs to the next controller, as it is: nothing can be rolled back by who is not the controller."""
        await self._cut_short(outcome_unknown("another balancer takes over as the controller"))

    async def _cut_short(self, told: ApiError) -> None:
        self._told_at_end = told
        if self._running is not None:
            self._running.cancel()
            await self._running

    def _check_idle(self) -> None:
        if self.is_running or self._catalog.catalog.operation is not None:
            raise ApiError("busy", "an operation is in progress: try again when it has ended", status=409)

    def _idle_table(self) -> Table:
        table = self._catalog.catalog.table
        self._check_idle()
        if table is None:
            raise not_initialised()
        return table

    async def _run(self, operation: Coroutine[Deferred[Any], Any, None], what: str) -> None:
        """Carry out an operation; cancelling drops the waiter only."""
        waiter: Deferred[None] = Deferred()
        self._running = in_background(self._carry_out(operation, waiter), what)
        await waiter

    async def _carry_out(self, operation: Coroutine[Deferred[Any], Any, None], waiter: Deferred[None]) -> None:
        """Carry out an operation and tell the waiter, unless it went away."""
        try:
            await operation
        except Refused as refused:
            _fail(waiter, ApiError(refused.code, refused.text, status=409))
        except ApiError as error:
            _fail(waiter, error)
        except CancelledError:
            _fail(waiter, self._told_at_end)
        except GroupError as error:
            _fail(waiter, self._not_recorded(error))
        except Exception as error:
            _fail(waiter, error)
            raise
        else:
            if not waiter.called:
                waiter.callback(None)

    def _not_recorded(self, error: GroupError) -> ApiError:
        """Return what is told when the catalog took a command no more: if it never began, it is certainly not done."""
        why = f"the catalog takes no command here now ({error})"
        if self._catalog.catalog.operation is None and not error.maybe_applied:
            return no_controller(why)
        return outcome_unknown(why)


def _fail(waiter: Deferred[None], error: Exception) -> None:
    if not waiter.called:
        waiter.errback(error)
