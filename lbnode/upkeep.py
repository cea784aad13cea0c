"""Keeps the table's servers running: each has a keeper that looks, starts it again when it died, and tells it its part.

Keepers know nothing of each other, so that a server that is paused or slow delays nobody. A server that dies is
started again at once, one that keeps dying after ever longer pauses, and after some tries it counts as failed, though
it is tried on. One whose process is there but silent is not touched before a long deadline: a late answer is no death.

A server whose data is gone must not come back as what it was (RAFT_RULES 32). It begins anew in a fresh home with new
replica ids, but only once its shards have shown for a while that they live without it: if they do not, its data is
needed, and whoever took it away may still bring it back.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from lbnode.catalog import ReplaceHome
from lbnode.catalog_changes import Refused
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import in_background
from lbnode.fleet import Fleet, Sight
from lbnode.launchers import LaunchFailed, LostHome
from lbnode.table import ServerRecord, Table
from raftlog.errors import GroupError


class UpkeepTimes(msgspec.Struct, frozen=True):
    """How often a server is looked at, and how patient its keeper is.

    A server counts as failed after more than `tries_max` deaths and starts in vain; `steady_seconds` of running make
    them forgotten.
    """

    look_seconds: float = 1.0
    pause_seconds_min: float = 0.5
    pause_seconds_max: float = 30.0
    tries_max: int = 6
    steady_seconds: float = 10.0
    #: How long a process may be silent until it is stopped by force and started again.
    hung_seconds: float = 60.0
    #: How long a server's data must be gone, and its shards live without it, until it begins anew; several elections.
    lost_seconds: float = 3.0


class Upkeep:
    """The keepers of a table's servers. `follow` says which."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, catalog: CatalogGroup, fleet: Fleet, times: UpkeepTimes) -> None:
        self.clock = clock
        self.catalog = catalog
        self.fleet = fleet
        self.times = times
        #: Groups that have a leader, as seen last.
        self.led: Collection[int] = ()
        self._keepers: dict[str, _Keeper] = {}
        self._ending: list[Deferred[None]] = []
        #: Since the start, for /metrics.
        self.respawns = 0
        self.homes_replaced = 0

    def follow(self, table: Table | None) -> None:
        """Keep the servers of this table from now on; something about them may have changed."""
        servers = {server.home: server for server in table.servers.values()} if table is not None else {}
        for home in self._keepers.keys() - servers.keys():
            self._dismiss(home)
        for home in servers:
            if home in self._keepers:
                self._keepers[home].poke()
            else:
                self._keepers[home] = _Keeper(self, home)

    def ended(self, home: str) -> None:
        """Hear that the process on a home is gone."""
        if home in self._keepers:
            self._keepers[home].poke()

    def begin_replacing(self, home: str) -> None:
        """Have the server in `home` begin anew, unless it does already."""
        self._ending.append(in_background(self._replace(home), "replacing a home"))

    async def _replace(self, home: str) -> None:
        try:
            await self.catalog.propose(ReplaceHome(home))
        except (Refused, GroupError) as error:
            self._log.info("{home} is not replaced: {error}", home=home, error=error)
        else:
            self.homes_replaced += 1

    async def stop(self) -> None:
        """Leave all servers as they are."""
        self.follow(None)
        stopping, self._ending = self._ending, []
        for stopped in stopping:
            await stopped

    def _dismiss(self, home: str) -> None:
        stopped = self._keepers.pop(home).stop()
        if not stopped.called:
            self._ending.append(stopped)


