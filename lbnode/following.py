"""Following the catalog of a balancer: one question after the other, each answered when there is something new.

Any of several balancers will do: when one fails, the next is asked, and when all have failed, after a growing pause,
the first again. What was learned last stays valid meanwhile. A layout that is out of date does no harm: replica and
group ids are never used twice, so whoever is asked for a replica that it does not have says so, and a replica that was
voted out of its group can confirm neither a change nor a linearizable read.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dbnode.client.control import Control, ControlFailed
from dbnode.jsonhttp import encode
from dbnode.wire import Endpoint
from lbnode.catalog import Catalog
from lbnode.concurrent import in_background
from lbnode.feed import PATH, CatalogQuestion


class CatalogSource(Protocol):
    """Where catalogs come from: the balancers' feeds."""

    async def ask(self, balancer: Endpoint, question: CatalogQuestion, timeout_seconds: float) -> Catalog:
        """Return the answer of one balancer; raises ControlFailed."""


class HttpCatalogSource:
    """The feeds of balancers over HTTP (lbnode.feed.CatalogEndpoint)."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def ask(self, balancer: Endpoint, question: CatalogQuestion, timeout_seconds: float) -> Catalog:
        """See CatalogSource.ask."""
        answer = await self._control.exchange("POST", balancer, PATH, encode(question), timeout_seconds)
        try:
            return msgspec.json.decode(answer, type=Catalog)
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise ControlFailed("bad_answer", f"what came is no catalog: {error}") from error


class FollowTimes(msgspec.Struct, frozen=True):
    """How long a question waits for news, how much longer its answer may take, and pauses after failures.

    A balancer that stands still is noticed after the first two together.
    """

    wait_seconds: float = 5.0
    answer_seconds: float = 3.0
    pause_seconds_min: float = 0.1
    pause_seconds_max: float = 5.0


class Following(Service):
    """Runs while its process does; `took` hears of every newer catalog. `name` is the follower's, and unique."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        source: CatalogSource,
        balancers: Sequence[Endpoint],
        name: str,
        took: Callable[[Catalog], None],
        times: FollowTimes,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._source = source
        self._balancers = list(balancers)
        self._name = name
        self._took = took
        self._times = times
        self._turn = 0
        self._failures = 0
        self._running: Deferred[None] | None = None
        self._lost_at: float | None = None
        self._first: list[Deferred[None]] = []
        #: The newest catalog that was told, None before the first.
        self.catalog: Catalog | None = None
        #: The balancer that answered last, None since one failed; and why none answers.
        self.balancer: Endpoint | None = None
        self.reason = "no balancer has answered yet"

    @property
    def lost_seconds(self) -> float:
        """How long no balancer has answered."""
        return 0.0 if self._lost_at is None else self._clock.seconds() - self._lost_at

    def startService(self) -> None:
        """Begin to follow."""
        super().startService()
        self._lost_at = self._clock.seconds()
        self._running = in_background(self._follow(), "following the catalog")

    def stopService(self) -> Deferred[None] | None:
        """Follow no more."""
        super().stopService()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        return running

    async def informed(self, timeout_seconds: float) -> None:
        """Return as soon as there is a catalog, or after the timeout."""
        if self.catalog is None:
            first: Deferred[None] = Deferred()
            self._first.append(first)
            with suppress(TimeoutError):
                await first.addTimeout(timeout_seconds, self._clock)

    async def _follow(self) -> None:
        while self.running:
            balancer = self._balancers[self._turn % len(self._balancers)]
            try:
                catalog = await self._ask(balancer)
            except ControlFailed as error:
                if self.running:  # else the question was cancelled, which its asker cannot tell from a late answer
                    self._lost(balancer, error)
                    await self._pause()
            else:
                self._found(balancer)
                if not self._take(catalog):
                    await deferLater(self._clock, self._times.pause_seconds_min)

    async def _ask(self, balancer: Endpoint) -> Catalog:
        """Ask a balancer for news, and only for what there is as long as nobody has answered."""
        times = self._times
        version = self.catalog.version if self.catalog is not None else 0
        wait_seconds = times.wait_seconds if self.balancer is not None else 0.0
        question = CatalogQuestion(self._name, version, wait_seconds, os.getpid())
        catalog = await self._source.ask(balancer, question, wait_seconds + times.answer_seconds)
        if self.catalog is not None and catalog.cluster_id != self.catalog.cluster_id:
            raise ControlFailed("foreign", f"it is of cluster {catalog.cluster_id}, not {self.catalog.cluster_id}")
        if not catalog.cluster_id:
            raise ControlFailed("no_catalog", "it has no catalog yet")
        return catalog

    def _take(self, catalog: Catalog) -> bool:
        """Take a catalog over if it is newer; a balancer may be behind the one that was asked before."""
        if self.catalog is not None and catalog.version <= self.catalog.version:
            return False
        self.catalog = catalog
        with self._log.failuresHandled("taking a catalog over failed"):
            self._took(catalog)
        first, self._first = self._first, []
        for waiter in first:
            waiter.callback(None)
        return True

    def _found(self, balancer: Endpoint) -> None:
        self._failures = 0
        if self.balancer != balancer:
            self._log.info("following {balancer.host}:{balancer.port}", balancer=balancer)
        self.balancer = balancer
        self._lost_at = None

    def _lost(self, balancer: Endpoint, error: ControlFailed) -> None:
        self.reason = f"{balancer.host}:{balancer.port}: {error.text}"
        if self._failures == 0:
            self._log.warn("cannot follow {reason}", reason=self.reason)
        self.balancer = None
        if self._lost_at is None:
            self._lost_at = self._clock.seconds()
        self._failures += 1
        self._turn += 1

    async def _pause(self) -> None:
        """Wait, the longer the more often all have failed; as long as there is another balancer, not at all."""
        rounds, begun = divmod(self._failures, len(self._balancers))
        if not begun:
            longest = min(self._times.pause_seconds_max, self._times.pause_seconds_min * 2 ** min(rounds, 16))
            await deferLater(self._clock, self._rng.uniform(longest / 2, longest))
