"""Real processes: a cluster grows to ten servers and shrinks to six under load, also while its balancer is killed."""

from __future__ import annotations

import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from benchmarks.door import Door, UnexpectedAnswerError, UnreachableError
from benchmarks.spawn import Cluster
from benchmarks.verify import Expected, verify
from benchmarks.workloads import A_1, Record

_WRITERS = 4
_SECONDS = 120.0


class Resizing(TestCase):
    timeout = 600

    def setUp(self) -> None:
        """Prepare a cluster, stopped when the test ends."""
        from twisted.internet import reactor

        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.reactor: Any = reactor
        self.cluster = Cluster(reactor, directory)
        self.addCleanup(lambda: self.cluster.stop())
        self.stored: dict[int, Record] = {}
        self.unknown: dict[int, Record] = {}
        self.errors: list[str] = []
        self.is_over = False

    @property
    def door(self) -> Door:
        """The balancer."""
        return self.cluster.door

    async def write(self, number: int) -> None:
        """Write row after row and read each again, as one of the clients; take note of what was acknowledged."""
        for row_id in range(number, A_1.capacity(), _WRITERS):
            if self.is_over:
                return
            record = Record(row_id, f"row {row_id}", number)
            try:
                await self.door.json("POST", "/write", {"data": [record]})
                self.stored[row_id] = record
                found = await self.door.json("POST", "/read", {"Stud_id": {"low": row_id, "high": row_id}})
                self.assertEqual([one["Stud_id"] for one in found["data"]], [row_id])
            except (UnexpectedAnswerError, UnreachableError) as error:
                self.errors.append(str(error))
                if row_id not in self.stored:
                    self.unknown[row_id] = record
                await deferLater(self.reactor, 0.2)

    async def under_load(self, work: Awaitable[None]) -> None:
        """Do something while clients write and read."""
        writers = [Deferred.fromCoroutine(self.write(number)) for number in range(_WRITERS)]
        try:
            await work
        finally:
            self.is_over = True
            await gatherResults(writers)

    async def check(self, servers: int) -> None:
        """Check that there are so many servers, and that every replica holds what was acknowledged."""
        status = await self.door.json("GET", "/status")
        self.assertEqual((status["N"], status["operation"]), (servers, None))
        self.assertEqual([len(shard["replicas"]) for shard in status["shards"]], [3] * 4)
        counts = [len(shards) for shards in status["servers"].values()]
        self.assertLessEqual(max(counts) - min(counts), 1, status["servers"])
        expected = Expected(self.stored, self.unknown, (), alone=True)
        verdict = await verify(self.reactor, self.door.rows_on, status["servers"], expected, deadline_seconds=60)
        self.assertEqual(verdict.problems, [])
        self.assertEqual(verdict.replicas, 12)
        self.assertGreater(len(self.stored), 50)
        self.assertEqual({one.name for one in self.cluster.servers()}, set(status["servers"]))

    async def test_to_ten_and_back(self) -> None:
        """Three times in a row, no client sees an error and no write is lost."""
        await self.cluster.start(A_1)

        await self.under_load(self.to_ten_and_back())

        self.assertEqual(self.errors, [])
        await self.check(servers=6)

    async def to_ten_and_back(self) -> None:
        """Grow and shrink."""
        for _ in range(3):
            new: dict[str, list[str]] = {f"New{number}$": [] for number in range(4)}
            added = await self.door.json("POST", "/add", {"n": 4, "servers": new}, deadline_seconds=_SECONDS)
            self.assertEqual(added["N"], 10)
            removed = await self.door.json("DELETE", "/rm", {"n": 4}, deadline_seconds=_SECONDS)
            self.assertEqual(removed["message"]["N"], 6)

    async def test_balancer_killed_meanwhile(self) -> None:
        """Whenever it dies it brings /add to an end when it is back, all of it or nothing, and no write is lost."""
        await self.cluster.start(A_1)

        await self.under_load(self.killed_again_and_again())

        status = await self.door.json("GET", "/status")
        await self.check(servers=status["N"])

    async def killed_again_and_again(self) -> None:
        """Kill the balancer at random moments of /add, and start it again."""
        rng = random.Random(1)
        servers = 6
        for number in range(4):
            adding = Deferred.fromCoroutine(self.add(f"New{number}"))
            await deferLater(self.reactor, rng.uniform(0.1, 4.0))
            self.cluster.kill_balancer()
            await adding
            await self.cluster.start_balancer()
            await self.settled()
            found = (await self.door.json("GET", "/status"))["N"]
            self.assertIn(found, (servers, servers + 1))
            servers = found

    async def add(self, name: str) -> None:
        """Ask for a server, as a client that may get no answer."""
        try:
            await self.door.json("POST", "/add", {"servers": {name: []}}, deadline_seconds=_SECONDS)
        except (UnreachableError, UnexpectedAnswerError):
            return

    async def settled(self) -> None:
        """Wait until no operation is in progress and every shard is as it should be."""
        for _ in range(int(_SECONDS)):
            await deferLater(self.reactor, 1.0)
            status = await self.door.json("GET", "/status")
            if status["operation"] is None and not any(shard["doing"] for shard in status["shards"]):
                return
        self.fail(f"not settled after {_SECONDS:g} s: {status['operation']}, {status['shards']}")
