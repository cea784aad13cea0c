"""How long a killed leader is missed: `python -m benchmarks.failover_bench [--kills N] [--rate WRITES_PER_SECOND]`.

A cluster of its own as in A-1. Writes go to one shard at a steady rate, whether the earlier ones are answered or not;
its leader gets SIGKILL; the pause ends with the answer to the first write that was sent after the kill. The next one
is killed when all replicas serve again. Every answer but a success counts as an error, and at the end every row that
was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react

from benchmarks.command import positive, until_interrupted
from benchmarks.door import Door, UnreachableError
from benchmarks.measure import percentile
from benchmarks.process import to_the_end
from benchmarks.spawn import Cluster
from benchmarks.workloads import A_1, Shard

_POLL_SECONDS = 0.05
#: How long the cluster may take to be whole again.
_WHOLE_SECONDS = 120.0


class Writer:
    """Writes rows of one shard at a time at a steady rate, and remembers what became of them."""

    def __init__(self, reactor: Any, door: Door, rate: int) -> None:
        self._door = door
        self._loop = LoopingCall(self._write)
        self._loop.clock = reactor
        self._rate = rate
        self._count = 0
        self._waiting: set[Deferred[None]] = set()
        self._first_answer: Deferred[float] | None = None
        self._since = 0.0
        self.shard: Shard = A_1.shards[0]
        self.acknowledged: dict[int, int] = {}
        self.errors: list[str] = []

    def start(self) -> None:
        """Begin to write."""
        _ = self._loop.start(1 / self._rate)

    async def stop(self) -> None:
        """Write no more, and wait for what is on its way."""
        self._loop.stop()
        for waiting in list(self._waiting):
            await waiting

    def first_answer(self) -> Deferred[float]:
        """Fire with the seconds until the first write sent from now on is answered with success."""
        self._since = monotonic()
        self._first_answer = Deferred()
        return self._first_answer

    def _write(self) -> None:
        self._count += 1
        key = self.shard.low + self._count % self.shard.size
        writing = Deferred.fromCoroutine(self._one(key, self._count))
        self._waiting.add(writing)
        _ = writing.addBoth(lambda _: self._waiting.discard(writing))

    async def _one(self, key: int, mark: int) -> None:
        sent = monotonic()
        row = {"Stud_id": key, "Stud_name": "x", "Stud_marks": mark}
        try:
            answer = await self._door.ask("POST", "/write", {"data": [row], "on_conflict": "replace"})
        except UnreachableError as error:
            self.errors.append(str(error))
            return
        if answer.status != 200:
            self.errors.append(f"{answer.status} {answer.body[:300]!r}")
            return
        self.acknowledged[key] = max(mark, self.acknowledged.get(key, 0))
        if self._first_answer is not None and sent >= self._since:
            first, self._first_answer = self._first_answer, None
            first.callback(monotonic() - self._since)


async def _until_whole(reactor: Any, door: Door) -> None:
    deadline = monotonic() + _WHOLE_SECONDS
    while True:
        status = await door.json("GET", "/status")
        states = {replica["state"] for shard in status["shards"] for replica in shard["replicas"]}
        if states == {"serving"} and all(server["state"] == "up" for server in status["server_states"].values()):
            return
        if monotonic() > deadline:
            raise SystemExit(f"not whole after {_WHOLE_SECONDS:g} s: {status}")
        await deferLater(reactor, _POLL_SECONDS)


async def _lost(door: Door, acknowledged: dict[int, int]) -> list[int]:
    ids = {"low": 0, "high": A_1.capacity() - 1}
    rows = (await door.json("POST", "/read", {"Stud_id": ids}))["data"]
    marks = {row["Stud_id"]: row["Stud_marks"] for row in rows}
    return [key for key, mark in acknowledged.items() if marks.get(key, 0) < mark]


async def measure(reactor: Any, directory: Path, kills: int, rate: int, settle_seconds: float) -> None:
    """Kill so many leaders, and print what that did."""
    cluster = Cluster(reactor, directory)
    pauses, repairs = [], []
    try:
        await cluster.start(A_1)
        writer = Writer(reactor, cluster.door, rate)
        writer.start()
        for number in range(kills):
            writer.shard = A_1.shards[number % len(A_1.shards)]
            await deferLater(reactor, settle_seconds)
            leader = (await cluster.door.leaders())[writer.shard.name]
            killed = monotonic()
            cluster.kill(leader)
            pauses.append(await writer.first_answer())
            await _until_whole(reactor, cluster.door)
            repairs.append(monotonic() - killed)
        await writer.stop()
        lost = await _lost(cluster.door, writer.acknowledged)
    finally:
        await to_the_end(cluster.stop())
    table = Table("seconds", "p50", "p99", "max", title=f"{kills} leaders killed, {rate} writes/s")
    for name, times in (("until the shard's next success", pauses), ("until all replicas serve", repairs)):
        ordered = sorted(times)
        table.add_row(name, *(f"{percentile(ordered, p):.3f}" for p in (50, 99, 100)))
    Console().print(table)
    Console().print(
        f"{len(writer.acknowledged)} rows, {len(lost)} lost, {len(writer.errors)} errors", *writer.errors[:3]
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive, default=100)
    parser.add_argument("--rate", type=positive, default=50)
    parser.add_argument("--settle-seconds", type=float, default=1.0, help="pause before each kill")
    options = parser.parse_args()

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="shardlb-failover-") as directory:
            await measure(reactor, Path(directory), options.kills, options.rate, options.settle_seconds)

    react(until_interrupted, (run,))


if __name__ == "__main__":
    main()
