"""Reading a shard from any of its replicas, and from another one when the first does not answer.

Every attempt is a new request, so the server begins a read round of its own for it: an answer is never taken over from
an earlier attempt (RAFT_RULES 26). Where a read has the position that must be applied, all its attempts do: whatever
found that out began after the read did (dbnode.client.tours). An attempt that takes long is not given up, but another
replica is asked as well and whoever answers first is heard ("The Tail at Scale", Dean and Barroso 2013); so few at once
that when all are slow, nobody is asked much more often.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.outcome import Unanswered, Unavailable
from dbnode.client.proposals import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN
from dbnode.client.requests import SWEEP_SECONDS, Asker
from dbnode.wire import LINEARIZABLE, UNAVAILABLE, Read, Refused, Reply, Request, Rows
from raftlog.testimony import NOWHERE

#: How long one replica may take before it is given up, ...
ATTEMPT_SECONDS = 2.0
#: ... and before another one is asked as well: about an election timeout, which is what a read may have to wait for.
OVERDUE_SECONDS = 0.3
#: Of the reads that wait, at most this part, or so many, may have asked a second replica.
SECOND_SHARE_MAX = 0.1
SECONDS_MIN = 8


#: Group, low, high, limit, bytes at most, consistency, as lines.
Wanted: TypeAlias = tuple[int, int, int, int, int, int, bool]


def _ignore(server: str) -> None:
    """Take no notice of a server that is slow to answer."""


class ReadChannel:
    """Reads of any group over one set of connections; `overdue` is told of each server that leaves a read waiting."""

    def __init__(
        self, clock: IReactorTime, requests: Asker, rng: random.Random, overdue: Callable[[str], None] = _ignore
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._rng = rng
        self._overdue = overdue
        #: Reads that wait for the first answer and when they asked, in that order; and those that asked twice.
        self._waiting: dict[Attempts, float] = {}
        self._asked_twice: set[Attempts] = set()
        self._sweep_call: IDelayedCall | None = None
        self._stopped = False

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
        later: Callable[[int], Sequence[str]] | None = None,
    ) -> Deferred[Rows]:
        """Return the first page of rows low..high (inclusive); `servers` are asked in this order, round and round.

        After each round in vain `later` says for the group whom to ask from then on: replicas move. Fails with
        Unavailable at the deadline. Cancelling drops only the waiter.
        """
        wanted = (group_id, low, high, limit, bytes_max, consistency, as_lines)
        attempts = Attempts(self, wanted, self._clock.seconds() + timeout_seconds, later)
        attempts.begin(servers)
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

    def stop(self) -> None:
        """Ask nobody any more (the process ends): what fails from now on is given up."""
        self._stopped = True
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None

    def attempt(self, attempts: Attempts) -> None:
        """Ask the next server, unless the deadline has passed."""
        now_seconds = self._clock.seconds()
        if self._stopped or attempts.deadline_seconds <= now_seconds or not attempts.servers:
            self.ended(attempts)
            attempts.rows.errback(Unavailable(UNAVAILABLE, attempts.last_refusal or "no answer in time"))
            return
        self._waiting[attempts] = now_seconds
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)
        self._ask(attempts, attempts.deadline_seconds - now_seconds)

    def _ask(self, attempts: Attempts, remaining_seconds: float) -> None:
        timeout_seconds = min(remaining_seconds, ATTEMPT_SECONDS)
        # The server gives up first, so that its reason arrives in time to be told.
        timeout_ms = int(timeout_seconds * 900)
        group_id, low, high, limit, bytes_max, consistency, as_lines = attempts.wanted
        position = attempts.position
        server = attempts.next_server()

        def build(request_id: int) -> Request:
            return Read(request_id, group_id, low, high, limit, bytes_max, consistency, timeout_ms, as_lines, position)

        reply = self._requests.ask(server, build, timeout_seconds)
        ended = reply.addCallbacks(attempts.answered, attempts.unanswered, callbackArgs=(server,))
        in_background(ended, "a read")

    def ended(self, attempts: Attempts) -> None:
        """Take note that nobody was asked, or that nobody's answer is waited for any more."""
        self._waiting.pop(attempts, None)
        self._asked_twice.discard(attempts)
        attempts.hold_nobody_up()

    def refused_second(self, attempts: Attempts) -> None:
        """Take note that one of two has nothing to say, so that another one may be asked."""
        self._asked_twice.discard(attempts)

    def pause(self, attempts: Attempts) -> None:
        """Try again soon."""
        if self._stopped:
            attempts.next()
            return
        self._clock.callLater(self._rng.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX), attempts.next_round)

    def _sweep(self) -> None:
        """Have those who have waited too long ask a second server, as many as may."""
        self._sweep_call = None
        if not self._waiting:
            return
        self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)
        latest = self._clock.seconds() - OVERDUE_SECONDS
        overdue = []
        for attempts, began_seconds in self._waiting.items():
            if began_seconds > latest:
                break
            overdue.append(attempts)
        for attempts in overdue:
            self._ask_a_second(attempts)

    def _ask_a_second(self, attempts: Attempts) -> None:
        if attempts.rows.called:
            self.ended(attempts)
            return
        if attempts in self._asked_twice or len(attempts.servers) < 2:
            return
        self._overdue(attempts.server)
        remaining_seconds = attempts.deadline_seconds - self._clock.seconds()
        allowed = max(SECONDS_MIN, int(len(self._waiting) * SECOND_SHARE_MAX))
        if remaining_seconds > 0 and len(self._asked_twice) < allowed:
            self._asked_twice.add(attempts)
            self._ask(attempts, remaining_seconds)


