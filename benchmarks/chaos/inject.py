"""Carries out one fault after the other: who is meant, and what is done to whom in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.task import deferLater

from benchmarks.chaos.downtime import Downtime
from benchmarks.chaos.faults import Fault, Kind
from benchmarks.chaos.outages import Outages
from benchmarks.chaos.site import Site
from benchmarks.door import UnexpectedAnswerError, UnreachableError
from benchmarks.process import StartError
from lbnode.concurrent import together

#: How long /add and /rm may take: they move data.
_RESIZE_SECONDS = 180.0
#: What a balancer says that passed the request on to one that died.
_OUTCOME_UNKNOWN = 504
#: Within a fault of two parts the second strikes this part of the fault's time after the first.
_MEANWHILE = 0.2


class Injector:
    """Strikes at a site through `downtime`. `say` is told what happens, for the viewer."""

    def __init__(
        self, reactor: Any, site: Site, outages: Outages, downtime: Downtime, say: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._site = site
        self._outages = outages
        self._downtime = downtime
        self._say = say
        #: What is the matter just now, and what was last; "" if nothing is, or was.
        self.current = self.latest = ""
        self._strikes: dict[Kind, Callable[[Fault], Awaitable[None]]] = {
            Kind.KILL: self._kill_one,
            Kind.KILL_LEADER: self._kill_leader,
            Kind.KILL_MAJORITY: self._kill_majority,
            Kind.KILL_BALANCER: self._kill_balancer,
            Kind.KILL_EVERYTHING: self._kill_everything,
            Kind.PAUSE: self._pause_one,
            Kind.PAUSE_LEADER: self._pause_leader,
            Kind.CUT: self._cut_one,
            Kind.CUT_LEADER: self._cut_leader,
            Kind.MUTE_LEADER: self._mute_leader,
            Kind.DEAFEN_LEADER: self._deafen_leader,
            Kind.ISOLATE_LEADER: self._isolate_leader,
            Kind.WIPE: self._wipe,
            Kind.WIPE_AND_KILL: self._wipe_and_kill,
            Kind.RESIZE: self._resize,
            Kind.RESIZE_AND_KILL: self._resize_and_kill,
            Kind.RESIZE_AND_KILL_BALANCER: self._resize_and_kill_balancer,
        }

    async def strike(self, fault: Fault) -> None:
        """Carry out a fault; returns when all is well again, or does not become so in time."""
        self.current = self.latest = fault.kind
        try:
            self._outages.place(await self._site.placement())
            await self._strikes[fault.kind](fault)
        except (StartError, UnexpectedAnswerError, UnreachableError) as reason:
            self._downtime.problem(f"{fault.kind}: {reason}")
        finally:
            self.current = ""

    # ---- servers and balancer ---------------------------------------------------------------------------------

    async def _kill_one(self, fault: Fault) -> None:
        await self._downtime.kill([fault.choose(self._site.servers())])

    async def _kill_leader(self, fault: Fault) -> None:
        await self._downtime.kill([await self._leader(fault)])

    async def _kill_majority(self, fault: Fault) -> None:
        placed = await self._site.placement()
        shard = fault.choose({shard for shards in placed.values() for shard in shards})
        holders = fault.order([server for server, shards in placed.items() if shard in shards])
        await self._downtime.kill(holders[: len(holders) // 2 + 1], f"most of {shard}: ")

    async def _kill_balancer(self, fault: Fault) -> None:
        await self._downtime.kill_balancer(fault.hold_seconds)

    async def _kill_everything(self, fault: Fault) -> None:
        await self._downtime.kill_balancer(fault.hold_seconds, list(self._site.servers()))

    async def _pause_one(self, fault: Fault) -> None:
        await self._downtime.pause([fault.choose(self._site.servers())], fault.hold_seconds)

    async def _pause_leader(self, fault: Fault) -> None:
        await self._downtime.pause([await self._leader(fault)], fault.hold_seconds)

    async def _cut_one(self, fault: Fault) -> None:
        await self._downtime.cut(fault.choose(self._site.servers()), fault.hold_seconds)

    async def _cut_leader(self, fault: Fault) -> None:
        await self._downtime.cut(await self._leader(fault), fault.hold_seconds)

    async def _mute_leader(self, fault: Fault) -> None:
        await self._downtime.cut(await self._leader(fault), fault.hold_seconds, hear=True)

    async def _deafen_leader(self, fault: Fault) -> None:
        await self._downtime.cut(await self._leader(fault), fault.hold_seconds, heard=True)

    async def _leader(self, fault: Fault) -> str:
        """Return the server that leads the shard that the fault means; any server if nobody does."""
        leaders = await self._site.door.leaders()
        return leaders[fault.choose(leaders)] or fault.choose(self._site.servers())

    # ---- data and membership ----------------------------------------------------------------------------------

    async def _wipe(self, fault: Fault) -> None:
        await self._downtime.wipe(fault.choose(self._site.servers()))

    async def _wipe_and_kill(self, fault: Fault) -> None:
        """Kill a second server while the first one's replicas are being replaced."""
        wiped, killed, *_ = fault.order(self._site.servers())
        _ = await together([self._downtime.wipe(wiped), self._meanwhile(fault, lambda: self._downtime.kill([killed]))])

    async def _isolate_leader(self, fault: Fault) -> None:
        """Let a leader lose its followers, then its data: what it acknowledged by itself is lost.

        The followers stand still first and are killed with it, for what it sent to them waits in their sockets.
        """
        leaders = await self._site.door.leaders()
        shard = fault.choose(leaders)
        placed = await self._site.placement()
        holders = fault.order([server for server, shards in placed.items() if shard in shards])
        leader = leaders[shard] or holders[0]
        followers = [server for server in holders if server != leader]

        async def end() -> None:
            _ = await together([self._downtime.kill(followers), self._downtime.wipe(leader)])

        _ = await together([self._downtime.pause(followers, fault.hold_seconds), self._meanwhile(fault, end)])

    async def _resize(self, fault: Fault) -> None:
        """Add a server, and remove one of all; no client may notice."""
        await self._add()
        await self._remove(fault)

    async def _resize_and_kill(self, fault: Fault) -> None:
        victim = fault.choose(self._site.servers())
        _ = await together([self._add(), self._meanwhile(fault, lambda: self._downtime.kill([victim]))])
        await self._remove(fault)

    async def _resize_and_kill_balancer(self, fault: Fault) -> None:
        """Kill the balancer while it adds a server, which is then there as a whole or not at all."""
        before = await self._site.placement()
        death = self._meanwhile(fault, lambda: self._downtime.kill_balancer(0))
        _ = await together([self._add_unless_killed(), death])
        await self._downtime.healed()
        if len(await self._site.placement()) > len(before):
            await self._remove(fault)

    async def _meanwhile(self, fault: Fault, strike: Callable[[], Awaitable[None]]) -> None:
        await deferLater(self._reactor, fault.hold_seconds * _MEANWHILE)
        await strike()

    async def _add(self) -> None:
        self._say("add a server")
        request = {"n": 1, "servers": {"Server$": []}}
        answer = await self._site.door.json("POST", "/add", request, deadline_seconds=_RESIZE_SECONDS)
        self._say(answer["message"])

    async def _add_unless_killed(self) -> None:
        try:
            await self._add()
        except UnreachableError:
            self._say("nobody says whether it was added")
        except UnexpectedAnswerError as answer:
            if answer.status != _OUTCOME_UNKNOWN:
                raise
            self._say("another balancer does not know whether it was added")

    async def _remove(self, fault: Fault) -> None:
        placed = await self._site.placement()
        self._outages.place(placed)
        name = fault.choose(placed)
        self._say(f"remove {name}")
        request = {"n": 1, "servers": [name]}
        _ = await self._site.door.json("DELETE", "/rm", request, deadline_seconds=_RESIZE_SECONDS)
        self._outages.place(await self._site.placement())
        self._say(f"{name} is gone")
