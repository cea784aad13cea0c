"""Snapshots on their way between servers: a copy of the state machine in chunks on the bulk lane.

The core decides that a follower needs a snapshot and hands out a SNAPSHOT message; what travels is newer: a copy of
the state machine as it is when the transfer begins, and the message with that copy's index. The sender keeps at most
a few chunks unacknowledged; the receiver acknowledges a chunk once its state machine has taken it, so neither side
holds more than that in memory and nothing big ever waits in front of a heartbeat (RAFT_RULES 36). When the last chunk
has arrived, the message is delivered to the receiver's core as if it had just come.

A transfer that stops moving is given up by both sides; the core then tries again by itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from raftlog.messages import Message, SnapshotAck, SnapshotChunk

#: Large enough to keep the disk and the link busy, small enough to be handled within a few milliseconds.
CHUNK_BYTES = 256 << 10
#: Chunks sent and not acknowledged, per transfer.
WINDOW_CHUNKS = 8
#: Copies that a process sends at once; each costs the store a read transaction.
OUTGOING_MAX = 2
#: A transfer without progress for so long is given up.
STALL_SECONDS = 30.0


class Export(Protocol):
    """A consistent copy of a state machine on its way out."""

    @property
    def applied_index(self) -> int:
        """The index of the last entry in the copy."""

    def next_chunk(self) -> Deferred[bytes | None]:
        """Return the next chunk, None after the last."""

    def close(self) -> Deferred[None]:
        """Let go of the copy."""


class Import(Protocol):
    """A copy on its way in, built beside the state machine's content."""

    def write(self, chunk: bytes) -> Deferred[None]:
        """Take the next chunk."""

    def finish(self) -> Deferred[Any]:
        """Put the copy in the content's place, durably, whole or not at all."""

    def abort(self) -> Deferred[None]:
        """Drop what was written."""


class TransferFailed(Exception):
    """The copy did not arrive."""


class Outgoing:
    """One copy being sent. `run` fails with TransferFailed unless the receiver took everything."""

    def __init__(
        self,
        clock: IReactorTime,
        group_id: int,
        transfer_id: int,
        send: Callable[[SnapshotChunk], bool],
    ) -> None:
        self._clock = clock
        self._group_id = group_id
        self.transfer_id = transfer_id
        self._send = send
        self._acknowledged = -1
        self._refusal = ""
        self._waiting: Deferred[None] | None = None
        self._stall: IDelayedCall | None = None

    async def run(self, export: Export, message: Message) -> None:
        """Send all of `export`; `message` names its index and configuration."""
        try:
            number = 0
            chunk = await export.next_chunk()
            while chunk is not None:
                following = await export.next_chunk()
                self._send_chunk(message, number, chunk, last=following is None)
                await self._until_acknowledged(number if following is None else number - WINDOW_CHUNKS)
                number, chunk = number + 1, following
        finally:
            await export.close()

    def _send_chunk(self, message: Message, number: int, data: bytes, *, last: bool) -> None:
        if self._refusal:
            raise TransferFailed(self._refusal)
        chunk = SnapshotChunk(
            self._group_id,
            message.from_,
            message.to,
            self.transfer_id,
            number,
            data,
            zlib.crc32(data),
            last,
            message if number == 0 else None,
        )
        if not self._send(chunk):
            raise TransferFailed("the link dropped a chunk")

    async def _until_acknowledged(self, number: int) -> None:
        while self._acknowledged < number:
            self._waiting = Deferred()
            self._stall = self._clock.callLater(STALL_SECONDS, self._stalled)
            try:
                await self._waiting
            finally:
                if self._stall.active():
                    self._stall.cancel()
            if self._refusal:
                raise TransferFailed(self._refusal)

    def _stalled(self) -> None:
        self.give_up(f"nothing was acknowledged for {STALL_SECONDS:.0f} seconds")

    def acknowledged(self, ack: SnapshotAck) -> None:
        """Take the receiver's answer."""
        if ack.refusal:
            self.give_up(f"refused by the receiver: {ack.refusal}")
        elif ack.number > self._acknowledged:
            self._acknowledged = ack.number
            self._go_on()

    def give_up(self, reason: str) -> None:
        """Make `run` fail."""
        self._refusal = reason
        self._go_on()

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class Incoming:
    """One copy being received, until `complete` is called with the SNAPSHOT message, or it is dropped.

    `acknowledge(number, refusal)` answers the sender.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        first: SnapshotChunk,
        begin: Callable[[], Import],
        acknowledge: Callable[[int, str], None],
        complete: Callable[[Message], None],
        dropped: Callable[[], None],
    ) -> None:
        assert first.message is not None
        #: Each sender counts its own transfers.
        self.key = (first.from_, first.transfer_id)
        self.content = begin()
        self._message = first.message
        self._acknowledge = acknowledge
        self._complete = complete
        self._dropped = dropped
        self._next_number = 0
        self._queue: list[SnapshotChunk] = []
        self._writing = False
        self._done = False
        self._clock = clock
        self._stall = clock.callLater(STALL_SECONDS, self.drop, "no chunk came for too long")

    def take(self, chunk: SnapshotChunk) -> None:
        """Take the next chunk; anything else ends the transfer."""
        if chunk.number != self._next_number or zlib.crc32(chunk.data) != chunk.crc or len(self._queue) > WINDOW_CHUNKS:
            self.drop(f"chunk {chunk.number} is not what must come next")
            return
        self._next_number += 1
        self._stall.reset(STALL_SECONDS)
        self._queue.append(chunk)
        self._write_next()

    def _write_next(self) -> None:
        if self._writing or self._done or not self._queue:
            return
        self._writing = True
        chunk = self._queue.pop(0)
        # Nobody waits for the chain: it ends in a drop, which tells the sender.
        _ = self.content.write(chunk.data).addCallbacks(self._written, self._failed, callbackArgs=(chunk,))

    def _written(self, _: object, chunk: SnapshotChunk) -> None:
        self._writing = False
        if self._done:
            return
        if not chunk.last:
            self._acknowledge(chunk.number, "")
            self._write_next()
            return
        self._end()
        self._acknowledge(chunk.number, "")
        self._complete(self._message)

    def _failed(self, failure: Any) -> None:
        self._writing = False
        self.drop(failure.getErrorMessage())

    def drop(self, reason: str) -> None:
        """Give the transfer up and tell the sender why."""
        if self._done:
            return
        self._end()
        self._log.warn("a snapshot was dropped on its way in: {reason}", reason=reason)
        self._acknowledge(self._next_number - 1, reason)
        self._dropped()
        _ = self.content.abort()

    def _end(self) -> None:
        self._done = True
        if self._stall.active():
            self._stall.cancel()