class _Keeper:
    """Looks after the server that lives in one home."""

    _log = Logger()

    def __init__(self, upkeep: Upkeep, home: str) -> None:
        self._upkeep = upkeep
        self._clock = upkeep.clock
        self._times = upkeep.times
        self._home = home
        self._was_up = False
        self._up_since_seconds = 0.0
        self._deaths = 0
        self._next_start_seconds = 0.0
        self._lost_since_seconds: float | None = None
        self._pausing: Deferred[None] | None = None
        self._pause_call: IDelayedCall | None = None
        self._poked = False
        self._running = in_background(self._keep(), "keeping a server")

    def poke(self) -> None:
        """Look at once instead of after the pause."""
        self._poked = True
        if self._pausing is not None:
            pausing, self._pausing = self._pausing, None
            pausing.callback(None)

    def stop(self) -> Deferred[None]:
        """Look no more; fires when it has ended."""
        self._running.cancel()
        return self._running

    async def _keep(self) -> None:
        while True:
            self._poked = False
            try:
                await self._look()
            except CancelledError:
                raise
            except GroupError as error:
                self._log.info("nothing is done about {home} now: {error}", home=self._home, error=error)
            except Exception:  # noqa: BLE001 - whatever it is, the server is looked at again
                self._log.failure("looking after the server in {home} failed", home=self._home)
            if not self._poked:
                await self._pause()

    async def _pause(self) -> None:
        due_seconds = self._next_start_seconds - self._clock.seconds()
        seconds = min(self._times.look_seconds, due_seconds) if due_seconds > 0 else self._times.look_seconds
        self._pausing = Deferred()
        self._pause_call = self._clock.callLater(seconds, self.poke)
        try:
            await self._pausing
        finally:
            if self._pause_call.active():
                self._pause_call.cancel()

    @property
    def _server(self) -> ServerRecord | None:
        """The server as the catalog knows it now."""
        return self._upkeep.catalog.catalog.servers().get(self._home)

    async def _look(self) -> None:
        server = self._server
        if server is None:
            return
        sight = await self._upkeep.fleet.look(server)
        if sight is Sight.GONE:
            await self._start_again(server)
        elif sight is Sight.FOREIGN:
            await self._begin_anew(server)
        elif self._upkeep.fleet.silent_seconds(self._home) >= self._times.hung_seconds:
            self._log.warn("{name} hangs and is stopped", name=server.name)
            await self._upkeep.fleet.stop([server])
        else:
            self._is_up()
            await self._upkeep.fleet.tell_one(server)

    def _is_up(self) -> None:
        if not self._was_up:
            self._was_up = True
            self._up_since_seconds = self._clock.seconds()
        self._lost_since_seconds = None

    # ---- starting -----------------------------------------------------------------------------------------------

    async def _start_again(self, server: ServerRecord) -> None:
        now_seconds = self._clock.seconds()
        if self._was_up:
            self._was_up = False
            if now_seconds - self._up_since_seconds >= self._times.steady_seconds:
                self._deaths = 0
            self._died(server, "it ended each time")
        if now_seconds < self._next_start_seconds:
            return
        try:
            await self._upkeep.fleet.start_one(server)
        except LostHome:
            await self._begin_anew(server)
        except LaunchFailed as failed:
            self._died(server, str(failed))
        else:
            self._upkeep.respawns += 1
            self._is_up()
            self._poked = True

    def _died(self, server: ServerRecord, reason: str) -> None:
        """Plan the next start: at once after the first death, later after each further one."""
        times = self._times
        pause_seconds = times.pause_seconds_min * 2 ** min(self._deaths - 1, 16) if self._deaths else 0.0
        self._next_start_seconds = self._clock.seconds() + min(pause_seconds, times.pause_seconds_max)
        self._deaths += 1
        if self._deaths > times.tries_max:
            self._upkeep.fleet.note(server, "failed", f"started {self._deaths} times in vain: {reason}")

    # ---- without its data ---------------------------------------------------------------------------------------

    async def _begin_anew(self, server: ServerRecord) -> None:
        """Give the server a fresh home, unless its shards need what it lost."""
        table, now_seconds = self._upkeep.catalog.catalog.table, self._clock.seconds()
        if self._lost_since_seconds is None:
            self._lost_since_seconds = now_seconds
        needed = (
            [shard.shard for shard in table.shards_on(server.name) if shard.group_id not in self._upkeep.led]
            if (table is not None)
            else []
        )
        if needed:
            text = f"its data is gone, and {', '.join(needed)} cannot do without: bring it back"
            self._upkeep.fleet.note(server, "failed", text)
            self._lost_since_seconds = now_seconds
            return
        if now_seconds - self._lost_since_seconds < self._times.lost_seconds:
            return
        await self._upkeep.fleet.stop([server])
        self._log.warn("{name} lost its data and begins anew", name=server.name)
        # The keeper of a home that is replaced is dismissed, which must not cut short what replaces it.
        self._upkeep.begin_replacing(self._home)
