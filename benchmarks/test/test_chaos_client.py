"""Tests of benchmarks.chaos.client: whole clients at a fake balancer on a real port, right ones and wrong ones."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from random import Random

from benchmarks.chaos.client import Client, Desk
from benchmarks.chaos.history import History
from benchmarks.chaos.judge import Linearizability, judge
from benchmarks.chaos.keys import Keys
from benchmarks.chaos.operations import What, read, steps
from benchmarks.chaos.pauses import Pauses
from benchmarks.door import Door
from benchmarks.process import free_port
from benchmarks.test.serving import ServedCase
from benchmarks.workloads import A_1
from lbnode.concurrent import together


class ClientCase(ServedCase):
    def setUp(self) -> None:
        """Make what clients share."""
        super().setUp()
        self.keys = Keys(A_1.shards)
        self.history = History(lambda request, invoked, returned: False)
        self.pauses = Pauses(shard.name for shard in A_1.shards)

    def client(self, name: str, count: int = 100, door: Door | None = None) -> Client:
        """Make a client of so many steps that does not think."""
        desk = Desk(door or self.door, self.keys, self.history, self.pauses, time.perf_counter, lambda: "none")
        own_steps = islice(steps(Random(name), name, self.keys.slots), count)
        return Client(self.reactor, desk, name, (replace(step, think_seconds=0) for step in own_steps))

    async def verdict(self) -> Linearizability:
        """Let four clients run, and judge what they saw."""
        _ = await together([self.client(f"c{number}").run() for number in range(4)])
        return await judge(self.reactor, self.history.operations)


class RightBalancers(ClientCase):
    async def test_linearizable(self) -> None:
        """What clients see of a right balancer is in order, and their fresh rows are all there."""
        verdict = await self.verdict()

        self.assertTrue(verdict.good)
        self.assertEqual((dict(self.history.errors), self.history.lost), ({}, set()))
        self.assertEqual(sum(self.history.outcomes.values()), 400)
        self.assertLessEqual(self.history.expected().stored.keys(), self.balancer.rows.keys())

    async def test_stop(self) -> None:
        """A client that is told to stop takes no further step."""
        client = self.client("c1")
        client.stop()

        await client.run()

        self.assertEqual(self.history.outcomes, {})

    async def test_pauses(self) -> None:
        """The time for which clients waited is noted by shard."""
        _ = await self.verdict()

        self.assertGreater(min(self.pauses.longest_by_shard.values()), 0)


class WrongBalancers(ClientCase):
    async def test_lost_changes(self) -> None:
        """An id whose changes are acknowledged and forgotten is found."""
        lost = self.keys.neighbours(0)
        self.balancer.lost.update(lost)

        verdict = await self.verdict()

        self.assertEqual(verdict.violated, lost)

    async def test_lost_row(self) -> None:
        """A fresh row that is gone is counted at once, and out of order."""
        self.balancer.lost.add(0)

        verdict = await self.verdict()
        _ = await self.client("last").perform(read(What.RANGE, 0, 99, [0]))

        self.assertEqual(self.history.lost, {0})
        self.assertEqual(len(verdict.undecided), 0)
        self.assertFalse((await judge(self.reactor, self.history.operations)).good)

    async def test_stale_reads(self) -> None:
        """Reads that do not see what was acknowledged before they began are found."""
        before = await self.verdict()
        self.balancer.old_rows = dict(self.balancer.rows)

        after = await self.verdict()

        self.assertTrue(before.good)
        self.assertNotEqual(after.violated, [])

    async def test_nobody(self) -> None:
        """Without a balancer nothing is sent, so nothing is unknown."""
        client = self.client("c1", 3, Door(self.reactor, "127.0.0.1", free_port()))

        await client.run()

        self.assertEqual(dict(self.history.outcomes), {"not connected": 3})
        self.assertEqual(self.history.operations, {})
