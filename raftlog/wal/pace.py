"""Whether the disk is so fast that a small write is better waited for than handed to a thread.

To hand it over and to hear that it is done costs two switches of threads and a round of the poller: as much processor
time as the write itself, and more time than a fast disk takes. But who waits does nothing else, so a disk that is slow,
or slow for a while, is left to the thread.

The time of a write is that of the disk and that until a processor is free again, which on a busy machine is the larger
part. The fastest of several writes tells the one from the other.
"""

from __future__ import annotations

#: Of so many writes in a row the fastest may take FAST_SECONDS, and all of them together SPENT_SECONDS.
WRITES = 32
FAST_SECONDS = 0.001
SPENT_SECONDS = 0.160
#: No write may take so long: twice as long, and followers take their leader for dead.
STALL_SECONDS = 0.150
#: A slow disk is left alone for so long at first, and for twice as long each time it is slow again soon.
PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 64.0
#: After a stall it may be longer: stalls often come again, though with long times between, and each one is felt. They
#: are forgotten after as long a time without one.
STALLED_SECONDS_MAX = 600.0


class Pace:
    """What is known of how long a disk takes. It counts as fast until it is found to be slow."""

    __slots__ = (
        "_count",
        "_fast_since",
        "_fastest",
        "_pause_seconds",
        "_slow_until",
        "_spent",
        "_stalled_at",
        "_stalled_seconds",
    )

    def __init__(self) -> None:
        self._slow_until: float | None = None
        self._fast_since = 0.0
        self._pause_seconds = PAUSE_SECONDS_MIN
        self._stalled_at = 0.0
        self._stalled_seconds = PAUSE_SECONDS_MIN
        #: Of the writes in a row: how many, how long together, and the fastest.
        self._count = 0
        self._spent = 0.0
        self._fastest = STALL_SECONDS

    def is_fast(self, now_seconds: float) -> bool:
        """Return whether the next write may be waited for."""
        if self._slow_until is None:
            return True
        if now_seconds < self._slow_until:
            return False
        self._slow_until = None
        self._fast_since = now_seconds
        return True

    def took(self, seconds: float, now_seconds: float) -> None:
        """Take note of a write that was waited for until now."""
        self._count += 1
        self._spent += seconds
        self._fastest = min(self._fastest, seconds)
        if seconds >= STALL_SECONDS:
            self._leave_alone(now_seconds, self._pause_after_stall(now_seconds))
        elif self._spent > SPENT_SECONDS or (self._count == WRITES and self._fastest > FAST_SECONDS):
            self._leave_alone(now_seconds, self._pause(now_seconds))
        elif self._count == WRITES:
            self._begin_anew()

    def _pause(self, now_seconds: float) -> float:
        if now_seconds - self._fast_since > self._pause_seconds:
            self._pause_seconds = PAUSE_SECONDS_MIN
        pause_seconds = self._pause_seconds
        self._pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        return pause_seconds

    def _pause_after_stall(self, now_seconds: float) -> float:
        if now_seconds - self._stalled_at > self._stalled_seconds + STALLED_SECONDS_MAX:
            self._stalled_seconds = PAUSE_SECONDS_MIN
        self._stalled_at = now_seconds
        pause_seconds = self._stalled_seconds
        self._stalled_seconds = min(2 * pause_seconds, STALLED_SECONDS_MAX)
        return pause_seconds

    def _leave_alone(self, now_seconds: float, seconds: float) -> None:
        self._slow_until = now_seconds + seconds
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._count = 0
        self._spent = 0.0
        self._fastest = STALL_SECONDS
