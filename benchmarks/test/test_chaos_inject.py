"""Tests of benchmarks.chaos.inject and site: real processes that do nothing, beside a fake balancer."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from benchmarks.chaos.downtime import Downtime
from benchmarks.chaos.faults import BALANCER_KINDS, CUT_KINDS, RESIZE_KINDS, Fault, Kind
from benchmarks.chaos.inject import Injector
from benchmarks.chaos.outages import Outages
from benchmarks.chaos.site import Site
from benchmarks.spawn import servers_below
from benchmarks.test.serving import ServedCase
from benchmarks.test.test_spawn import start_time
from dbnode.wire import Endpoint, ServerFile


class InjectorCase(ServedCase):
    def setUp(self) -> None:
        """Run six processes that pass for the servers of A-1; the fake balancer answers their heartbeats."""
        super().setUp()
        self.directory = Path(self.mktemp())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in self.balancer.layout.servers:
            self.start(name)
        self.outages = Outages(self.reactor.seconds)
        self.said: list[str] = []
        self.site = Site(self.reactor, self.door, partial(servers_below, self.directory), None)
        self.downtime = Downtime(self.reactor, self.site, self.outages, self.said.append)
        self.injector = Injector(self.reactor, self.site, self.outages, self.downtime, self.said.append)
        self.began = self.reactor.seconds()

    def start(self, name: str) -> None:
        """Start a server that does nothing, and let it write what servers write."""
        process = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.processes[name] = process
        http = Endpoint("127.0.0.1", self.port_number)
        described = ServerFile(name, "", "", process.pid, start_time(process.pid), http, None)
        home = self.directory / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "endpoints.json").write_bytes(msgspec.json.encode(described))

    def dead(self) -> list[str]:
        """Return the servers that were killed."""
        return sorted(name for name, process in self.processes.items() if process.poll() is not None)

    def excused(self, shard: str) -> bool:
        """Return whether a shard was ever out since the test began."""
        return self.outages.excuse([shard], self.began, self.reactor.seconds())

    async def struck(self, fault: Fault, deaths: int = 1) -> list[str]:
        """Strike, and respawn those that died as a balancer would; return who died."""
        striking: Deferred[None] = ensureDeferred(self.injector.strike(fault))
        while len(self.dead()) < deaths:
            await deferLater(self.reactor, 0.01)
        dead = self.dead()
        for name in dead:
            self.start(name)
        await striking
        return dead


class Kills(InjectorCase):
    async def test_leader(self) -> None:
        """A leader is killed, and what its shards went through without it is no excuse."""
        dead = await self.struck(Fault(Kind.KILL_LEADER, 0, 0.1, 0.5))

        self.assertEqual(dead, ["Server0"])
        self.assertEqual(self.said, ["kill -9 Server0", "Server0 back"])
        self.assertFalse(self.excused("sh1"))
        self.assertEqual((self.downtime.problems, self.injector.current), ([], ""))

    async def test_majority(self) -> None:
        """Two of three replicas of a shard are killed at once, which excuses its errors until they are back."""
        dead = await self.struck(Fault(Kind.KILL_MAJORITY, 0, 0.1, 0.5), deaths=2)
        hit = [shard for shard in ("sh1", "sh2", "sh3", "sh4") if self.excused(shard)]

        self.assertEqual(len(dead), 2)
        self.assertTrue(all(hit[0] in self.balancer.layout.servers[name] for name in dead))
        self.began = self.reactor.seconds() + 1
        self.assertFalse(any(self.outages.excuse([shard], self.began, self.began) for shard in hit))

    async def test_one(self) -> None:
        """A single server is killed whoever it is."""
        dead = await self.struck(Fault(Kind.KILL, 0, 0.1, 0.25))

        self.assertEqual(len(dead), 1)


class Pauses(InjectorCase):
    timeout = 60

    async def until_awake(self, name: str) -> None:
        """Wait until a process is no longer stopped."""
        while state(self.processes[name].pid) == "T":
            await deferLater(self.reactor, 0.01)

    async def test_paused(self) -> None:
        """A paused server stands still for its time, and goes on."""
        striking = ensureDeferred(self.injector.strike(Fault(Kind.PAUSE_LEADER, 0, 0.5, 0.5)))
        while state(self.processes["Server0"].pid) != "T":
            await deferLater(self.reactor, 0.01)

        self.assertNoResult(striking)
        await striking

        await self.until_awake("Server0")
        self.assertEqual(self.dead(), [])

    async def test_interrupted(self) -> None:
        """A chaos that ends in the middle lets nobody stay paused."""
        striking = ensureDeferred(self.injector.strike(Fault(Kind.PAUSE_LEADER, 0, 60, 0.5)))
        while state(self.processes["Server0"].pid) != "T":
            await deferLater(self.reactor, 0.01)

        striking.cancel()
        _ = striking.addErrback(lambda cancelled: None)
        self.downtime.resume_all()

        await self.until_awake("Server0")
        self.assertEqual(self.dead(), [])

    async def test_leader_alone(self) -> None:
        """A leader's followers stand still, then all die and its data is gone, which excuses its shard's errors."""
        fault = Fault(Kind.ISOLATE_LEADER, 0, 0.5, 0.5)
        shard = fault.choose(await self.door.leaders())

        dead = await self.struck(fault, deaths=3)

        self.assertIn("Server0", dead)
        self.assertTrue(self.excused(shard))
        self.assertIn("Server0 is replaced", self.said)
        self.assertEqual(self.downtime.problems, [])


class Losses(InjectorCase):
    async def test_wiped(self) -> None:
        """A server's data is removed while it is down; the fault is over when its replicas are replaced."""
        home = self.directory / "Server0"
        (home / "wal").mkdir()
        faults = (Fault(Kind.WIPE, 0, 0.1, pick / 100) for pick in range(100))
        fault = next(fault for fault in faults if fault.choose(self.site.servers()) == "Server0")

        dead = await self.struck(fault)

        self.assertEqual((dead, list(home.iterdir())), (["Server0"], [home / "endpoints.json"]))
        self.assertEqual(self.said, ["kill -9 Server0 and remove its data", "Server0 is replaced"])
        self.assertFalse(self.excused("sh1"))

    async def test_second_server(self) -> None:
        """While one server is rebuilt a second one dies, and both come back."""
        fault = Fault(Kind.WIPE_AND_KILL, 0, 0.1, 0.5)
        wiped, killed, *_ = fault.order(self.site.servers())

        dead = await self.struck(fault, deaths=2)

        self.assertEqual(dead, sorted([wiped, killed]))
        self.assertIn(f"{wiped} is replaced", self.said)
        self.assertEqual(self.downtime.problems, [])


