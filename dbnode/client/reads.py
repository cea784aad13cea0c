"""Reading a shard from any of its replicas, and from another one when the first does not answer.

Every attempt is a new request, so the server begins a read round of its own for it: an answer is never taken over from
an earlier attempt (RAFT_RULES 26).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.outcome import Unanswered, Unavailable
from dbnode.client.proposals import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, Asker
from dbnode.wire import LINEARIZABLE, UNAVAILABLE, Read, Refused, Reply, Request, Rows

#: How long one replica may take before another one is asked.
ATTEMPT_SECONDS = 2.0

#: Group, low, high, limit, bytes at most, consistency, as lines.
_Wanted: TypeAlias = tuple[int, int, int, int, int, int, bool]


class ReadChannel:
    """Reads of any group over one set of connections."""

    def __init__(self, clock: IReactorTime, requests: Asker, rng: random.Random) -> None:
        self._clock = clock
        self._requests = requests
        self._rng = rng

    def read(
        self,
        group_id: int,
        servers: Sequence[str],
        low: int,
        high: int,
        *,
        timeout_seconds: float,
        consistency: int = LINEARIZABLE,
        limit: int = 0,
        bytes_max: int = 1 << 20,
        as_lines: bool = False,
    ) -> Deferred[Rows]:
        """Return the first page of rows low..high (inclusive); `servers` are asked in this order, round and round.

        Fails with Unavailable at the deadline. Cancelling drops only the waiter.
        """
        wanted = (group_id, low, high, limit, bytes_max, consistency, as_lines)
        attempts = _Attempts(self, list(servers), wanted, self._clock.seconds() + timeout_seconds)
        attempts.next()
        return attempts.rows

    async def pages(
        self,
        group_id: int,
        servers: Sequence[str],
        low: int,
        high: int,
        *,
        timeout_seconds: float,
        consistency: int = LINEARIZABLE,
        limit: int = 0,
        bytes_max: int = 1 << 20,
    ) -> AsyncIterator[Rows]:
        """Yield all pages of a range, one in memory at a time. Each has the deadline of its own; see `read`."""
        start: int | None = low
        left = limit
        while start is not None:
            page = await self.read(
                group_id,
                servers,
                start,
                high,
                timeout_seconds=timeout_seconds,
                consistency=consistency,
                limit=left,
                bytes_max=bytes_max,
            )
            yield page
            start = page.next
            if limit:
                left -= page.count
                if left <= 0:
                    return

    def attempt(self, attempts: _Attempts) -> None:
        """Ask the next server, unless the deadline has passed."""
        remaining_seconds = attempts.deadline_seconds - self._clock.seconds()
        if remaining_seconds <= 0 or not attempts.servers:
            attempts.rows.errback(Unavailable(UNAVAILABLE, attempts.last_refusal or "no answer in time"))
            return
        timeout_seconds = min(remaining_seconds, ATTEMPT_SECONDS)
        # The server gives up first, so that its reason arrives in time to be told.
        timeout_ms = int(timeout_seconds * 900)
        group_id, low, high, limit, bytes_max, consistency, as_lines = attempts.wanted

        def build(request_id: int) -> Request:
            return Read(request_id, group_id, low, high, limit, bytes_max, consistency, timeout_ms, as_lines)

        reply = self._requests.ask(attempts.server, build, timeout_seconds)
        in_background(reply.addCallbacks(attempts.answered, attempts.unanswered), "a read")

    def pause(self, attempts: _Attempts) -> None:
        """Try again soon."""
        self._clock.callLater(self._rng.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX), attempts.next)


class _Attempts:
    """One read on its way from server to server."""

    __slots__ = ("_channel", "_tried", "deadline_seconds", "last_refusal", "rows", "servers", "wanted")

    def __init__(self, channel: ReadChannel, servers: list[str], wanted: _Wanted, deadline_seconds: float) -> None:
        self._channel = channel
        self._tried = 0
        self.servers = servers
        self.wanted = wanted
        self.deadline_seconds = deadline_seconds
        self.last_refusal = ""
        self.rows: Deferred[Rows] = Deferred()

    @property
    def server(self) -> str:
        """The server whose turn it is."""
        return self.servers[self._tried % len(self.servers)]

    def next(self) -> None:
        """Make the next attempt, unless nobody waits any more."""
        if not self.rows.called:
            self._channel.attempt(self)

    def answered(self, reply: Reply) -> None:
        """Take the rows, or go on."""
        if isinstance(reply, Rows):
            self.rows.callback(reply)
            return
        assert isinstance(reply, Refused)
        self._go_on(f"{self.server}: {reply.message}")

    def unanswered(self, failure: Failure) -> None:
        """Go on: a read has no outcome to be unsure of."""
        assert isinstance(failure.value, Unanswered), failure
        # What a server said is worth more than silence.
        self._go_on(self.last_refusal or failure.value.text)

    def _go_on(self, refusal: str) -> None:
        self.last_refusal = refusal
        self._tried += 1
        if self._tried % len(self.servers):
            self.next()
        else:
            self._channel.pause(self)
