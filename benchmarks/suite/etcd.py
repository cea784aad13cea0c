"""etcd with members on the loopback, data in a directory of ours: a peer of the same kind on the same processors.

Its options are its defaults, but for addresses and the log, which says errors only. Clients talk to the first member
through its JSON gateway, as they talk to one balancer of ours; which member leads is left to chance, as with us.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.door import Door
from benchmarks.process import Child, answers, free_port
from benchmarks.suite.missing import MissingProgramError
from benchmarks.usage import Watched
from benchmarks.verify import Expectation, Verdict

_START_SECONDS = 60.0
_MEMBERS = 3


class Etcd:
    """A cluster of etcd's own; `door` is the first member's."""

    def __init__(self, reactor: Any, directory: Path, members: int = _MEMBERS) -> None:
        self._reactor = reactor
        self._directory = directory
        self._clients = [free_port() for _ in range(members)]
        self._peers = [free_port() for _ in range(members)]
        program = etcd_program()
        self._children = [
            Child(reactor, [program, *self._arguments(number)], directory / f"etcd{number}.log")
            for number in range(members)
        ]
        self.door = Door(reactor, "127.0.0.1", self._clients[0])

    async def start(self) -> None:
        """Start all members; returns once they have elected a leader and serve. Raises StartError."""
        for child in self._children:
            child.start()
        probe = {"key": "cHJvYmU=", "value": "MQ=="}
        await self._children[0].until(lambda: answers(self.door, "POST", "/v3/kv/put", probe), _START_SECONDS)

    async def stop(self) -> None:
        """Stop all members."""
        for child in self._children:
            await child.stop()

    def processes(self) -> list[Watched]:
        """Return the members."""
        return [Watched(f"etcd{number}", "etcd", child.pid) for number, child in enumerate(self._children)]

    async def verify(self, expected: Expectation) -> Verdict:
        """Count the keys: those acknowledged must be there, those of unknown outcome may."""
        started = self._reactor.seconds()
        everything = {"key": "AA==", "range_end": "AA==", "count_only": True}
        found = int((await self.door.json("POST", "/v3/kv/range", everything)).get("count", 0)) - 1  # the probe
        unknown = found - len(expected.stored)
        right = 0 <= unknown <= len(expected.unknown)
        problems = [] if right else [f"{found} keys, of which {len(expected.stored)} were acknowledged"]
        return Verdict(problems, len(self._children), found, unknown, self._reactor.seconds() - started)

    def _arguments(self, number: int) -> list[str]:
        client, peer = (f"http://127.0.0.1:{ports[number]}" for ports in (self._clients, self._peers))
        cluster = ",".join(f"etcd{n}=http://127.0.0.1:{port}" for n, port in enumerate(self._peers))
        return [
            f"--name=etcd{number}",
            f"--data-dir={self._directory / f'etcd{number}'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={cluster}",
            "--initial-cluster-state=new",
            "--log-level=error",
        ]


def etcd_program() -> str:
    """Return etcd's path. Raises MissingProgramError."""
    if (found := shutil.which("etcd")) is None:
        raise MissingProgramError("etcd", "etcd-server")
    return found
