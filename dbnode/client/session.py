"""Exactly-once changes of one shard: operations become batches, batches become entries of the shard's log.

Operations submitted in one reactor turn travel in one batch. What is submitted while it is in flight waits and makes
the next batch larger, unless it is enough for a batch worth sending already, or the one in flight is stuck: the busier,
the better it coalesces. Those who got an answer tend to ask again, so the next batch also waits a moment for them, and
another one for batches of other shards, to leave together with theirs (dbnode.client.departures). A batch is retried
under the same sequence until it is answered, so it is applied once (thesis §6.3). The session is opened when first
needed and again, under a new name, when the shard has forgotten it.

Every operation ends in one of three ways: a Result, NotApplied (certain), or OutcomeUnknown.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.departures import HELD_SECONDS, RETURN_SECONDS, Departures
from dbnode.client.outcome import NotApplied, OutcomeUnknown, RequestFailed
from dbnode.client.proposals import Proposal, Proposals
from dbnode.client.requests import SWEEP_SECONDS, Asker
from dbnode.wire import (
    OPERATION_BYTES_MAX,
    OVERLOADED,
    TOO_LARGE,
    UNAVAILABLE,
    UNKNOWN_SESSION,
    Applied,
    OpenSession,
    Operation,
    Result,
    encode_command,
)

#: An attempt that is under way at the deadline is waited for so long: its answer may make the outcome certain.
_GRACE_SECONDS = 0.1
#: What is left of a long round with each round after it.
_ROUND_DECAY = 0.8


class SessionOptions(msgspec.Struct, frozen=True):
    """Bounds of one shard's pipeline. Operations beyond the queue fail at once as overloaded.

    An operation of more than `operation_bytes_max` fails at once as too large. Another batch is sent beside one in
    flight only if it has at least `pipelined_operations_min` operations or `pipelined_bytes_min` bytes.
    """

    operation_bytes_max: int = OPERATION_BYTES_MAX
    batch_operations_max: int = 512
    batch_bytes_max: int = 1 << 20
    batches_in_flight_max: int = 4
    pipelined_operations_min: int = 128
    pipelined_bytes_min: int = 256 << 10
    queue_operations_max: int = 20_000
    queue_bytes_max: int = 64 << 20


class _Queued:
    __slots__ = ("deadline_seconds", "encoded", "outcome")

    def __init__(self, encoded: bytes, deadline_seconds: float) -> None:
        self.encoded = encoded
        self.deadline_seconds = deadline_seconds
        self.outcome: Deferred[Result] = Deferred()


class _Batch:
    __slots__ = ("operations", "proposal", "sequence", "session")

    def __init__(self, session: str, sequence: int, operations: list[_Queued], proposal: Proposal) -> None:
        self.session = session
        self.sequence = sequence
        self.operations = operations
        self.proposal = proposal


class _EncodedBatch(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """dbnode.wire.Batch with its operations encoded already, so that each is encoded once and its size is known."""

    session: str
    sequence: int
    acknowledged: int
    now_ms: int
    operations: tuple[msgspec.Raw, ...]


class ShardSession:
    """One client's pipeline of changes to one group.

    `client_name` is unique among all clients there ever were (an incarnation); `servers` are those with a replica.
    Small batches leave together with those of other sessions that share `departures`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        requests: Asker,
        rng: random.Random,
        *,
        group_id: int,
        client_name: str,
        servers: Sequence[str],
        options: SessionOptions | None = None,
        departures: Departures | None = None,
    ) -> None:
        self._clock = clock
        self._group_id = group_id
        self._client_name = client_name
        self._options = options or SessionOptions()
        self._departures = departures or Departures(clock)
        self._proposals = Proposals(clock, requests, rng, group_id, servers)
        self._queue: deque[_Queued] = deque()
        self._queue_bytes = 0
        #: In order of sending, so that what happens to several at once happens in the same order every time.
        self._in_flight: dict[_Batch, None] = {}
        #: The session's name once it is open; "" before and while it is opened.
        self._session = ""
        self._opening = False
        self._generation = 0
        self._last_sequence = 0
        self._acknowledged = 0
        self._finished: set[int] = set()
        self._stopped = False
        self._flush_call: IDelayedCall | None = None
        #: What was in flight at the last sweep; what still is at the next one is stuck.
        self._seen_in_flight: frozenset[_Batch] = frozenset()
        #: How long batches are on their way: the longest of those before, the less it counts the older it is.
        self._round_seconds = HELD_SECONDS
        #: How many operations the next batch waits for, 0 if for none.
        self._returning = 0
        self._sweep_call: IDelayedCall | None = None

    @property
    def leader(self) -> str:
        """The server believed to lead the group, "" if none is known."""
        return self._proposals.leader

    @property
    def waiting(self) -> int:
        """How many operations have no outcome yet."""
        return len(self._queue) + sum(len(batch.operations) for batch in self._in_flight)

    def set_servers(self, servers: Sequence[str]) -> None:
        """Replace the servers that have a replica of the group."""
        self._proposals.set_servers(servers)

    def submit(self, operation: Operation, timeout_seconds: float) -> Deferred[Result]:
        """Have one operation applied exactly once; fails with NotApplied or OutcomeUnknown, at the deadline or before.

        Cancelling drops only the waiter: the change stays on its way.
        """
        if self._stopped:
            return fail(NotApplied(UNAVAILABLE, "this client stops"))
        queued = _Queued(encode_command(operation), self._clock.seconds() + timeout_seconds)
        options = self._options
        size = len(queued.encoded)
        if size > options.operation_bytes_max:
            text = f"the change has {size} bytes; at most {options.operation_bytes_max} are possible"
            return fail(NotApplied(TOO_LARGE, text))
        full = len(self._queue) >= options.queue_operations_max
        if full or self._queue_bytes + size > options.queue_bytes_max:
            return fail(NotApplied(OVERLOADED, "too many changes wait for this shard already"))
        self._queue.append(queued)
        self._queue_bytes += size
        if self._flush_call is None:
            if self._may_send():
                self._flush_call = self._clock.callLater(0, self._flush_turn)
        elif 0 < self._returning <= len(self._queue):
            self._flush_call.cancel()
            self._returning = 0
            self._flush_call = self._clock.callLater(0, self._flush_turn)
        self._sweep_later()
        return queued.outcome

    def stop(self) -> None:
        """Give up everything and take nothing more (the shard is gone or the process ends)."""
        self._stopped = True
        for call in (self._flush_call, self._sweep_call):
            if call is not None:
                call.cancel()
        self._flush_call = self._sweep_call = None
        # What was waiting goes first: the end of a proposal sends what it finds in the queue.
        queue, self._queue = self._queue, deque()
        in_flight, self._in_flight = self._in_flight, {}
        self._queue_bytes = 0
        self._departures.forget(self._flush)
        for batch in in_flight:
            self._departures.ended(batch)
            _fail(batch.operations, OutcomeUnknown(UNAVAILABLE, "this client stops"))
        _fail(queue, NotApplied(UNAVAILABLE, "this client stops"))
        self._proposals.stop()

    # ---- batches ------------------------------------------------------------------------------------------------

    def _may_send(self) -> bool:
        """Return whether a batch may go now: nothing is in flight, or it is worth being sent beside what is."""
        if not self._in_flight:
            return True
        return len(self._in_flight) < self._options.batches_in_flight_max and self._has_large_batch()

    def _has_large_batch(self) -> bool:
        options = self._options
        if len(self._queue) >= min(options.pipelined_operations_min, options.batch_operations_max):
            return True
        return self._queue_bytes >= min(options.pipelined_bytes_min, options.batch_bytes_max)

    def _flush_turn(self) -> None:
        self._flush_call = None
        self._returning = 0
        self._flush()

    def _flush_after(self, answered: int) -> None:
        """Send the next batch once as many have come as have just been answered, or after a moment."""
        if self._stopped:
            return
        returning = len(self._queue) + answered
        if self._in_flight or returning < 2 or returning >= self._options.pipelined_operations_min:
            self._flush()
        elif self._flush_call is None and not self._departures.must_wait(self._flush, returning, self._round_seconds):
            self._returning = returning
            self._flush_call = self._clock.callLater(RETURN_SECONDS, self._flush_turn)

    def _flush(self) -> None:
        if not self._queue:
            return
        if not self._session:
            self._open()
            return
        while self._queue and self._may_send():
            is_large = self._has_large_batch()
            if not is_large and self._departures.must_wait(self._flush, len(self._queue), self._round_seconds):
                return
            batch = self._send(self._take())
            # If it failed on the spot, or could not be sent, it is not on its way.
            if not is_large and batch in self._in_flight and batch.proposal.waiting:
                self._departures.left(batch, len(batch.operations))

    def _take(self) -> list[_Queued]:
        """Take from the queue what fits into one batch, at least one operation."""
        taken: list[_Queued] = []
        size_bytes = 0
        options = self._options
        while self._queue and len(taken) < options.batch_operations_max:
            size_bytes += len(self._queue[0].encoded)
            if taken and size_bytes > options.batch_bytes_max:
                break
            taken.append(self._queue.popleft())
            self._queue_bytes -= len(taken[-1].encoded)
        return taken

    def _send(self, operations: list[_Queued]) -> _Batch:
        self._last_sequence = sequence = self._last_sequence + 1
        raw = tuple([msgspec.Raw(queued.encoded) for queued in operations])
        command = encode_command(_EncodedBatch(self._session, sequence, self._acknowledged, self._now_ms(), raw))
        proposal = self._proposals.propose(command, max(queued.deadline_seconds for queued in operations))
        batch = _Batch(self._session, sequence, operations, proposal)
        self._in_flight[batch] = None
        outcome = proposal.outcome.addCallbacks(
            self._applied, self._failed, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        in_background(outcome, "a batch")
        return batch

    def _applied(self, applied: Applied, batch: _Batch) -> None:
        self._finish(batch)
        for queued, result in zip(batch.operations, applied.results, strict=True):
            if not queued.outcome.called:
                queued.outcome.callback(result)
        self._flush_after(len(batch.operations))

    def _failed(self, failure: Failure, batch: _Batch) -> None:
        error = failure.value
        assert isinstance(error, RequestFailed), failure
        if batch not in self._in_flight:
            return
        self._finish(batch)
        if error.code == UNKNOWN_SESSION and batch.session == self._session:
            self._session = ""
        if error.code == UNKNOWN_SESSION and isinstance(error, NotApplied):
            self._requeue(batch.operations)
        else:
            _fail(batch.operations, error)
        self._flush()

    def _finish(self, batch: _Batch) -> None:
        """Count a sequence as done with: nothing will be asked about it any more."""
        self._in_flight.pop(batch, None)
        self._departures.ended(batch)
        took_seconds = self._clock.seconds() - batch.proposal.began_seconds
        self._round_seconds = max(min(took_seconds, HELD_SECONDS), _ROUND_DECAY * self._round_seconds)
        if batch.session != self._session:
            return
        self._finished.add(batch.sequence)
        while self._acknowledged + 1 in self._finished:
            self._acknowledged += 1
            self._finished.remove(self._acknowledged)

    def _requeue(self, operations: Sequence[_Queued]) -> None:
        waiting = [queued for queued in operations if not queued.outcome.called]
        self._queue.extendleft(reversed(waiting))
        self._queue_bytes += sum(len(queued.encoded) for queued in waiting)

    # ---- the session --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._opening:
            return
        self._opening = True
        self._generation += 1
        name = f"{self._client_name}/{self._group_id}/{self._generation}"
        command = encode_command(OpenSession(name, self._now_ms()))
        proposal = self._proposals.propose(command, self._queue[-1].deadline_seconds)
        outcome = proposal.outcome.addCallbacks(self._opened, self._not_opened, (name,))
        in_background(outcome, "opening a session")

    def _opened(self, _: Applied, name: str) -> None:
        self._opening = False
        self._session = name
        self._last_sequence = self._acknowledged = 0
        self._finished.clear()
        self._flush()

    def _not_opened(self, failure: Failure) -> None:
        assert isinstance(failure.value, RequestFailed), failure
        self._opening = False
        self._expire_queue()
        self._flush()

    # ---- deadlines ----------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        self._sweep_call = None
        self._expire_queue()
        now_seconds = self._clock.seconds()
        for batch in list(self._in_flight):
            if any(queued.deadline_seconds <= now_seconds for queued in batch.operations):
                self._expire(batch, now_seconds)
        if not self._seen_in_flight.isdisjoint(self._in_flight):
            self._send_beside()
        self._seen_in_flight = frozenset(self._in_flight)
        if self._queue or self._in_flight:
            self._sweep_later()

    def _sweep_later(self) -> None:
        # Who hears in a sweep that his change is late may submit another one.
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)

    def _send_beside(self) -> None:
        """Send a batch beside one that is stuck: a reply was lost, or it is too long to be sent another way."""
        if self._queue and self._session and len(self._in_flight) < self._options.batches_in_flight_max:
            self._send(self._take())

    def _expire_queue(self) -> None:
        now_seconds = self._clock.seconds()
        late = [queued for queued in self._queue if queued.deadline_seconds <= now_seconds]
        if late:
            self._queue = deque(queued for queued in self._queue if queued.deadline_seconds > now_seconds)
            self._queue_bytes = sum(len(queued.encoded) for queued in self._queue)
            _fail(late, NotApplied(UNAVAILABLE, "the shard did not take the change in time"))

    def _expire(self, batch: _Batch, now_seconds: float) -> None:
        """Fail a batch's late operations; the others go on.

        What may be in a log already can't be taken back, so the late ones are unknown and the batch goes on for the
        others; a batch that is certainly in none is dissolved, and the others travel in another one.
        """
        late = [queued for queued in batch.operations if queued.deadline_seconds <= now_seconds]
        if batch.proposal.maybe_applied:
            if not batch.proposal.doubtful and now_seconds < late[0].deadline_seconds + _GRACE_SECONDS:
                return
            _fail(late, OutcomeUnknown(UNAVAILABLE, "no answer in time"))
            return
        self._proposals.withdraw(batch.proposal)
        self._finish(batch)
        # The others are in the queue again before anybody hears of this: he may stop the session.
        self._requeue([queued for queued in batch.operations if queued.deadline_seconds > now_seconds])
        _fail(late, NotApplied(UNAVAILABLE, batch.proposal.last_refusal or "no answer in time"))
        self._flush()

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)


def _fail(operations: Sequence[_Queued], error: RequestFailed) -> None:
    for queued in operations:
        if not queued.outcome.called:
            queued.outcome.errback(error)
