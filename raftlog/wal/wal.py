"""The write-ahead log as its owner sees it: submit records, hear when they are on disk.

A submit encodes in the caller's thread and queues; the log's own thread takes everything queued meanwhile, puts it on
disk with one write that syncs (group commit), and hands the news back in one call. While the disk is fast and the
thread has nothing to do, what one turn of the caller submits is written at the turn's end by the caller itself, which
costs less than to hand it over (raftlog.wal.pace). After any error of the disk nothing is acknowledged any more, ever:
what the page cache shows then need not be what the disk has, so only a new process, which copies the log's tail to a
fresh file first, may go on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.logger import Logger

from raftlog.wal.commit import GroupCommit, Stats
from raftlog.wal.errors import InvalidRecord, WalClosed, WalError, WalOverloaded
from raftlog.wal.pace import Pace
from raftlog.wal.records import Record
from raftlog.wal.rounds import RoundWriter
from raftlog.wal.space import Space
from raftlog.wal.stage import Chunk, Stage

log = Logger()

#: More than this is left to the thread, however fast the disk is.
WRITTEN_HERE_BYTES_MAX = 64 << 10


class WriteAheadLog(Protocol):
    """What a driver needs of a log; Wal and MemoryWal are both one."""

    @property
    def overloaded(self) -> bool:
        """Whether submit would raise WalOverloaded."""

    @property
    def free_bytes_low(self) -> bool:
        """Whether the disk is so full that no more proposals should be taken."""

    def submit(self, records: Sequence[Record], done: Callable[[], None]) -> None:
        """Make records durable, then call `done`."""

    def pinning_groups(self) -> list[int]:
        """Name groups that should be compacted because they hold old segments, the oldest first."""

    def group_bytes(self, group_id: int) -> int:
        """Return the size of a group's live entries."""

    def oldest_unsynced_seconds(self) -> float:
        """How long the oldest submit that is not on disk has been waiting; 0.0 if there is none."""

    def close(self) -> None:
        """Write what is queued and stop."""


def acknowledge(done: Callable[[], None]) -> None:
    """Call an acknowledgement; if it fails, the ones of other groups must not be lost with it."""
    try:
        done()
    except Exception:  # noqa: BLE001 - whatever it is, it is in the log now and the next one's turn
        log.failure("an acknowledgement failed")


