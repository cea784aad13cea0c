"""Linearizable reads of one replica: ReadIndex in rounds, each shared by all readers that wait (thesis §6.4).

At most one round is in flight; a reader that arrives meanwhile waits for the next one, because an answer proves
nothing for a read that began after its round did (RAFT_RULES 26, 28). A round that gets no answer (leader lost,
message lost) is given up and its readers join a fresh one with a fresh context, until their deadline. Readers who know
from elsewhere what must be applied (raftlog.testimony) take part in no round and only wait for that.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable
from struct import Struct

from twisted.internet.defer import Deferred

from raftlog.errors import Unavailable

_CONTEXT = Struct(">QQ")
#: A round is given up after at most so many times the usual time, for its answer may have been lost after all.
PATIENCE_MAX = 8


class _Reader:
    """One waiting read."""

    __slots__ = ("deadline_seconds", "deferred")

    def __init__(self, deferred: Deferred[None], deadline_seconds: float) -> None:
        self.deferred = deferred
        self.deadline_seconds = deadline_seconds


class ReadRounds:
    """The reads that wait at one replica, and the ReadIndex round in flight for them.

    `issue(context)` starts a round in the core. All times are in the clock's seconds. Rounds are numbered from a random
    place on: the leader may still hold a round of the process that ran here before, or its answer may be on its way,
    and a round of ours that looked the same would take that older answer for its own (RAFT_RULES 26).
    """

    __slots__ = (
        "_applying",
        "_context",
        "_issue",
        "_number",
        "_patience",
        "_ready_to_start",
        "_replica_id",
        "_round",
        "_round_seconds_max",
        "_started",
        "_swept",
    )

    def __init__(self, replica_id: int, issue: Callable[[bytes], None], rng: random.Random) -> None:
        self._replica_id = replica_id
        self._issue = issue
        self._number = rng.getrandbits(63)
        #: Readers of no round yet.
        self._ready_to_start: list[_Reader] = []
        #: Readers of the round in flight, its context and when it began.
        self._round: list[_Reader] = []
        self._context = b""
        self._started = 0.0
        #: How many times the usual time a round may take; when `sweep` was called last, and with what as usual time.
        self._patience = 1
        self._swept = 0.0
        self._round_seconds_max = 0.0
        #: Readers whose index is known and not applied yet, in order of index.
        self._applying: list[tuple[int, list[_Reader]]] = []

    def __len__(self) -> int:
        """Return how many reads wait."""
        return len(self._ready_to_start) + len(self._round) + sum(len(readers) for _, readers in self._applying)

    @property
    def wait_for_apply(self) -> bool:
        """Whether a read is confirmed and waits for its index to be applied."""
        return bool(self._applying)

    def wait(self, deadline_seconds: float) -> Deferred[None]:
        """Return a Deferred that fires once the local state is at least as new as everything acknowledged by now.

        It fails with Unavailable after the deadline. Cancelling it drops only this waiter.
        """
        deferred: Deferred[None] = Deferred()
        self._ready_to_start.append(_Reader(deferred, deadline_seconds))
        return deferred

    def wait_for(self, index: int, deadline_seconds: float) -> Deferred[None]:
        """Return a Deferred that fires once `index`, which is known to be committed, is applied; see `wait`."""
        deferred: Deferred[None] = Deferred()
        insort(self._applying, (index, [_Reader(deferred, deadline_seconds)]), key=_index)
        return deferred

    def start(self, now_seconds: float) -> bool:
        """Begin a round for those who wait, if none is in flight; say whether one began."""
        if self._context or not self._ready_to_start:
            return False
        self._round, self._ready_to_start = self._ready_to_start, []
        self._number += 1
        self._context = _CONTEXT.pack(self._replica_id, self._number)
        self._started = now_seconds
        self._issue(self._context)
        return True

    def confirmed(self, context: bytes, index: int) -> None:
        """Take the answer of a round: its readers wait for `index` to be applied. A stale answer is ignored."""
        if context != self._context:
            return
        insort(self._applying, (index, self._round), key=_index)
        self._round, self._context = [], b""
        if self._swept - self._started < self._round_seconds_max / 2:
            self._patience = 1

    def applied(self, index: int) -> None:
        """Release the readers whose index is applied."""
        while self._applying and self._applying[0][0] <= index:
            for reader in self._applying.pop(0)[1]:
                if not reader.deferred.called:
                    reader.deferred.callback(None)

    def give_up_round(self) -> None:
        """Forget the round in flight; its readers join the next one."""
        if self._context:
            self._ready_to_start[:0] = self._round
            self._round, self._context = [], b""

    def sweep(self, now_seconds: float, round_seconds_max: float) -> None:
        """Fail the readers past their deadline and give up a round older than `round_seconds_max`.

        Where answers are slow the next round would end as early as this one, so it gets twice the time.
        """
        self._swept, self._round_seconds_max = now_seconds, round_seconds_max
        if self._context and now_seconds - self._started > round_seconds_max * self._patience:
            self.give_up_round()
            self._patience = min(2 * self._patience, PATIENCE_MAX)
        for readers in (self._ready_to_start, self._round, *(readers for _, readers in self._applying)):
            if readers:
                _expire(readers, now_seconds)
        self._applying = [waiting for waiting in self._applying if waiting[1]]

    def fail_all(self, error: Exception) -> None:
        """Fail every waiting read (the replica stops or is removed)."""
        everybody = [*self._ready_to_start, *self._round]
        everybody.extend(reader for _, readers in self._applying for reader in readers)
        self._ready_to_start, self._round, self._applying, self._context = [], [], [], b""
        for reader in everybody:
            if not reader.deferred.called:
                reader.deferred.errback(error)


def _index(waiting: tuple[int, list[_Reader]]) -> int:
    return waiting[0]


def _expire(readers: list[_Reader], now_seconds: float) -> None:
    """Remove from `readers` those already cancelled and fail those past their deadline."""
    late = [reader for reader in readers if reader.deadline_seconds <= now_seconds]
    readers[:] = [r for r in readers if r.deadline_seconds > now_seconds and not r.deferred.called]
    for reader in late:
        if not reader.deferred.called:
            reader.deferred.errback(Unavailable("no answer from a leader with a quorum before the read's deadline"))