class Resizes(InjectorCase):
    async def test_add_and_remove(self) -> None:
        """A server is added and one is removed, and the cluster is as large as before."""
        self.balancer.resizes = True

        await self.injector.strike(Fault(Kind.RESIZE, 0, 0.1, 0.5))

        self.assertEqual(self.said[:2], ["add a server", "Add Server:9"])
        self.assertEqual(len(self.balancer.layout.servers), 6)
        self.assertIn(Kind.RESIZE, await self.site.kinds())

    async def test_server_dies_meanwhile(self) -> None:
        """A server dies while another one is added."""
        self.balancer.resizes = True

        dead = await self.struck(Fault(Kind.RESIZE_AND_KILL, 0, 0.1, 0.5))

        self.assertEqual((len(dead), self.downtime.problems), (1, []))

    async def test_refused(self) -> None:
        """A balancer that refuses what chaos asks of it is a problem, not the end."""
        await self.injector.strike(Fault(Kind.RESIZE, 0, 0.1, 0.5))

        self.assertEqual(len(self.downtime.problems), 1)
        self.assertIn("POST /add answered 404", self.downtime.problems[0])


class Sites(InjectorCase):
    async def test_kinds(self) -> None:
        """A running cluster keeps its balancer; one whose balancer knows no /add is not asked to grow."""
        kinds = await self.site.kinds()

        self.assertEqual(set(Kind) - set(kinds), BALANCER_KINDS | CUT_KINDS | RESIZE_KINDS)


def state(pid: int) -> str:
    """Return the state of a process, T if it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
