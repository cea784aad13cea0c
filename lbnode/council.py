"""A balancer among others: it finds them, takes part in the catalog's group, and holds the controller's office in turn.

    acquaintance   who they are, and whether this one may take part
    presence       what they tell each other
    office         who of them is the controller

Here the three are joined to the group, and what was learned is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from lbnode.acquaintance import Acquaintance, Roster, Told, Unwelcome
from lbnode.catalog import Catalog
from lbnode.catalog_group import CatalogGroup
from lbnode.office import ControllersOffice, Incumbent
from lbnode.peers import Peers
from lbnode.presence import GroupLinks, Heard, Presence, Presences
from lbnode.state import BalancerState
from lbnode.voters import BalancerRecord, first_voters
from raftlog.errors import GroupError
from raftlog.link import Receive
from raftlog.messages import RaftItem

#: How long a balancer that begins waits for the group's leader before it asks again.
_CATCH_UP_SECONDS = 2.0
#: How often it is looked whether the others have come as far.
_LOOK_SECONDS = 0.02
#: How often the log says what a balancer waits for.
_REMIND_SECONDS = 10.0


class RosterFile(Protocol):
    """Where the roster is kept (lbnode.datadir)."""

    def read_roster(self) -> Roster | None:
        """Return what was kept last."""

    def keep_roster(self, roster: Roster) -> None:
        """Keep a roster durably."""


class Company(msgspec.Struct, frozen=True):
    """What a balancer among others is given.

    `links_of` makes the unstarted links among them for a receiver, `incarnation` is the data directory's. `url` tells
    where this one's clients connect, `http` (see lbnode.forwarding) takes requests to the controller within
    `forward_seconds`. `may_found` raises Unwelcome if no new catalog may begin; `unwelcome` ends the process.
    """

    peers: Peers
    incarnation: str
    wants_back: bool
    roster_file: RosterFile
    links_of: Callable[[Receive], GroupLinks]
    url: Callable[[], str]
    http: HTTPClient
    forward_seconds: float
    may_found: Callable[[], None]
    unwelcome: Callable[[str], None]


class Council:
    """The balancers as one of them sees them; `group` is its part of the catalog's group, `raft` takes what it is sent.

    `incumbent` is its controller, which acts while it holds the office.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        company: Company,
        group: CatalogGroup,
        incumbent: Incumbent,
        raft: Callable[[list[RaftItem]], None],
    ) -> None:
        self._clock = clock
        self._company = company
        self._peers = company.peers
        self._group = group
        self._roster = company.roster_file.read_roster()
        self._acquaintance = Acquaintance(
            self._peers.own,
            self._peers.addresses,
            company.incarnation,
            self._roster,
            wants_back=company.wants_back,
        )
        self._presences = Presences(clock, company.links_of, self._peers.others, self._describe, self._heard, raft)
        self._admitted: Deferred[None] | None = None
        self._cluster_id = ""
        #: Whether the catalog was as new as that of the others since this process started.
        self.is_current = False
        self.office = ControllersOffice(clock, group, incumbent, self._peers.own, company.url, self._founding)
        self._led_at_seconds = clock.seconds()
        self._reminding = LoopingCall(self._remind)
        self._reminding.clock = clock

    @property
    def links(self) -> GroupLinks:
        """The links among the balancers, over which the group's messages go."""
        return self._presences.links

    async def open(self, cluster_id: str) -> None:
        """Find the others and take part in the group; returns once the catalog is as new as that of the others.

        A catalog that never was is founded as `cluster_id`. Raises raftlog.errors.LostData.
        """
        self._cluster_id = cluster_id
        self._catalog_is(self._group.catalog)
        for name in self._peers.others:
            self.links.set_peer(name, self._peers.addresses[name])
        self._presences.start()
        reminding = self._reminding.start(_REMIND_SECONDS, now=False)
        try:
            await self._take_part()
            self.office.open()
            while not self.is_current:
                await self.caught_up()
        finally:
            self._reminding.stop()
            await reminding

    async def stop(self) -> None:
        """Leave the office to another one, and say no more."""
        await self.office.close()
        await self._presences.stop()

    # ---- taking part --------------------------------------------------------------------------------------------

    async def _take_part(self) -> None:
        if self._group.recovered_replica_id is None and not self._acquaintance.admitted:
            self._admitted = Deferred()
            await self._admitted
        roster = self._roster
        assert roster is not None
        own = roster.members[self._peers.own]
        if roster.begun and self._group.recovered_replica_id is None:
            raise Unwelcome(
                f"the log of the catalog is gone from {self._peers.own}'s data directory: begin anew with an empty "
                "directory and --rejoin"
            )
        voters = first_voters(self._peers.addresses)
        await self._group.take_part(own.replica_id, voters, _directory(roster.members))
        # Nothing was sent yet: the driver's first turn comes later.
        self._keep(Roster(roster.members, begun=True))

    def _founding(self) -> tuple[str, dict[str, BalancerRecord]]:
        return self._cluster_id, self._acquaintance.members

    def _remind(self) -> None:
        waiting_for = self._acquaintance.waiting_for
        if self._admitted is not None and not self._admitted.called and not waiting_for:
            what = "to be taken back by the controller" if self._company.wants_back else "for the others to agree"
        else:
            what = f"for {', '.join(waiting_for)}" if waiting_for else "for a controller"
        self._log.info("{name} waits {what}", name=self._peers.own, what=what)

    # ---- what is heard and known --------------------------------------------------------------------------------

    def catalog_changed(self, catalog: Catalog) -> None:
        """Hear of a new catalog."""
        self._catalog_is(catalog)
        self._presences.tell()

    def _catalog_is(self, catalog: Catalog) -> None:
        if catalog.balancers:
            self._learn(lambda: self._acquaintance.learn(catalog.balancers))

    def _heard(self, name: str, heard: Heard) -> None:
        told = Told(heard.presence.members, heard.presence.seen)
        self._learn(lambda: self._acquaintance.hear(name, heard.incarnation, told))
        if heard.presence.wants_back and self.office.held_here:
            self.office.admit(name, heard.incarnation)

    def _learn(self, learn: Callable[[], None]) -> None:
        before = self._acquaintance.telling()
        try:
            learn()
            if self._acquaintance.members and not before.members:
                self._admit()
        except Unwelcome as unwelcome:
            self._company.unwelcome(str(unwelcome))
            return
        members = self._acquaintance.members
        if self._roster is not None and members != self._roster.members:
            self._keep(Roster(members, begun=self._roster.begun))
            self._group.set_directory(_directory(members))
        if self._acquaintance.telling() != before:
            self._presences.tell()

    def _admit(self) -> None:
        """Take note on disk that this balancer is a member, before anything is done as one."""
        members = self._acquaintance.members
        if self._acquaintance.founds:
            self._company.may_found()
        self._keep(Roster(members))
        if self._admitted is not None:
            self._admitted.callback(None)

    def _keep(self, roster: Roster) -> None:
        if roster != self._roster:
            self._company.roster_file.keep_roster(roster)
            self._roster = roster

    def _describe(self) -> Presence:
        self._look_for_leader()
        told, status = self._acquaintance.telling(), self._group.status()
        wants_back = self._company.wants_back and not self._acquaintance.admitted
        if status is None:
            return Presence(self._company.url(), told.members, told.seen, wants_back)
        return Presence(
            self._company.url(),
            told.members,
            told.seen,
            wants_back,
            status.role,
            status.term,
            status.last_index,
            status.applied_index,
        )

    # ---- what others ask ----------------------------------------------------------------------------------------

    async def taken_over(self, timeout_seconds: float) -> None:
        """Return once every balancer that is there has applied what this one has, or after so long."""
        status = self._group.status()
        applied_index = status.applied_index if status is not None else 0
        until_seconds = self._clock.seconds() + timeout_seconds
        while self._clock.seconds() < until_seconds and any(
            presence.applied_index < applied_index for presence in self._all().values()
        ):
            await deferLater(self._clock, _LOOK_SECONDS)

    @property
    def stale_seconds(self) -> float:
        """How long it is unknown who leads."""
        self._look_for_leader()
        return self._clock.seconds() - self._led_at_seconds

    def _look_for_leader(self) -> None:
        if self._group.leader is not None:
            self._led_at_seconds = self._clock.seconds()

    async def caught_up(self) -> None:
        """Return once this balancer has applied what was acknowledged before, or soon if that cannot be."""
        try:
            await self._group.catch_up(_CATCH_UP_SECONDS)
            self.is_current = self.is_current or bool(self._group.catalog.cluster_id)
        except GroupError as error:
            self._log.debug("not caught up: {error}", error=error)

    def balancers(self) -> tuple[BalancerState, ...]:
        """Return how each balancer is, as far as is known here."""
        leader_last_index = max(
            (presence.last_index for presence in self._all().values() if presence.role == "leader"), default=None
        )
        return tuple(
            _state(name, self._all().get(name), leader_last_index, is_controller=name == self.office.holder)
            for name in sorted(self._peers.addresses)
        )

    def _all(self) -> dict[str, Presence]:
        heard = {name: self._presences.present(name) for name in self._peers.others}
        present = {name: one.presence for name, one in heard.items() if one is not None}
        return {self._peers.own: self._describe(), **present}


def _directory(members: Mapping[str, BalancerRecord]) -> dict[int, str]:
    return {record.replica_id: name for name, record in members.items()}


def _state(name: str, presence: Presence | None, last_index: int | None, *, is_controller: bool) -> BalancerState:
    if presence is None:
        return BalancerState(name, "away")
    lag = max(0, last_index - presence.applied_index) if last_index is not None else None
    state = "controller" if is_controller else "here"
    return BalancerState(name, state, presence.role or None, presence.term or None, lag, presence.url)
