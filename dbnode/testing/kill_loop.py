"""Servers that are killed again and again while they are written to and read, and what must be so afterwards.

Two groups on three servers, over whatever storage. Some clients share a few keys, and what they saw must be
linearizable; many writers have rows of their own, see dbnode.testing.writer. In the end the replicas must be equal and
hold what was acknowledged. Victims and pauses follow from the seed; what the processes make of them does not.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from dbnode.client.storage import POSTGRES
from dbnode.postgres.orphans import processes_in
from dbnode.testing.clients import Client, Target
from dbnode.testing.process_cluster import ProcessCluster
from dbnode.testing.verdict import judge_history, judge_rows
from dbnode.testing.writer import Writer

GROUP_IDS = (1, 2)
HOT_CLIENTS = 2
WRITERS = 8
#: Longer than a group is without a leader when all its servers were killed, so that few outcomes are unknown.
TIMEOUT_SECONDS = 15.0
#: Writers' rows begin above the keys that clients share.
_FIRST_ID = 1000
_POLL_SECONDS = 0.1


class KillLoop:
    """One run in `directory`, where `storages` are those of servers that shall not have the default.

    A PostgreSQL in `shared_postgres` is killed too, as are those that servers have of their own. Afterwards `happened`
    says what was done and what came of it.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        seed: int,
        kills: int,
        storages: Mapping[str, str] | None = None,
        shared_postgres: Path | None = None,
    ) -> None:
        self._reactor = reactor
        self._rng = rng = random.Random(seed)
        self._kills = kills
        self.happened: Counter[str] = Counter()
        cluster_rng = random.Random(rng.getrandbits(64))
        self._cluster = ProcessCluster(reactor, directory, cluster_rng, group_ids=GROUP_IDS, storages=storages)
        own = [directory / name / "postgres" for name, storage in (storages or {}).items() if storage == POSTGRES]
        #: The directories of PostgreSQLs that are killed as well.
        self._postgres = own if shared_postgres is None else [*own, shared_postgres]
        self._targets = [self._target(group_id, think_seconds=0.1) for group_id in GROUP_IDS]
        self._clients = [
            Client(f"client{number}", target, random.Random(rng.getrandbits(64)))
            for target in self._targets
            for number in range(HOT_CLIENTS)
        ]
        self._writers = {group_id: list(self._new_writers(group_id)) for group_id in GROUP_IDS}

    def _target(self, group_id: int, think_seconds: float) -> Target:
        return Target(
            self._reactor,
            self._cluster.requests,
            group_id,
            self._cluster.names,
            self.happened,
            timeout_seconds=TIMEOUT_SECONDS,
            think_seconds=think_seconds,
        )

    def _new_writers(self, group_id: int) -> Iterator[Writer]:
        target = self._target(group_id, think_seconds=0.02)
        session, ids = self._cluster.session(group_id), count(_FIRST_ID)
        for _ in range(WRITERS):
            yield Writer(target, session, self._cluster.reads, random.Random(self._rng.getrandbits(64)), ids)

    async def run(self) -> None:
        """Kill, check, and leave no process behind. Raises Violation, or AssertionError of a server that ended."""
        try:
            await self._cluster.start()
            writers = [writer for group in self._writers.values() for writer in group]
            for client in self._clients:
                client.start()
            writing = gatherResults([Deferred.fromCoroutine(writer.run()) for writer in writers], consumeErrors=True)
            while sum(self._killed()) < self._kills and not writing.called:
                if self._postgres and self._rng.random() < 0.5:
                    await self._strike_postgres()
                else:
                    await self._strike()
            for writer in writers:
                writer.finish()
            for client in self._clients:
                client.finish()
            await writing
            while not all(client.is_done for client in self._clients):
                await deferLater(self._reactor, _POLL_SECONDS)
            for group_id in GROUP_IDS:
                await self._cluster.agreed(group_id)
            await self._cluster.stop()
        finally:
            await self._cluster.kill_all()
        await self._judge()

    def _killed(self) -> Iterator[int]:
        return (number for what, number in self.happened.items() if what.startswith("killed"))

    # ---- killing ----------------------------------------------------------------------------------------------

    async def _strike(self) -> None:
        """Let it run for a while, kill some servers, and have them back."""
        rng = self._rng
        await deferLater(self._reactor, rng.uniform(0.05, 0.8))
        together = rng.choices((1, 2, 3), (80, 13, 7))[0]
        victims = rng.sample(self._cluster.names, together)
        again = rng.random() < 0.2
        pauses = [(rng.uniform(0, 0.3), rng.uniform(0.1, 0.8)) for _ in victims]
        for name in victims:
            await self._kill(name, f"killed ({together} at once)")
        # Each comes back by itself: what one waits for may need another one.
        await gatherResults(
            [
                Deferred.fromCoroutine(self._bring_back(name, down_seconds, starting_seconds if again else None))
                for name, (down_seconds, starting_seconds) in zip(victims, pauses, strict=True)
            ]
        )

    async def _strike_postgres(self) -> None:
        """Let it run for a while, and kill a PostgreSQL or one of its processes, upon which it ends all others.

        It comes back by itself.
        """
        await deferLater(self._reactor, self._rng.uniform(0.05, 0.8))
        running = processes_in(self._rng.choice(self._postgres))
        if running:
            victim = self._rng.choice([running[0], self._rng.choice(running)])
            what = "PostgreSQL" if victim == running[0] else "a process of PostgreSQL"
            self.happened[f"killed ({what})"] += 1
            os.kill(victim, signal.SIGKILL)

    async def _bring_back(self, name: str, down_seconds: float, starting_seconds: float | None) -> None:
        await deferLater(self._reactor, down_seconds)
        if starting_seconds is not None:
            self._cluster.servers[name].start()
            await deferLater(self._reactor, starting_seconds)
            await self._kill(name, "killed (while starting)")
        await self._cluster.start_again(name)

    async def _kill(self, name: str, how: str) -> None:
        self.happened[how] += 1
        await self._cluster.servers[name].kill()

    # ---- the end ----------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        for target in self._targets:
            self.happened["operations on shared keys"] += len(target.history)
            judge_history(f"group {target.group_id}", target.history)
        for group_id in GROUP_IDS:
            contents = await self._cluster.contents(group_id)
            self.happened["rows in the end"] += judge_rows(f"group {group_id}", contents, self._writers[group_id])
