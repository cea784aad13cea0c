"""One chaos at one site: clients and faults side by side, then everything heals and is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from benchmarks.chaos.client import Client, Desk
from benchmarks.chaos.downtime import Downtime
from benchmarks.chaos.faults import schedule
from benchmarks.chaos.history import History
from benchmarks.chaos.inject import Injector
from benchmarks.chaos.judge import judge
from benchmarks.chaos.keys import Keys
from benchmarks.chaos.operations import Request, What, read, steps
from benchmarks.chaos.outages import Outages
from benchmarks.chaos.pauses import Pauses
from benchmarks.chaos.report import Options, Report
from benchmarks.chaos.site import Site
from benchmarks.chaos.view import Board, View
from benchmarks.verify import verify
from lbnode.concurrent import together

_VIEW_SECONDS = 0.5
#: Clients go on this long after the last fault, so that what it left behind shows.
_AFTERMATH_SECONDS = 3.0
_AGREE_SECONDS = 60.0


class Chaos:
    """A chaos as the options ask for, shown by `view`. `clock` counts seconds."""

    _log = Logger()

    def __init__(
        self, reactor: Any, clock: Callable[[], float], options: Options, view: View, site: Site, keys: Keys
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._options = options
        self._view = view
        self._site = site
        self._keys = keys
        self._outages = Outages(clock)
        self._downtime = Downtime(reactor, site, self._outages, view.say)
        self._injector = Injector(reactor, site, self._outages, self._downtime, view.say)
        self._history = History(self._excuse)
        self._pauses = Pauses(shard.name for shard in keys.shards)
        self._faults: Counter[str] = Counter()
        self._began = clock()

    async def run(self) -> Report:
        """Do everything. Raises TableFullError if the table is too small for it."""
        board = LoopingCall(self._show)
        board.clock = self._reactor
        _ = board.start(_VIEW_SECONDS, now=False)
        try:
            await self._clients_and_faults()
            self._view.say("no more faults: comparing")
            await self._downtime.healed()
            return await self._report()
        finally:
            self._downtime.resume_all()
            board.stop()

    async def _clients_and_faults(self) -> None:
        clients = [self._client(f"c{number}", number) for number in range(self._options.clients)]
        _ = await together([*(client.run() for client in clients), self._strike(clients)])

    async def _strike(self, clients: list[Client]) -> None:
        """Let faults strike until time is up, then stop the clients."""
        end = self._began + self._options.minutes * 60 - _AFTERMATH_SECONDS
        for fault in schedule(Random(f"{self._options.seed} faults"), await self._site.kinds()):
            if self._clock() + fault.calm_seconds >= end:
                break
            await deferLater(self._reactor, fault.calm_seconds)
            self._faults[fault.kind] += 1
            await self._injector.strike(fault)
        await deferLater(self._reactor, max(0.0, end - self._clock()) + _AFTERMATH_SECONDS)
        for client in clients:
            client.stop()

    async def _report(self) -> Report:
        history = self._history
        await self._read_everything()
        servers = await self._site.placement()
        replicas = await verify(
            self._reactor, self._site.door.rows_on, servers, history.expected(), deadline_seconds=_AGREE_SECONDS
        )
        return Report(
            options=self._options,
            seconds=self._clock() - self._began,
            faults=dict(self._faults),
            acknowledged=history.acknowledged,
            lost=sorted(history.lost),
            outcomes=dict(history.outcomes.most_common()),
            errors=dict(history.errors.most_common()),
            pause_seconds_by_shard=self._pauses.longest_by_shard,
            pause_seconds_by_fault=self._pauses.longest_by_fault,
            problems=self._downtime.problems,
            linearizability=await judge(self._reactor, history.operations),
            replicas=replicas,
        )

    async def _read_everything(self) -> None:
        """Read the whole table as one last operation on every id that was ever used."""
        shards = self._keys.shards
        whole = read(What.RANGE, shards[0].low, shards[-1].ids()[-1], list(self._history.operations))
        _ = await self._client("last").perform(whole)

    def _client(self, name: str, number: int = 0) -> Client:
        door = self._site.doors[number % len(self._site.doors)]
        desk = Desk(door, self._keys, self._history, self._pauses, self._clock, self._matter)
        return Client(self._reactor, desk, name, steps(Random(f"{self._options.seed} {name}"), name, self._keys.slots))

    def _matter(self) -> str:
        """Return which fault a pause is put down to: the latest, which also has an aftermath."""
        return self._injector.latest or "no fault"

    def _excuse(self, request: Request, invoked: float, returned: float) -> bool:
        return self._outages.excuse(self._keys.shards_of(request.low, request.high), invoked, returned)

    def _show(self) -> None:
        with self._log.failuresHandled("while showing the board"):
            now = self._clock()
            longest = self._pauses.longest_by_shard
            self._view.refresh(
                Board(
                    seconds=now - self._began,
                    fault=self._injector.current,
                    acknowledged=self._history.acknowledged,
                    lost=len(self._history.lost),
                    outcomes=self._history.outcomes,
                    errors=self._history.errors,
                    pauses={shard: (self._pauses.lasting(shard, now), longest[shard]) for shard in longest},
                )
            )
