"""Carries out one fault after the other, and tells the outages exactly from when to when servers are gone.

Each fault ends when everything that it took down answers again; what does not come back in time is a problem that the
report shows. A server that was killed is the balancer's to start again.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from twisted.internet.task import deferLater

from benchmarks.chaos.faults import Fault, Kind
from benchmarks.chaos.outages import Outages
from benchmarks.chaos.site import Site
from benchmarks.door import UnexpectedAnswerError, UnreachableError
from benchmarks.process import StartError
from lbnode.concurrent import together

_POLL_SECONDS = 0.1
#: How long a killed server may take to be back, on a machine that is busy with everything else as well.
_BACK_SECONDS = 60.0
#: How long /add and /rm may take: they move data.
_RESIZE_SECONDS = 180.0


class Injector:
    """Strikes at a site. `say` is told what happens, for the viewer."""

    def __init__(self, reactor: Any, site: Site, outages: Outages, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._site = site
        self._outages = outages
        self._say = say
        self._stopped: set[str] = set()
        #: What the faults showed to be wrong.
        self.problems: list[str] = []
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
            Kind.WIPE: self._wipe,
            Kind.RESIZE: self._resize,
        }

    async def strike(self, fault: Fault) -> None:
        """Carry out a fault; returns when all is well again, or does not become so in time."""
        self.current = self.latest = fault.kind
        try:
            self._outages.place(await self._site.placement())
            await self._strikes[fault.kind](fault)
        except (StartError, UnexpectedAnswerError, UnreachableError) as reason:
            self._problem(f"{fault.kind}: {reason}")
        finally:
            self.current = ""

    def resume_all(self) -> None:
        """Let no server stay paused, whatever ended the chaos."""
        self._signal(self._stopped, signal.SIGCONT)
        self._stopped = set()

    # ---- the faults -------------------------------------------------------------------------------------------

    async def _kill_one(self, fault: Fault) -> None:
        await self._kill([fault.choose(self._site.servers())])

    async def _kill_leader(self, fault: Fault) -> None:
        await self._kill([await self._leader(fault)])

    async def _kill_majority(self, fault: Fault) -> None:
        placed = await self._site.placement()
        shard = fault.choose({shard for shards in placed.values() for shard in shards})
        holders = fault.order([server for server, shards in placed.items() if shard in shards])
        await self._kill(holders[: len(holders) // 2 + 1], f"most of {shard}: ")

    async def _kill_balancer(self, fault: Fault) -> None:
        assert self._site.own is not None
        self._say(f"kill -9 the balancer, back after {fault.hold_seconds:.1f} s")
        self._outages.balancer_down()
        self._site.own.kill_balancer()
        await deferLater(self._reactor, fault.hold_seconds)
        await self._balancer_back()

    async def _kill_everything(self, fault: Fault) -> None:
        assert self._site.own is not None
        servers = list(self._site.servers())
        self._say(f"kill -9 the balancer and all {len(servers)} servers, back after {fault.hold_seconds:.1f} s")
        self._outages.balancer_down()
        self._outages.down(servers)
        self._site.own.kill_balancer()
        self._signal(servers, signal.SIGKILL)
        await deferLater(self._reactor, fault.hold_seconds)
        await self._balancer_back()
        await self._back(servers)

    async def _pause_one(self, fault: Fault) -> None:
        await self._pause(fault.choose(self._site.servers()), fault)

    async def _pause_leader(self, fault: Fault) -> None:
        await self._pause(await self._leader(fault), fault)

    async def _wipe(self, fault: Fault) -> None:
        """Take a server's data while it is down. Until its replicas are replaced its shards have one voter less."""
        name = fault.choose(self._site.servers())
        self._say(f"kill -9 {name} and remove its data")
        self._outages.down([name])
        self._signal([name], signal.SIGKILL)
        shutil.rmtree(self._site.servers()[name].data_dir)
        _ = await self._until(lambda: self._site.serves(name), f"{name} did not come back without its data")
        if await self._until(self._site.all_serving, f"the replicas of {name} were not replaced"):
            self._outages.up([name])

    async def _resize(self, fault: Fault) -> None:
        """Add a server, and remove one of all; no client may notice."""
        self._say("add a server")
        request: dict[str, Any] = {"n": 1, "servers": {"Server$": []}}
        await self._site.door.json("POST", "/add", request, deadline_seconds=_RESIZE_SECONDS)
        placed = await self._site.placement()
        self._outages.place(placed)
        name = fault.choose(placed)
        self._say(f"remove {name}")
        request = {"n": 1, "servers": [name]}
        await self._site.door.json("DELETE", "/rm", request, deadline_seconds=_RESIZE_SECONDS)
        self._outages.place(await self._site.placement())

    # ---- what they are made of --------------------------------------------------------------------------------

    async def _leader(self, fault: Fault) -> str:
        """Return the server that leads the shard that the fault means; any server if nobody does."""
        leaders = await self._site.door.leaders()
        return leaders[fault.choose(leaders)] or fault.choose(self._site.servers())

    async def _kill(self, names: list[str], why: str = "") -> None:
        self._say(f"kill -9 {why}{', '.join(names)}")
        self._outages.down(names)
        self._signal(names, signal.SIGKILL)
        await self._back(names)

    async def _pause(self, name: str, fault: Fault) -> None:
        self._say(f"pause {name} for {fault.hold_seconds:.1f} s")
        self._outages.down([name])
        self._stopped.add(name)
        self._signal([name], signal.SIGSTOP)
        await deferLater(self._reactor, fault.hold_seconds)
        self.resume_all()
        await self._back([name])

    async def _back(self, names: Collection[str]) -> None:
        _ = await together(self._one_back(name) for name in names)
        self._say(f"{', '.join(names)} back")

    async def _one_back(self, name: str) -> None:
        if await self._until(lambda: self._site.serves(name), f"{name} did not come back"):
            self._outages.up([name])

    async def healed(self) -> None:
        """Return once every replica serves; it is a problem if that takes long."""
        _ = await self._until(self._site.all_serving, "not every replica serves")

    async def _balancer_back(self) -> None:
        assert self._site.own is not None
        await self._site.own.start_balancer()
        self._outages.balancer_up()
        self._say("the balancer is back")

    async def _until(self, true: Callable[[], Awaitable[bool]], otherwise: str) -> bool:
        waited_since = self._reactor.seconds()
        while not await true():
            if self._reactor.seconds() - waited_since > _BACK_SECONDS:
                self._problem(f"{otherwise} within {_BACK_SECONDS:g} s")
                return False
            await deferLater(self._reactor, _POLL_SECONDS)
        return True

    def _signal(self, names: Collection[str], number: signal.Signals) -> None:
        servers = self._site.servers()
        for name in names:
            if name in servers:
                servers[name].signal(number)

    def _problem(self, text: str) -> None:
        self._say(f"WRONG: {text}")
        self.problems.append(text)
