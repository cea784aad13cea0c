"""Takes servers and the balancer down and waits until they are back, and tells the outages exactly from when to when.

Whatever is killed is the balancer's to start again; the balancer itself is started again here. What does not come
back in time is a problem that the report shows.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from twisted.internet.task import deferLater

from benchmarks.chaos.outages import Outages
from benchmarks.chaos.site import Site
from lbnode.concurrent import together

_POLL_SECONDS = 0.1
#: How long a killed server may take to be back, on a machine that is busy with everything else as well.
_BACK_SECONDS = 60.0


class Downtime:
    """What a fault can do to a site. `say` is told what happens, for the viewer."""

    def __init__(self, reactor: Any, site: Site, outages: Outages, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._site = site
        self._outages = outages
        self._say = say
        self._stopped: set[str] = set()
        #: What the faults showed to be wrong.
        self.problems: list[str] = []

    async def kill(self, names: Collection[str], why: str = "") -> None:
        """End servers without warning; returns when they are back."""
        self._say(f"kill -9 {why}{', '.join(names)}")
        self._outages.down(names)
        self._signal(names, signal.SIGKILL)
        await self._back(names)

    async def pause(self, names: Collection[str], seconds: float) -> None:
        """Let servers stand still for a time; returns when they answer again."""
        self._say(f"pause {', '.join(names)} for {seconds:.1f} s")
        self._outages.down(names)
        self._stopped.update(names)
        self._signal(names, signal.SIGSTOP)
        await deferLater(self._reactor, seconds)
        self.resume_all()
        await self._back(names)

    async def cut(self, name: str, seconds: float, *, hear: bool = False, heard: bool = False) -> None:
        """Cut a server off for a time, wholly or one way; returns when it answers again."""
        assert self._site.places is not None
        how = "let it hear nobody" if heard else "let nobody hear it" if hear else "cut it off"
        self._say(f"{name}: {how} for {seconds:.1f} s")
        self._outages.down([name])
        self._site.places.cut([self._site.servers()[name].http.host], hear=hear, heard=heard)
        await deferLater(self._reactor, seconds)
        self._site.places.heal()
        await self._back([name])

    async def wipe(self, name: str) -> None:
        """End a server and remove its data. Until its replicas are replaced its shards have one voter less."""
        self._say(f"kill -9 {name} and remove its data")
        self._outages.down([name])
        self._signal([name], signal.SIGKILL)
        self._site.servers()[name].wipe()
        back = await self._until(lambda: self._site.serves(name), f"{name} did not come back without its data")
        if back and await self._until(self._site.all_serving, f"the replicas of {name} were not replaced"):
            self._outages.up([name])
            self._say(f"{name} is replaced")

    async def kill_balancer(self, seconds: float, servers: Collection[str] = ()) -> None:
        """End the balancer, and servers with it, for a time; returns when all are back. Raises StartError."""
        assert self._site.own is not None
        also = f" and all {len(servers)} servers" if servers else ""
        self._say(f"kill -9 the balancer{also}, back after {seconds:.1f} s")
        self._outages.balancer_down()
        self._outages.down(servers)
        self._site.own.kill_balancer()
        self._signal(servers, signal.SIGKILL)
        await deferLater(self._reactor, seconds)
        await self._site.own.start_balancer()
        self._outages.balancer_up()
        self._say("the balancer is back")
        if servers:
            await self._back(servers)

    async def healed(self) -> None:
        """Return once every replica serves; it is a problem if that takes long."""
        _ = await self._until(self._site.all_serving, "not every replica serves")

    def resume_all(self) -> None:
        """Let no server stay paused or cut off, whatever ended the chaos."""
        if self._site.places is not None:
            self._site.places.heal()
        self._signal(self._stopped, signal.SIGCONT)
        self._stopped = set()

    def problem(self, text: str) -> None:
        """Take note of what is wrong."""
        self._say(f"WRONG: {text}")
        self.problems.append(text)

    async def _back(self, names: Collection[str]) -> None:
        _ = await together(self._one_back(name) for name in names)
        self._say(f"{', '.join(names)} back")

    async def _one_back(self, name: str) -> None:
        if await self._until(lambda: self._site.serves(name), f"{name} did not come back"):
            self._outages.up([name])

    async def _until(self, true: Callable[[], Awaitable[bool]], otherwise: str) -> bool:
        waited_since = self._reactor.seconds()
        while not await true():
            if self._reactor.seconds() - waited_since > _BACK_SECONDS:
                self.problem(f"{otherwise} within {_BACK_SECONDS:g} s")
                return False
            await deferLater(self._reactor, _POLL_SECONDS)
        return True

    def _signal(self, names: Collection[str], number: signal.Signals) -> None:
        servers = self._site.servers()
        for name in names:
            if name in servers:
                servers[name].signal(number)
