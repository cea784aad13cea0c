"""What is waiting to be written on one connection: coalesced per reactor turn, bounded in bytes. No I/O of its own.

Items of a turn are encoded once, at the end of the turn, and written with one call. Frames are held while there is no
connection yet or while its transport has enough; once `queue_bytes_max` are held, items are refused. Only what one
turn produces is not bounded here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from raftlog.link.frames import EMPTY_FRAME, HEADER_BYTES, frame
from raftlog.link.options import LinkCounters, LinkOptions

_log = Logger()


class Turn:
    """Calls once, after the events that the reactor is dispatching now, what was registered during them."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._calls: list[Callable[[], None]] = []

    def at_end(self, call: Callable[[], None]) -> None:
        """Have `call` called at the end of this turn; its failure is logged and spares the others."""
        if not self._calls:
            self._clock.callLater(0, self._run)
        self._calls.append(call)

    def _run(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception:  # noqa: BLE001 - one connection's failure spares the others
                _log.failure("cannot flush an outbox")


class Outbox:
    """The outgoing queue of one connection, which may be attached later than the first item is put."""

    def __init__(
        self, turn: Turn, encode: Callable[[list[Any]], bytes], options: LinkOptions, counters: LinkCounters
    ) -> None:
        self._turn = turn
        self._encode = encode
        self._counters = counters
        self._queue_bytes_max = options.queue_bytes_max
        self._payload_bytes_max = options.frame_bytes_max
        self._items: list[Any] = []
        self._frames: deque[tuple[bytes, int]] = deque()
        #: Bytes in `_frames`; infinite once closed, so that `put` needs a single comparison.
        self._queued_bytes: float = 0
        self._write: Callable[[bytes], None] | None = None
        #: Whether frames are held: nothing is attached, or it asked to pause.
        self.paused = True
        #: Whether a frame was written since the last sign of life was asked for.
        self._wrote = False
        #: Whether an item was ever accepted.
        self.used = False

    def put(self, item: Any) -> bool:
        """Queue an item for the frame of this turn; False: dropped and counted."""
        if self._queued_bytes >= self._queue_bytes_max:
            self._counters.items_dropped += 1
            return False
        if not self._items:
            self.used = True
            self._turn.at_end(self.flush)
        self._items.append(item)
        return True

    def flush(self) -> None:
        """Encode what this turn put, and write or hold it."""
        items, self._items = self._items, []
        if items:
            self._emit(items)

    def attach(self, write: Callable[[bytes], None]) -> None:
        """Write what is held, and from now on everything, with `write`."""
        self._write = write
        self.resume()

    def pause(self) -> None:
        """Hold frames until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Write what is held, unless `write` asks to pause again in between."""
        self.paused = False
        while self._frames and not self.paused:
            data, _ = self._frames.popleft()
            self._queued_bytes -= len(data)
            self._write_frame(data)

    def give_sign_of_life(self) -> None:
        """Write an empty frame, unless something was written since this was asked for last, or frames are held."""
        if self._wrote:
            self._wrote = False
        elif not self.paused:
            assert self._write is not None
            self._write(EMPTY_FRAME)

    def close(self) -> None:
        """Drop and count everything that is not written, and refuse what comes."""
        self._counters.items_dropped += len(self._items) + sum(count for _, count in self._frames)
        self._items.clear()
        self._frames.clear()
        self._queued_bytes = float("inf")
        self.paused = True

    def _emit(self, items: list[Any]) -> None:
        try:
            payload = self._encode(items)
        except Exception:
            self._counters.items_dropped += len(items)
            raise
        if len(payload) > self._payload_bytes_max:
            self._emit_in_parts(items, len(payload))
        elif self.paused:
            self._frames.append((frame(payload), len(items)))
            self._queued_bytes += HEADER_BYTES + len(payload)
        else:
            self._write_frame(frame(payload))

    def _emit_in_parts(self, items: list[Any], payload_bytes: int) -> None:
        if len(items) == 1:
            self._counters.items_dropped += 1
            _log.error("dropped an item of {size} bytes, above the limit of a frame", size=payload_bytes)
            return
        middle = len(items) // 2
        self._emit(items[:middle])
        self._emit(items[middle:])

    def _write_frame(self, data: bytes) -> None:
        assert self._write is not None
        self._counters.frames_sent += 1
        self._counters.bytes_sent += len(data)
        self._wrote = True
        self._write(data)