class Wal:
    """The log of a process, opened by raftlog.wal.open_wal. All methods belong to one thread, the reactor's.

    `on_fatal` is called at most once, after which nothing is acknowledged. `call_from_thread` runs a callable in the
    owner's thread, later (or at once, where there is only one thread). `at_end_of_turn` has a callable called soon,
    after what the owner is sending now has left; without it the thread writes everything.
    """

    def __init__(
        self,
        stage: Stage,
        writer: RoundWriter,
        space: Space,
        *,
        call_from_thread: Callable[[Callable[[], None]], None],
        on_fatal: Callable[[WalError], None],
        clock: Callable[[], float],
        queue_bytes_max: int,
        release: Callable[[], None],
        at_end_of_turn: Callable[[Callable[[], None]], object] | None,
        hung: Callable[[], None],
    ) -> None:
        self.commit = GroupCommit(
            writer, space, clock, deliver=call_from_thread, settled=self._settle, failed=self._fail, hung=hung
        )
        self._at_end_of_turn = at_end_of_turn
        self._pace = Pace()
        #: What is written at the end of this turn, and how many calls for it are to come; the last one writes.
        self._staged: list[Chunk] = []
        self._calls = 0
        self._stage = stage
        self._space = space
        self._on_fatal = on_fatal
        self._clock = clock
        self._queue_bytes_max = queue_bytes_max
        self._release = release
        self._queued_bytes = 0
        self._unsettled: deque[Chunk] = deque()
        #: Why nothing is taken any more.
        self._refusal = ""
        self._closed = False
        self._thread: threading.Thread | None = None

    def start_thread(self) -> None:
        """Write in a thread of the log's own. Without it, `commit.step` is called by whoever keeps the time."""
        self._thread = threading.Thread(target=self.commit.run, name="wal", daemon=True)
        self._thread.start()

    @property
    def tombstones(self) -> frozenset[int]:
        """The ids of the replicas that were destroyed here."""
        return frozenset(self._stage.images.tombstones)

    @property
    def overloaded(self) -> bool:
        """Whether submit would raise WalOverloaded. Changes for the better only when a `done` is called."""
        return self._queued_bytes >= self._queue_bytes_max

    @property
    def free_bytes_low(self) -> bool:
        """Whether the disk is so full that no more proposals should be taken. Looked up once per second."""
        return self._space.low

    @property
    def stats(self) -> Stats:
        """The counters, live."""
        return self.commit.stats

    def submit(self, records: Sequence[Record], done: Callable[[], None]) -> None:
        """Make records durable together, all or none of them; `done` is called once they and all before them are.

        All `done` of a round are called in one turn, in the order of submission. No records at all is a barrier.

        Raises WalOverloaded if too much is queued already: nothing was staged, and the caller still has to get these
        records to disk before it may go on with those groups. So ask `overloaded` before taking work from a core; a
        single submit is then accepted whatever its size. Raises WalClosed after `close` and after `on_fatal`;
        InvalidRecord, a bug of the caller's, if a record cannot follow the ones before it: the log then refuses
        everything, since it cannot know what its owner believes to be on disk.
        """
        if self._refusal:
            raise WalClosed(self._refusal)
        if self._queued_bytes >= self._queue_bytes_max:
            raise WalOverloaded(f"{self._queued_bytes} bytes are waiting for the disk")
        try:
            chunk = self._stage.chunk(records, done, self._clock())
        except InvalidRecord as error:
            self._refusal = f"the log was given an impossible record: {error}"
            raise
        self._queued_bytes += len(chunk.body)
        self._unsettled.append(chunk)
        if self._at_end_of_turn is None or (not self._staged and not self._pace.is_fast(chunk.staged_at)):
            self.commit.put(chunk)
            return
        self._staged.append(chunk)
        # One call for each submit: what its owner sent just before it leaves before the call.
        self._calls += 1
        self._at_end_of_turn(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._calls -= 1
        # There is nothing if the log was closed meanwhile.
        if not self._calls and self._staged:
            self._write_staged()

    def _write_staged(self) -> None:
        staged, self._staged = self._staged, []
        size_bytes = sum([len(chunk.body) for chunk in staged])
        # What is not settled yet is in the thread's hands, and is acknowledged before this.
        thread_is_idle = len(self._unsettled) == len(staged)
        began = self._clock()
        if not thread_is_idle or size_bytes > WRITTEN_HERE_BYTES_MAX or not self.commit.write_here(staged):
            self._hand_over(staged)
            return
        if size_bytes:
            now = self._clock()
            self._pace.took(now - began, now)
        if staged[-1].synced:
            self._settle(staged)

    def _hand_over(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.commit.put(chunk)

    def group_bytes(self, group_id: int) -> int:
        """Return the size of a group's live entries, for the cap beyond which its owner compacts it."""
        return self._stage.images.groups[group_id].bytes

    def pinning_groups(self) -> list[int]:
        """Name the groups that hold segments older than should be kept, the oldest first.

        The small ones among them are rewritten forward when the next segment is opened. The others need a Compacted.
        """
        return self._stage.pinning_groups()

    def oldest_unsynced_seconds(self) -> float:
        """How long the oldest submit that is not on disk has been waiting; 0.0 if there is none."""
        for chunk in self._unsettled:
            if not chunk.synced:
                return self._clock() - chunk.staged_at
        return 0.0

    def close(self) -> None:
        """Write what is queued, stop, and let others open the directory. Blocks as long as the disk takes.

        The `done` of what was still queued are called through call_from_thread, after this has returned.
        """
        if self._closed:
            return
        self._closed = True
        self._refusal = self._refusal or "the log is closed"
        staged, self._staged = self._staged, []
        self._hand_over(staged)
        self.commit.finish()
        if self._thread is not None:
            self._thread.join()
        else:
            self.commit.run()
        self._release()

    def _settle(self, chunks: list[Chunk]) -> None:
        self._stage.written(chunks)
        for chunk in chunks:
            self._unsettled.popleft()
            self._queued_bytes -= len(chunk.body)
            acknowledge(chunk.done)

    def _fail(self, error: WalError) -> None:
        self._refusal = str(error)
        self._on_fatal(error)
