"""How a server catches up: `python -m benchmarks.catchup_bench [--rows N] [--row-bytes N] [--by log|snapshot]`.

A server of three is down while rows are written. Then it is started again, while single rows go on being written, and
we measure until it has applied what its leader has committed: from the leader's log if the rows fit into it, from a
snapshot if they do not, which their length decides. Printed besides: what the single writes took before and meanwhile,
how often leaders changed, what the leader sent, and for each process how its memory grew and for how long its reactor
stood still.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from benchmarks.command import positive, until_interrupted
from benchmarks.door import Door
from benchmarks.stall_probe import stalls
from dbnode.client import NotApplied, OutcomeUnknown, ShardSession
from dbnode.testing.process_cluster import ProcessCluster
from dbnode.wire import ReplicaStatus, Result, Write
from raftlog.options import Limits

GROUP = 1
#: Rows of one operation while the server is down, and how many of these wait at once.
ROWS_PER_WRITE = 500
WRITES_AT_ONCE = 16
BATCH_BYTES = 256 << 10
#: Single rows written per second while a server catches up.
SINGLES_PER_SECOND = 100
BASELINE_SECONDS = 3.0
_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.05
#: What id and array add to a row's text in the log.
_ROW_OVERHEAD_BYTES = 8
_FIRST_SINGLE_ID = 1 << 40


class Singles:
    """Writes of one row each, at a steady rate whether or not they are answered; keeps what each took, in seconds."""

    def __init__(self, reactor: Any, session: ShardSession, row_bytes: int) -> None:
        self._reactor = reactor
        self._session = session
        self._text = "x" * row_bytes
        self._ids = count(_FIRST_SINGLE_ID)
        self._stopped = False
        self.took: list[float] = []
        self.failed = 0

    async def run(self) -> None:
        """Write until stopped."""
        due = self._reactor.seconds()
        while not self._stopped:
            written = self._session.submit(Write(((next(self._ids), self._text),)), _TIMEOUT_SECONDS)
            _ = written.addCallbacks(self._written, self._failed, (due,))
            due += 1 / SINGLES_PER_SECOND
            await deferLater(self._reactor, max(0.0, due - self._reactor.seconds()))

    def stop(self) -> None:
        """Write no more."""
        self._stopped = True

    def _written(self, _: Result, due: float) -> None:
        self.took.append(self._reactor.seconds() - due)

    def _failed(self, failure: Failure) -> None:
        failure.trap(NotApplied, OutcomeUnknown)
        self.failed += 1


class CatchUp:
    """One measurement, with a cluster of its own in `directory`."""

    def __init__(self, reactor: Any, directory: Path, rows: int, row_bytes: int, single_bytes: int) -> None:
        self._reactor = reactor
        self._rows = rows
        self._text = "x" * max(1, row_bytes - _ROW_OVERHEAD_BYTES)
        self._row_bytes = row_bytes
        self._single_bytes = single_bytes
        self._cluster = ProcessCluster(reactor, directory, Random(1), program=("-m", "benchmarks.stall_probe"))
        self._resident: dict[str, list[int]] = {name: [] for name in self._cluster.names}

    async def run(self) -> None:
        """Measure and print. Leaves no process behind."""
        try:
            await self._cluster.start()
            await self._measure()
        finally:
            await self._cluster.kill_all()

    async def _measure(self) -> None:
        cluster = self._cluster
        leader = await cluster.leader(GROUP)
        behind = next(name for name in cluster.names if name != leader)
        session = cluster.session(GROUP)
        self._sample()
        await cluster.servers[behind].kill()
        began = time.monotonic()
        await self._fill(session)
        seconds = time.monotonic() - began
        print(
            f"{self._rows} rows of about {self._row_bytes} bytes written in {seconds:.1f} s: "
            f"{self._rows / seconds:,.0f} rows/s; longest stalls {self._stalls(began)}"
        )
        singles = Singles(self._reactor, session, self._single_bytes)
        single_writes = Deferred.fromCoroutine(singles.run())
        await deferLater(self._reactor, BASELINE_SECONDS)
        _print_times("single writes before", singles.took)
        singles.took.clear()
        await self._catch_up(leader, behind, singles)
        singles.stop()
        await single_writes
        await cluster.agreed(GROUP)

    async def _fill(self, session: ShardSession) -> None:
        ids = iter(range(self._rows))
        rows_per_write = max(1, min(ROWS_PER_WRITE, BATCH_BYTES // self._row_bytes))

        async def write() -> None:
            while rows := tuple((id_, self._text) for id_ in islice(ids, rows_per_write)):
                await session.submit(Write(rows), _TIMEOUT_SECONDS)

        await gatherResults([Deferred.fromCoroutine(write()) for _ in range(WRITES_AT_ONCE)])

    async def _catch_up(self, leader: str, behind: str, singles: Singles) -> None:
        cluster = self._cluster
        elections, sent = await self._elections(), await self._metric(leader, "shardlb_link_bytes_sent_total")
        self._sample()
        before = {name: sizes[-1] for name, sizes in self._resident.items() if sizes}
        began = time.monotonic()
        await cluster.start_again(behind)
        served = time.monotonic()
        self._sample()
        before[behind] = self._resident[behind][-1]
        await self._until_caught_up(leader, behind)
        done = time.monotonic()
        moved = await self._metric(leader, "shardlb_link_bytes_sent_total") - sent
        snapshots = cluster.servers[behind].log.read_text().count("installed a snapshot")
        print(
            f"caught up by {f'{snapshots} snapshot(s)' if snapshots else 'log'} {done - served:.1f} s after it served "
            f"({done - began:.1f} s after its start): {self._rows / (done - served):,.0f} rows/s, "
            f"{moved / 1e6:.1f} MB sent by the leader"
        )
        _print_times("single writes meanwhile", singles.took)
        if singles.failed:
            print(f"single writes that failed: {singles.failed}")
        print(f"leaders elected meanwhile: {await self._elections() - elections}")
        print(f"longest stalls meanwhile: {self._stalls(began)}")
        for name, size_before in before.items():
            grown_bytes = max(self._resident[name]) - size_before
            part = "leader" if name == leader else "one behind" if name == behind else "follower"
            print(f"memory of the {part}: {size_before / 1e6:.0f} MB and up to {grown_bytes / 1e6:.0f} MB more")

    async def _until_caught_up(self, leader: str, behind: str) -> None:
        while True:
            ahead: ReplicaStatus | None = await self._cluster.status(leader, GROUP)
            follower = await self._cluster.status(behind, GROUP)
            self._sample()
            if ahead is not None and follower is not None and follower.applied_index >= ahead.commit_index:
                return
            await deferLater(self._reactor, _POLL_SECONDS)

    # ---- figures ----------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        """Note every process's resident memory."""
        for name, server in self._cluster.servers.items():
            if server.pid:
                pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
                self._resident[name].append(pages * 4096)

    def _stalls(self, since: float) -> str:
        told = []
        for name, server in self._cluster.servers.items():
            found = stalls(server.directory, since)
            longest = max(found, key=lambda stall: stall.seconds, default=None)
            busiest = max((stall.cpu_seconds for stall in found), default=0.0)
            if longest is not None:
                told.append(f"{name} {longest.seconds * 1e3:.0f} ms (own work at most {busiest * 1e3:.0f} ms)")
        return ", ".join(told) or "none"

    async def _elections(self) -> int:
        names = [name for name in self._cluster.names if self._cluster.servers[name].pid]
        return sum([int(await self._metric(name, 'shardlb_role_changes_total{role="leader"}')) for name in names])

    async def _metric(self, name: str, metric: str) -> float:
        http = self._cluster.endpoint(name)
        answer = await Door(self._reactor, http.host, http.port).ask("GET", "/metrics", None, deadline_seconds=10)
        for line in answer.body.decode().splitlines():
            if line.startswith(metric + " "):
                return float(line.split()[-1])
        return 0.0


