"""The controller's office: held by the balancer that leads the catalog's group, and by nobody else.

Whoever is elected catches up, writes itself into the catalog, and lets its controller begin; what an earlier one began
is in the catalog and is rolled back or forward, as after a restart. Whoever is not the leader any more stops at once,
wherever it is: every step of a controller may be cut short and repeated.

A leader that was cut off or paused learns late that it was deposed. So before anything is done that no Raft group
guards, a server started, stopped or destroyed, the catalog is asked (`confirm`): a command that only succeeds while
nobody has taken over since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from lbnode.catalog import AdmitBalancer, HoldOffice, TakeOffice
from lbnode.catalog_changes import Refused
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import in_background
from lbnode.voters import BalancerRecord, next_change
from raftlog.errors import GroupError, NotLeader

#: How long the leader waits for the others to confirm that it is, and then before it tries again.
_CATCH_UP_SECONDS = 5.0
_RETRY_SECONDS = 0.1
#: How long a balancer that stops waits until another one leads.
_HAND_OVER_SECONDS = 1.0
#: How often the members of the group are looked after.
_LOOK_SECONDS = 0.5


class Incumbent(Protocol):
    """Who acts while this balancer holds the office (lbnode.controller)."""

    def startService(self) -> None:
        """Begin."""

    def step_down(self) -> Awaitable[None]:
        """Stop, and leave everything as it is; done when nothing is done any more."""


class ControllersOffice:
    """The office as the balancer `name` sees it, which clients reach at `url()`.

    `founding` returns the id of a new cluster and its balancers. `started` comes once the replica takes part.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        group: CatalogGroup,
        incumbent: Incumbent,
        name: str,
        url: Callable[[], str],
        founding: Callable[[], tuple[str, dict[str, BalancerRecord]]],
    ) -> None:
        self._clock = clock
        self._group = group
        self._incumbent = incumbent
        self._name = name
        self._url = url
        self._founding = founding
        self._lock = DeferredLock()
        self._open = False
        self._term = 0
        self._serving: Deferred[None] | None = None
        #: For the how-many-th time somebody took over when this one did; 0: it does not hold the office.
        self._number = 0
        #: The data directory of the balancer that is being taken back.
        self._admitting = ""

    @property
    def held_here(self) -> bool:
        """Whether this balancer is the controller, as far as it knows."""
        return self._number > 0

    @property
    def holder(self) -> str | None:
        """The balancer that is the controller, as far as is known here."""
        office = self._group.catalog.office
        return office.holder if office is not None and office.holder == self._group.leader else None

    def find(self) -> str | None:
        """Return where the controller is reached if it is another balancer, None while nobody is known."""
        office = self._group.catalog.office
        return office.url if office is not None and self.holder not in (None, self._name) else None

    # ---- taking and leaving -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Hold the office whenever this balancer leads."""
        self._open = True
        self.look()

    async def close(self) -> None:
        """Leave the office for good, to another balancer if there is one."""
        self._open = False
        self.look()
        await self._lock.acquire()
        self._group.hand_over()
        until_seconds = self._clock.seconds() + _HAND_OVER_SECONDS
        while self._group.led_term and self._clock.seconds() < until_seconds:
            await deferLater(self._clock, _RETRY_SECONDS)

    def role_changed(self) -> None:
        """Hear that the replica's role may have changed; called in the middle of the driver's turn."""
        self._clock.callLater(0, self.look)

    def look(self) -> None:
        """Take or leave the office if the leader has changed."""
        term = self._group.led_term if self._open else 0
        if term == self._term:
            return
        if self._number:
            self._log.info("{name} is not the controller any more", name=self._name)
        self._term, self._number = term, 0
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None
        if term:
            self._serving = in_background(self._serve(), "being the controller")

    async def _serve(self) -> None:
        await self._lock.acquire()
        try:
            await self._hold()
        except CancelledError:
            pass
        except Exception:  # noqa: BLE001 - whatever it is, the next one must find the office free
            self._log.failure("the office was left")
        await self._incumbent.step_down()
        self._lock.release()

    async def _hold(self) -> None:
        await self._take()
        self._incumbent.startService()
        while True:
            await self._look_after_members()
            await deferLater(self._clock, _LOOK_SECONDS)

    async def _take(self) -> None:
        while True:
            try:
                await self._group.catch_up(_CATCH_UP_SECONDS)
                await self._group.found(*self._founding())
                office = (await self._group.propose(TakeOffice(self._name, self._url()))).office
            except GroupError as error:
                self._log.info("{name} cannot take over yet: {error}", name=self._name, error=error)
                await deferLater(self._clock, _RETRY_SECONDS)
                continue
            assert office is not None
            self._number = office.number
            self._log.info("{name} is the controller ({number})", name=self._name, number=office.number)
            return

    # ---- holding ------------------------------------------------------------------------------------------------

    async def confirm(self) -> None:
        """Return if this balancer certainly held the office a moment ago; raises NotLeader, or another GroupError."""
        number = self._number
        if number:
            try:
                await self._group.propose(HoldOffice(number))
            except Refused:
                number = 0
        if not number or number != self._number:
            raise NotLeader(0)

    def admit(self, name: str, incarnation: str) -> None:
        """Give a balancer that lost its data directory a new replica id."""
        record = self._group.catalog.balancers.get(name)
        if self._admitting == incarnation:
            return
        if record is not None and record.incarnation != incarnation:
            self._admitting = incarnation
            self._log.warn("{name} comes back with an empty data directory and gets a new replica id", name=name)
            _ = in_background(self._admit(AdmitBalancer(name, incarnation)), "admitting a balancer")

    async def _admit(self, command: AdmitBalancer) -> None:
        try:
            await self._group.propose(command)
        except (Refused, GroupError) as error:
            self._log.info("{name} is not admitted now: {error}", name=command.name, error=error)
        finally:
            self._admitting = ""

    async def _look_after_members(self) -> None:
        """Take the next step from the members that the group has to those that the catalog says."""
        status = self._group.status()
        if status is None or status.role != "leader":
            return
        wanted = {record.replica_id for record in self._group.catalog.balancers.values()}
        change = next_change(wanted, status)
        if change is None:
            return
        try:
            await self._group.change_members(change)
        except GroupError as error:
            self._log.info("the balancers' group is not changed now: {error}", error=error)
