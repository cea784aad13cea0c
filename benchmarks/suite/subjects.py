"""Who is measured: a cluster of ours, etcd, and bare servers that answer constants, each in a directory of its own.

A subject is opened for some points of a run and gone afterwards with all its processes, so that none takes the
processors from the next.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.door import Door
from benchmarks.process import Child, answers, free_port, to_the_end
from benchmarks.spawn import Cluster
from benchmarks.suite.dialects import ConstantDialect, Dialect, EtcdDialect, TableDialect
from benchmarks.suite.document import OURSELVES
from benchmarks.suite.etcd import Etcd, etcd_program
from benchmarks.suite.postgres import programs
from benchmarks.usage import Watched
from benchmarks.verify import Expectation, Verdict, verify
from benchmarks.workloads import Workload

_START_SECONDS = 30.0
_AGREE_SECONDS = 60.0
#: Peers by the name that --peer takes.
ETCD, KLEIN, WEB, CONSTANT, POSTGRES = "etcd", "klein", "web", "constant", "postgres"
#: Those that take the same single writes and reads by HTTP; the constant shows the client's own limit.
PEERS = (ETCD, KLEIN, WEB, CONSTANT)


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody who serves at `door`.

    `dialect` makes that of reads with a given consistency. `verify` compares what is stored with what must be there;
    None where nothing is stored.
    """

    name: str
    door: Door
    dialect: Callable[[str], Dialect]
    processes: Callable[[], list[Watched]]
    verify: Callable[[Expectation], Awaitable[Verdict]] | None


Opened: TypeAlias = AbstractAsyncContextManager[Subject]


class Stage:
    """Opens subjects in directories below `directory`. `arguments` are further ones of our balancers."""

    def __init__(self, reactor: Any, directory: Path, arguments: Sequence[str] = ()) -> None:
        self._reactor = reactor
        self._directory = directory
        self._arguments = arguments
        self._opened = 0

    def open(self, name: str, layout: Workload) -> Opened:
        """Return the subject of that name; only ours has a layout."""
        if name == OURSELVES:
            return self.cluster(layout)
        return self._etcd() if name == ETCD else self._constant(name)

    @asynccontextmanager
    async def cluster(self, layout: Workload) -> AsyncIterator[Subject]:
        """Open a cluster of ours."""
        cluster = Cluster(self._reactor, self._new_directory(), self._arguments)
        try:
            await cluster.start(layout)

            async def compare(expected: Expectation) -> Verdict:
                held = (await cluster.door.json("GET", "/status"))["servers"]
                return await verify(
                    self._reactor, cluster.door.rows_on, held, expected, deadline_seconds=_AGREE_SECONDS
                )

            host = cluster.door.host
            yield Subject(OURSELVES, cluster.door, lambda level: TableDialect(host, level), cluster.processes, compare)
        finally:
            await to_the_end(cluster.stop())

    @asynccontextmanager
    async def _etcd(self) -> AsyncIterator[Subject]:
        etcd = Etcd(self._reactor, self._new_directory())
        try:
            await etcd.start()
            yield Subject(ETCD, etcd.door, lambda level: EtcdDialect(etcd.door.host), etcd.processes, etcd.verify)
        finally:
            await to_the_end(etcd.stop())

    @asynccontextmanager
    async def _constant(self, kind: str) -> AsyncIterator[Subject]:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.ceiling", kind, f"--port={port}"]
        child = Child(self._reactor, command, self._new_directory() / f"{kind}.log")
        door = Door(self._reactor, "127.0.0.1", port)
        child.start()
        try:
            await child.until(lambda: answers(door, "POST", "/write", {}), _START_SECONDS)
            yield Subject(
                kind, door, lambda level: ConstantDialect(door.host), lambda: [Watched(kind, kind, child.pid)], None
            )
        finally:
            await to_the_end(child.stop())

    def _new_directory(self) -> Path:
        """Make a directory; each subject has one of its own, for its data must not meet the data of another run."""
        self._opened += 1
        directory = self._directory / f"subject-{self._opened}"
        directory.mkdir()
        return directory


def check_present(peers: Sequence[str]) -> None:
    """Check that the programs of these peers are installed. Raises MissingProgramError."""
    if ETCD in peers:
        etcd_program()
    if POSTGRES in peers:
        programs()