def _print_times(what: str, took: Sequence[float]) -> None:
    ordered = sorted(took)
    if not ordered:
        print(f"{what}: none")
        return
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    print(f"{what}: {len(ordered)}, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {ordered[-1] * 1e3:.1f} ms")


def row_bytes_for(by: str, rows: int) -> int:
    """Return a length of rows with which they fit into a group's log, or are twice what it may hold."""
    cap = Limits().log_bytes_max
    return max(_ROW_OVERHEAD_BYTES + 1, 2 * cap // rows) if by == "snapshot" else _ROW_OVERHEAD_BYTES + 1


def main() -> None:
    """Run it, once for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=1_000_000)
    parser.add_argument("--row-bytes", type=positive, help="instead of a length that fits the way")
    parser.add_argument("--single-bytes", type=positive, default=8, help="length of rows written meanwhile (default 8)")
    parser.add_argument("--by", choices=("log", "snapshot"), help="only this one (default: one after the other)")
    options = parser.parse_args()

    async def measure(reactor: Any) -> None:
        for by in [options.by] if options.by else ["log", "snapshot"]:
            with tempfile.TemporaryDirectory(prefix="shardlb-catchup-") as directory:
                row_bytes = options.row_bytes or row_bytes_for(by, options.rows)
                await CatchUp(reactor, Path(directory), options.rows, row_bytes, options.single_bytes).run()

    react(until_interrupted, (measure,))


if __name__ == "__main__":
    main()
