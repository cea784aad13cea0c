"""Small reads of one group in batches.

A frame with many reads, the round of ReadIndex that confirms them all and the frame with their answers cost hardly more
than for one. So what comes while a batch is on its way waits for it to be answered, but not for long, as changes do in
dbnode.client.session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dbnode.client.departures import RETURN_SECONDS
from dbnode.client.reads import Attempts, ReadChannel

#: With so many reads waiting another batch is sent beside the one on its way, to another replica; ...
BATCHED_MAX = 64
#: ... and whatever waits is, after so long: a replica may be slow, or dead.
HELD_SECONDS = 0.005
#: If not even half of them came, so many batches wait for nobody.
BATCHES_UNAWAITED = 16


class _Batch:
    """Reads that were sent together, to which server first, and how many of them wait for their first answer."""

    __slots__ = ("_ended", "_left", "server", "size")

    def __init__(self, size: int, server: str, ended: Callable[[_Batch], None]) -> None:
        self.size = size
        self.server = server
        self._left = size
        self._ended = ended

    def leave(self) -> None:
        """Count one less."""
        self._left -= 1
        if not self._left:
            self._ended(self)


class ReadBatches:
    """Small reads of one group and one consistency, in batches; `servers` names whom to ask, once for each batch.

    A batch goes to a server that has answered all before, if there is one. A large read would keep the others waiting;
    it goes through the ReadChannel by itself.
    """

    def __init__(
        self,
        clock: IReactorTime,
        channel: ReadChannel,
        group_id: int,
        consistency: int,
        servers: Callable[[int], Sequence[str]],
        later: Callable[[int], Sequence[str]],
    ) -> None:
        self._clock = clock
        self._channel = channel
        self._group_id = group_id
        self._consistency = consistency
        self._servers = servers
        self._later = later
        self._queue: list[Attempts] = []
        #: The batches that are not answered yet, and the one of them that was sent last: what comes waits for that one.
        self._unanswered: set[_Batch] = set()
        self._latest: _Batch | None = None
        #: How many reads the next batch waits for, 0 if for none; and how many batches wait for nobody.
        self._returning = 0
        self._unawaited = 0
        self._flush_call: IDelayedCall | None = None
        self._flush_is_due = False
        self._stopped = False

    def attempts(
        self, low: int, high: int, *, timeout_seconds: float, limit: int = 0, bytes_max: int = 1 << 20, as_lines: bool
    ) -> Attempts:
        """Return a read of the first page of rows low..high (see ReadChannel.read), which asks nobody yet."""
        wanted = (self._group_id, low, high, limit, bytes_max, self._consistency, as_lines)
        return Attempts(self._channel, wanted, self._clock.seconds() + timeout_seconds, self._later)

    def take(self, attempts: Attempts) -> None:
        """Let a read travel with the next batch. Its time has begun already."""
        if self._stopped:
            attempts.begin(self._servers(self._group_id))
            return
        self._queue.append(attempts)
        if len(self._queue) >= self._enough():
            self._flush_after(0)
        elif self._flush_call is None:
            self._flush_after(HELD_SECONDS)

    def stop(self) -> None:
        """Let nothing wait here any longer (the group is gone or the process ends)."""
        self._stopped = True
        self._flush()

    def _enough(self) -> int:
        """Return how many reads make a batch that is sent at once."""
        if self._returning:
            return self._returning
        return 1 if self._latest is None else BATCHED_MAX

    def _flush_after(self, seconds: float) -> None:
        if self._flush_is_due:
            return
        if self._flush_call is not None:
            self._flush_call.cancel()
        self._flush_is_due = not seconds
        self._flush_call = self._clock.callLater(seconds, self._flush_in_time)

    def _flush_in_time(self) -> None:
        self._flush_call = None
        if 2 * len(self._queue) < self._returning:
            self._unawaited = BATCHES_UNAWAITED
        self._flush()

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        self._wait_for_nothing()
        for start in range(0, len(queue), BATCHED_MAX):
            self._send(queue[start : start + BATCHED_MAX])

    def _send(self, together: list[Attempts]) -> None:
        servers = self._servers(self._group_id)
        if self._unanswered:
            busy = {batch.server for batch in self._unanswered}
            servers = sorted(servers, key=lambda server: server in busy)
        batch = _Batch(len(together), servers[0] if servers else "", self._ended)
        # The end of the batch before, if it failed on the spot, has set a time for this one.
        self._wait_for_nothing()
        self._latest = batch
        self._unanswered.add(batch)
        for attempts in together:
            attempts.begin(servers, batch.leave)

    def _wait_for_nothing(self) -> None:
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        self._flush_is_due = False
        self._returning = 0

    def _ended(self, batch: _Batch) -> None:
        """Send the next batch once as many have come as have just been answered, or after a moment."""
        self._unanswered.discard(batch)
        if batch is not self._latest:
            return
        self._latest = None
        if self._stopped or self._flush_is_due:
            return
        returning = min(len(self._queue) + batch.size, BATCHED_MAX)
        if returning == 1 or self._unawaited or len(self._queue) >= returning:
            self._unawaited = max(0, self._unawaited - 1)
            if self._queue:
                self._flush_after(0)
        else:
            self._returning = returning
            self._flush_after(RETURN_SECONDS)
