"""Servers whose network is broken in one way after the other, while clients in several places use them.

Beside each server lives a client, which the break puts on that server's side. Whatever is broken heals by itself once
the network does: nothing lost, one order of everything that was seen, replicas equal, everybody served. For how long
each client was not is measured and told, not judged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from dbnode.testing.breaks import Break, Scene, beside
from dbnode.testing.clients import Client, History, Target
from dbnode.testing.networks import Network
from dbnode.testing.prober import Prober, longest_pause
from dbnode.testing.process_cluster import ProcessCluster
from dbnode.testing.verdict import judge_history, judge_rows
from dbnode.testing.writer import Violation, Writer

_GROUP_ID = 1
#: Longer than any break, so that what a cut-off client wants done waits instead of becoming unknown.
_TIMEOUT_SECONDS = 15.0
#: What is going well before a break, and how long everything may take to go well after one.
_CALM_SECONDS = 1.0
_HEALED_SECONDS = 30.0
_WRITERS = 2
_FIRST_ID = 1000
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Pause:
    """For how long a client got nothing done because of a break; `role` is its server's when the break began."""

    what: str
    role: str
    broken_seconds: float
    write_seconds: float
    read_seconds: float
    #: From the end of the break until writes and reads went on, if they did not before.
    healed_seconds: float


class Partitions:
    """One run in `directory` over three servers in `network`; afterwards `pauses` and `happened` tell of it."""

    def __init__(self, reactor: Any, directory: Path, seed: int, network: Network) -> None:
        self._reactor = reactor
        self._rng = rng = random.Random(seed)
        self._network = network
        self._directory = directory
        self.happened: Counter[str] = Counter()
        self.pauses: list[Pause] = []
        self._names = ["Server0", "Server1", "Server2"]
        self._history: History = []
        self._writers: list[Writer] = []
        self._clients: list[Client] = []
        self._probers: dict[str, Prober] = {}
        self._ids = count(_FIRST_ID)
        self._child = lambda: random.Random(rng.getrandbits(64))

    async def run(self, breaks: Sequence[Break]) -> None:
        """Break and heal, and leave nothing behind. Raises Violation, NamespacesUnavailable."""
        self._network.open(self._names, list(map(beside, self._names)))
        cluster = None
        try:
            cluster = ProcessCluster(
                self._reactor, self._directory, self._child(), self._names, (_GROUP_ID,), network=self._network
            )
            await cluster.start()
            working = [Deferred.fromCoroutine(work) for work in await self._workers(cluster)]
            everything = gatherResults(working, consumeErrors=True)
            for broken in breaks:
                await self._strike(broken, cluster)
            self._finish()
            await everything
            while not all(client.is_done for client in self._clients):
                await deferLater(self._reactor, _POLL_SECONDS)
            await cluster.agreed(_GROUP_ID)
            await cluster.stop()
        finally:
            if cluster is not None:
                await cluster.kill_all()
            await self._network.close()
        judge_history("shared keys", self._history)
        self.happened["rows in the end"] = judge_rows("rows", await cluster.contents(_GROUP_ID), self._writers)

    async def _workers(self, cluster: ProcessCluster) -> list[Any]:
        work: list[Any] = []
        for server in self._names:
            client = await cluster.client(beside(server))
            target = Target(
                self._reactor,
                client.requests,
                _GROUP_ID,
                self._names,
                self.happened,
                self._history,
                timeout_seconds=_TIMEOUT_SECONDS,
            )
            session = client.session(_GROUP_ID, self._names)
            writers = [Writer(target, session, client.reads, self._child(), self._ids) for _ in range(_WRITERS)]
            self._probers[server] = prober = Prober(target, client, self._child())
            self._clients.append(Client(f"client {beside(server)}", target, self._child()))
            self._writers += writers
            work += [prober.run(), *(writer.run() for writer in writers)]
            self._clients[-1].start()
        return work

    def _finish(self) -> None:
        for writer in self._writers:
            writer.finish()
        for client in self._clients:
            client.finish()
        for prober in self._probers.values():
            prober.finish()

    # ---- a break ----------------------------------------------------------------------------------------------

    async def _strike(self, broken: Break, cluster: ProcessCluster) -> None:
        await deferLater(self._reactor, _CALM_SECONDS)
        leader = await cluster.leader(_GROUP_ID)
        scene = Scene(leader, tuple(name for name in self._names if name != leader))
        began = self._reactor.seconds()
        for troubles, seconds in broken.steps(scene):
            self._network.impose(troubles)
            await deferLater(self._reactor, seconds)
        self._network.impose({})
        ended = self._reactor.seconds()
        await self._healed(broken, ended)
        for server in self._names:
            self._note(broken, scene, server, began, ended)

    async def _healed(self, broken: Break, ended: float) -> None:
        """Wait until everybody has written and read since the end of the break."""
        while any(moments[-1:] < [ended] for moments in self._moments()):
            if self._reactor.seconds() > ended + _HEALED_SECONDS:
                waiting = [
                    name for name, one in self._probers.items() if min(one.written[-1:], one.read[-1:]) < [ended]
                ]
                raise Violation(f"{broken.name}: {_HEALED_SECONDS:g} s after it the clients of {waiting} still wait")
            await deferLater(self._reactor, _POLL_SECONDS)

    def _moments(self) -> Iterator[list[float]]:
        for prober in self._probers.values():
            yield prober.written
            yield prober.read

    def _note(self, broken: Break, scene: Scene, server: str, began: float, ended: float) -> None:
        prober = self._probers[server]
        goes_on = (next(moment for moment in moments if moment >= ended) for moments in (prober.written, prober.read))
        self.pauses.append(
            Pause(
                what=broken.name,
                role="leader" if server == scene.leader else f"follower {scene.followers.index(server) + 1}",
                broken_seconds=ended - began,
                write_seconds=longest_pause(prober.written, began, ended),
                read_seconds=longest_pause(prober.read, began, ended),
                healed_seconds=max(goes_on) - ended,
            )
        )


def table(pauses: Iterable[Pause]) -> Iterator[str]:
    """Yield the pauses as lines of a table."""
    yield f"{'broken':44} {'client beside':13} {'for':>5} {'no write':>9} {'no read':>8} {'after':>6}"
    for one in pauses:
        times = f"{one.broken_seconds:5.1f} {one.write_seconds:9.2f} {one.read_seconds:8.2f} {one.healed_seconds:6.2f}"
        yield f"{one.what:44} {one.role:13} {times}"