class Attempts:
    """One read on its way from server to server, of which at most two are asked at a time."""

    __slots__ = (
        "_asked",
        "_channel",
        "_held_up",
        "_later",
        "_tried",
        "deadline_seconds",
        "last_refusal",
        "position",
        "rows",
        "server",
        "servers",
        "wanted",
    )

    def __init__(
        self,
        channel: ReadChannel,
        wanted: Wanted,
        deadline_seconds: float,
        later: Callable[[int], Sequence[str]] | None,
    ) -> None:
        self._channel = channel
        self._later = later
        self._tried = 0
        #: How many servers have been asked and not answered yet, and who was last.
        self._asked = 0
        self.server = ""
        self.servers: Sequence[str] = ()
        self.wanted = wanted
        #: What a replica must have applied to answer, if that is known (see dbnode.client.tours).
        self.position = NOWHERE
        self.deadline_seconds = deadline_seconds
        self.last_refusal = ""
        self.rows: Deferred[Rows] = Deferred()
        self._held_up: Callable[[], None] | None = None

    @property
    def group_id(self) -> int:
        """The group that is read."""
        return self.wanted[0]

    def begin(self, servers: Sequence[str], held_up: Callable[[], None] | None = None) -> None:
        """Make the first attempt; `held_up` is called once it was answered, or somebody else has to be asked."""
        self.servers = servers
        self._held_up = held_up
        if self.rows.called:
            self.hold_nobody_up()
        else:
            self._channel.attempt(self)

    def hold_nobody_up(self) -> None:
        """Let those who wait for the first attempt's answer wait no longer."""
        held_up, self._held_up = self._held_up, None
        if held_up is not None:
            held_up()

    def next_server(self) -> str:
        """Return the server whose turn it is; it is asked now."""
        self.server = self.servers[self._tried % len(self.servers)]
        self._tried += 1
        self._asked += 1
        return self.server

    def next(self) -> None:
        """Make the next attempt, unless nobody waits any more."""
        if not self.rows.called:
            self._channel.attempt(self)

    def next_round(self) -> None:
        """Begin another round, among those who have the group by now."""
        if self._later is not None and not self.rows.called:
            self._tried = 0
            self.servers = self._later(self.group_id)
        self.next()

    def answered(self, reply: Reply, server: str) -> None:
        """Take the rows, or go on."""
        if isinstance(reply, Rows):
            self._channel.ended(self)
            if not self.rows.called:
                self.rows.callback(reply)
            return
        assert isinstance(reply, Refused)
        self._go_on(f"{server}: {reply.message}")

    def unanswered(self, failure: Failure) -> None:
        """Go on: a read has no outcome to be unsure of."""
        assert isinstance(failure.value, Unanswered), failure
        # What a server said is worth more than silence.
        self._go_on(self.last_refusal or failure.value.text)

    def _go_on(self, refusal: str) -> None:
        self.last_refusal = refusal
        self._asked -= 1
        if self._asked:
            # The other one may still answer.
            self._channel.refused_second(self)
            return
        self._channel.ended(self)
        if self._tried % len(self.servers):
            self.next()
        else:
            self._channel.pause(self)
