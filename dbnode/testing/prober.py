"""Writes and reads without a pause between, apart from each other, to see for how long either was not possible.

What it saw goes into the shared history as well: its values are unique, as those of dbnode.testing.clients are.
"""

from __future__ import annotations

import random
from itertools import count, pairwise

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from dbnode.client import NotApplied, OutcomeUnknown, Unavailable
from dbnode.testing.clients import KEYS, Target
from dbnode.testing.link_client import LinkClient
from dbnode.wire import ON_CONFLICT_REPLACE, Write
from raftlog.testing.linearizability import ABSENT, Kind, Operation

#: How much later than the end of one thing the next begins: how exact a pause is known.
_PAUSE_SECONDS = 0.02


class Prober:
    """One client that writes, and reads, one thing after the other until told to finish."""

    def __init__(self, target: Target, client: LinkClient, rng: random.Random) -> None:
        self._target = target
        self._clock = target.clock
        self._client = client
        self._rng = rng
        self._finishing = False
        #: When each write and each read succeeded.
        self.written: list[float] = []
        self.read: list[float] = []

    def finish(self) -> None:
        """Let `run` return after what it is at."""
        self._finishing = True

    async def run(self) -> None:
        """Write and read."""
        await gatherResults([Deferred.fromCoroutine(self._write_on()), Deferred.fromCoroutine(self._read_on())])

    async def _write_on(self) -> None:
        target, name = self._target, f"prober {self._client.name}"
        session = self._client.session(target.group_id, target.servers)
        for number in count():
            if self._finishing:
                return
            key, value, invoked = self._rng.choice(KEYS), f"{name}:{number}", self._clock.seconds()
            known = True
            try:
                write = Write(((key, value),), ON_CONFLICT_REPLACE)
                await session.submit(write, target.timeout_seconds)
                self.written.append(self._clock.seconds())
            except NotApplied:
                continue
            except OutcomeUnknown:
                known = False
            operation = Operation(Kind.WRITE, value, None, invoked, self._clock.seconds(), known, name)
            target.history.append((key, operation))
            await deferLater(self._clock, _PAUSE_SECONDS)

    async def _read_on(self) -> None:
        target, name = self._target, f"prober {self._client.name}"
        while not self._finishing:
            key, invoked = self._rng.choice(KEYS), self._clock.seconds()
            servers = self._rng.sample(target.servers, len(target.servers))
            try:
                rows = await self._client.reads.read(
                    target.group_id, servers, key, key, timeout_seconds=target.timeout_seconds
                )
            except Unavailable:
                continue
            returned = self._clock.seconds()
            self.read.append(returned)
            found = msgspec.json.decode(b"[" + rows.data + b"]")
            value = found[0]["value"] if found else ABSENT
            target.history.append((key, Operation(Kind.READ, None, value, invoked, returned, client=name)))
            await deferLater(self._clock, _PAUSE_SECONDS)


def longest_pause(succeeded: list[float], since: float, until: float) -> float:
    """Return the longest time between two successes, of which some lies between these two moments."""
    inside = [moment for moment in succeeded if since <= moment <= until]
    before = [moment for moment in succeeded if moment < since][-1:] or [since]
    after = [moment for moment in succeeded if moment > until][:1] or [until]
    moments = [*before, *inside, *after]
    return max(later - earlier for earlier, later in pairwise(moments))
