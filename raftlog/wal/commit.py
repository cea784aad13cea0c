"""Group commit: everything that was queued while one round was being written is the next round.

`step` may be called in a thread of its own (`run` does that for as long as there is a log) or, where time is simulated,
whenever the simulated disk is done. While it has nothing to do, `write_here` writes a round in the caller's thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from raftlog.wal.errors import WalError
from raftlog.wal.rounds import NoSpace, RoundWriter
from raftlog.wal.space import Space
from raftlog.wal.stage import Chunk

#: How often the free space is looked at, and how long to wait for some before the next try.
HOUSEKEEPING_SECONDS = 1.0
#: A write that takes so long ends the process: what hangs like this does not come back by itself.
HUNG_SECONDS = 60


@dataclass(slots=True)
class Stats:
    """Counters since the log was opened; `entries / rounds` is what group commit is worth."""

    rounds: int = 0
    bytes: int = 0
    records: int = 0
    entries: int = 0
    #: Files on disk now.
    segments: int = 0


class GroupCommit:
    """Writes chunks in the order in which they were put, and tells `settled` of each round through `deliver`.

    After an error `failed` is told, once, and nothing is written or settled any more. `hung` is called by the thread
    if the caller of `write_here` has been in it for HUNG_SECONDS, and must end the process.
    """

    def __init__(
        self,
        writer: RoundWriter,
        space: Space,
        clock: Callable[[], float],
        *,
        deliver: Callable[[Callable[[], None]], None],
        settled: Callable[[list[Chunk]], None],
        failed: Callable[[WalError], None],
        hung: Callable[[], None],
    ) -> None:
        self.stats = Stats(segments=len(writer.segments))
        self._writer = writer
        self._space = space
        self._clock = clock
        self._deliver = deliver
        self._settled = settled
        self._failed = failed
        self._hung = hung
        self._queue: SimpleQueue[Chunk | None] = SimpleQueue()
        #: Held by the thread that writes, or takes old segments away.
        self._at_disk = threading.Lock()
        self._pending: deque[Chunk] = deque()
        self._finishing = False
        self._broken = False
        #: The last try to write `_pending` found no space.
        self._stuck = False
        self._checked_at = clock()

    def put(self, chunk: Chunk) -> None:
        """Queue a chunk. From any thread; never blocks."""
        self._queue.put(chunk)

    def write_here(self, chunks: list[Chunk]) -> bool:
        """Write a round now, in this thread; False if there is more to do than that, or the other thread is at work.

        Whatever was put before must be settled. The caller settles these chunks if they are `synced` then: after an
        error, of which `failed` is told, they are not.
        """
        if any(chunk.opening is not None for chunk in chunks) or not self._at_disk.acquire(blocking=False):
            return False
        try:
            if self._broken or self._writer.segments[0] < chunks[-1].needed_from:
                return False
            self._writer.write(chunks)
            self._written(chunks)
        except Exception as error:  # noqa: BLE001 - as in `step`
            self._break(error)
        finally:
            self._at_disk.release()
        return True

    def finish(self) -> None:
        """Let `run` return once everything queued is written, or cannot be."""
        self._queue.put(None)

    def run(self) -> None:
        """Write rounds until the end."""
        while self.step(HOUSEKEEPING_SECONDS):
            pass
        with self._at_disk:
            self._writer.close()

    def step(self, wait_seconds: float) -> bool:
        """Write at most one round, waiting so long for something to write. False when there will be no more."""
        self._receive(wait_seconds)
        # A second at a time: whatever stops the whole process for longer is not the disk.
        if not any(self._at_disk.acquire(timeout=HOUSEKEEPING_SECONDS) for _ in range(HUNG_SECONDS)):
            self._hung()
            return False
        try:
            if self._broken:
                # Perhaps since just now: the other thread's write failed, and nothing may follow it.
                return False
            if self._pending:
                self._write_round()
            self._look_around()
        except Exception as error:  # noqa: BLE001 - a thread that dies of a bug must not look like a slow disk
            self._break(error)
            return False
        finally:
            self._at_disk.release()
        # What is still pending when there is no space is given up: it was never acknowledged.
        return not self._finishing or (bool(self._pending) and not self._stuck)

    def _receive(self, wait_seconds: float) -> None:
        """Move what is queued to `_pending`, waiting for it if nothing is there that could be written."""
        wait = wait_seconds > 0 and not self._finishing and (self._stuck or not self._pending)
        try:
            self._accept(self._queue.get(wait, wait_seconds))
            while True:
                self._accept(self._queue.get_nowait())
        except Empty:
            pass

    def _accept(self, chunk: Chunk | None) -> None:
        if chunk is None:
            self._finishing = True
        else:
            self._pending.append(chunk)

    def _write_round(self) -> None:
        chunks = [self._pending.popleft()]
        while self._pending and self._pending[0].opening is None:
            chunks.append(self._pending.popleft())
        try:
            self._writer.write(chunks)
        except NoSpace:
            self._pending.extendleft(reversed(chunks))
            self._stuck = True
            return
        self._stuck = False
        self._written(chunks)
        self._deliver(partial(self._settled, chunks))
        self._writer.delete_before(chunks[-1].needed_from)
        self.stats.segments = len(self._writer.segments)

    def _written(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            chunk.synced = True
        stats = self.stats
        stats.rounds += 1
        stats.bytes = self._writer.bytes_written
        stats.records += sum([chunk.records for chunk in chunks])
        stats.entries += sum([chunk.entries for chunk in chunks])

    def _look_around(self) -> None:
        now = self._clock()
        if now - self._checked_at >= HOUSEKEEPING_SECONDS:
            self._checked_at = now
            self._space.check()

    def _break(self, cause: Exception) -> None:
        """Give up the log; the lock is still held, so that no other write follows."""
        self._broken = True
        reason = cause.strerror or str(cause) if isinstance(cause, OSError) else repr(cause)
        error = WalError(f"{self._writer.position}: cannot be written: {reason}")
        error.__cause__ = cause
        self._deliver(partial(self._failed, error))
