"""The small reads of all simulated clients together, as a balancer sends them (lbnode.router): confirmed by tours."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dbnode.client.batches import ReadBatches
from dbnode.client.reads import ReadChannel
from dbnode.client.requests import Asker
from dbnode.client.tours import ReadTours
from dbnode.wire import LINEARIZABLE, Rows


class SharedReads:
    """Reads of one group, which may be on any of `servers`; tours leave out those that `suspects` names."""

    def __init__(
        self,
        clock: IReactorTime,
        requests: Asker,
        rng: random.Random,
        group_id: int,
        servers: Sequence[str],
        suspects: Callable[[], frozenset[str]],
    ) -> None:
        self._rng = rng
        self._servers = servers
        channel = ReadChannel(clock, requests, rng)
        self._batches = ReadBatches(clock, channel, group_id, LINEARIZABLE, self._in_any_order, self._in_any_order)
        self._tours = ReadTours(
            clock,
            requests,
            rng,
            {group_id: frozenset(servers)},
            {group_id: self._batches},
            self._in_any_order,
            suspects,
        )

    def read(self, low: int, high: int, timeout_seconds: float) -> Deferred[Rows]:
        """Return rows low..high; see ReadChannel.read."""
        attempts = self._batches.attempts(low, high, timeout_seconds=timeout_seconds, as_lines=False)
        self._tours.take(attempts)
        return attempts.rows

    def _in_any_order(self, _: int) -> Sequence[str]:
        return self._rng.sample(self._servers, len(self._servers))
