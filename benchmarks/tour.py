"""A-4: every endpoint answers rightly, and a killed server comes back with its data.

It is held on a cluster of the bench's own, or on a running one whose servers are containers. First the walk through
the endpoints; then rows are written, the server that leads most is killed, and once it is back every replica is
compared with what was acknowledged.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import msgspec

from benchmarks.comeback import Comeback, watch_comeback
from benchmarks.containers import Containers
from benchmarks.door import Door, host_and_port
from benchmarks.endpoints import Probed, walk
from benchmarks.kill import LEADER, choose
from benchmarks.process import to_the_end
from benchmarks.run import Options
from benchmarks.spawn import Cluster
from benchmarks.verify import Expected, Verdict, verify
from benchmarks.workloads import A_1, LayoutError, Record, check_layout, draw_records

NAME = "A-4"
ABOUT = "every endpoint, then a server is killed and comes back"
#: How long an answer may take: /add starts servers.
_ANSWER_SECONDS = 120.0
_COMEBACK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Tour:
    """What the tour found."""

    endpoints: list[Probed]
    comeback: Comeback
    verdict: Verdict

    @property
    def good(self) -> bool:
        """Return whether everything was as it must be."""
        return self.verdict.good and not any(probed.problem for probed in self.endpoints)

    def lines(self) -> Iterator[str]:
        """Yield what there is to say."""
        for probed in self.endpoints:
            yield f"{'WRONG' if probed.problem else 'right':5} {probed.request} {probed.problem}".rstrip()
        back, verdict = self.comeback, self.verdict
        yield (
            f"killed {back.server}, leader of {', '.join(back.led) or 'nothing'}: all shards led after "
            f"{back.leaders_seconds:.2f} s, running again after {back.running_seconds:.2f} s, "
            f"caught up after {back.caught_up_seconds:.2f} s"
        )
        if verdict.good:
            yield f"{verdict.replicas} replicas identical, {verdict.rows:,} rows, exactly what was acknowledged"
        yield from (f"WRONG {problem}" for problem in verdict.problems)

    def to_json(self) -> bytes:
        """Return everything as indented JSON."""
        document = {**msgspec.to_builtins(self), "good": self.good}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


async def hold_tour(reactor: Any, options: Options) -> Tour:
    """Do all of it; leaves nothing behind but what `keep` asks for.

    A running balancer must hold the table A-1 without a row, and is left like that.
    """
    if options.url is None:
        return await _at_home(reactor, options)
    door = Door(reactor, *host_and_port(options.url))
    await _check_empty(door)
    try:
        return await _tour(reactor, door, Containers(reactor, door).kill, options)
    finally:
        if not options.keep:
            await to_the_end(_make_anew(door))


async def _check_empty(door: Door) -> None:
    status = await door.json("GET", "/status")
    check_layout(status, A_1)
    if sorted(status["servers"]) != sorted(A_1.servers):
        raise LayoutError(f"the servers are not called as those of {A_1.name}: make the table anew with POST /init")
    first = await door.json("POST", "/read", {"Stud_id": {"low": 0, "high": A_1.capacity() - 1}, "limit": 1})
    if first["data"]:
        raise LayoutError(f"the table is not empty: {NAME} changes all of it, and gives no row back")


async def _make_anew(door: Door) -> None:
    request = {**A_1.init_request(), "replace": True}
    await door.json("POST", "/init", request, deadline_seconds=_ANSWER_SECONDS)


async def _at_home(reactor: Any, options: Options) -> Tour:
    """Hold the tour on a cluster of its own."""
    directory = Path(mkdtemp(prefix="shardlb-bench-", dir=options.directory))
    cluster = Cluster(reactor, directory, options.balancer)

    async def kill(server: str) -> None:
        cluster.kill(server)

    try:
        await cluster.start(A_1)
        return await _tour(reactor, cluster.door, kill, options)
    finally:
        await to_the_end(cluster.stop())
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)


async def _tour(reactor: Any, door: Door, kill: Callable[[str], Awaitable[None]], options: Options) -> Tour:
    endpoints = await walk(door, _ANSWER_SECONDS)
    records = draw_records(A_1, options.rows, options.width, Random(options.seed))
    await _write(door, records)
    status = await door.json("GET", "/status")
    victim = choose(LEADER, await door.leaders(), status["servers"])
    comeback = await watch_comeback(reactor, door, victim, kill, _COMEBACK_SECONDS)
    expected = Expected.after(records, {}, alone=True)
    verdict = await verify(reactor, door.rows_on, status["servers"], expected, deadline_seconds=options.agree_seconds)
    return Tour(endpoints, comeback, verdict)


async def _write(door: Door, records: list[Record]) -> None:
    """Store all rows; raises UnexpectedAnswerError if not all of them were."""
    await door.json("POST", "/write", {"data": records}, deadline_seconds=_ANSWER_SECONDS)
