"""What a leader knows of each follower's log, and how fast it may send to it (thesis §10.2, RAFT_RULES 37).

A follower is probed with one append at a time until its last common entry is found, then entries are streamed to it
within a window bounded in messages and bytes; while it receives a snapshot nothing is appended.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

#: For so many answers, and one more for each tick it took, a follower is remembered to have been slow.
SLOW_ANSWERS = 8
#: The tick of what has not happened yet.
NEVER = -(1 << 62)


class ProgressState(Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Inflights:
    """The window of appends not acknowledged yet: the last index and the size of each, oldest first.

    It is full once it holds `size` messages or `max_bytes` bytes (0: no bound of bytes); the message that reaches the
    bound is still taken, so one message larger than the whole window passes.
    """

    __slots__ = ("_bytes", "_max_bytes", "_sent", "_size")

    def __init__(self, size: int, max_bytes: int = 0) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._sent: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many messages are in flight."""
        return len(self._sent)

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent until something is acknowledged."""
        return len(self._sent) >= self._size or (self._max_bytes > 0 and self._bytes >= self._max_bytes)

    def add(self, last_index: int, size_bytes: int) -> None:
        """Count a message whose last entry is `last_index`."""
        if self.full:
            raise AssertionError("a message was added to a full window")
        self._sent.append((last_index, size_bytes))
        self._bytes += size_bytes

    def free_to(self, index: int) -> None:
        """Forget the messages whose entries are all acknowledged by `index`."""
        sent = self._sent
        while sent and sent[0][0] <= index:
            self._bytes -= sent.popleft()[1]

    def reset(self) -> None:
        """Forget all."""
        self._sent.clear()
        self._bytes = 0


class Progress:
    """One follower as the leader sees it.

    `match`: the highest index known to be in its log; never goes back within a term.
    `next`: the first index to send; always above `match`.
    `sent_commit`: the highest commit index sent, as far as the follower can have taken it.
    `pending_snapshot`: in SNAPSHOT the index of the snapshot that is on its way.
    `recent_active`: anything was heard from it since the last check of the quorum.
    `sent_tick`: when entries or a heartbeat were sent to it last. `heard_tick`: when it last took any of them.
    `owes_answer`: a heartbeat was sent to it, in tick `asked_tick`, and none has been answered since.
    `slowness`: above 0 for some answers after one that took a tick or more.
    `paused`: in PROBE a probe is out; in REPLICATE the window is full. Lifted by any sign of life.
    """

    __slots__ = (
        "asked_tick",
        "heard_tick",
        "inflights",
        "is_learner",
        "match",
        "next",
        "owes_answer",
        "paused",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "sent_tick",
        "slowness",
        "state",
    )

    def __init__(self, match: int, next: int, inflights: Inflights, *, is_learner: bool, recent_active: bool) -> None:
        self.match = match
        self.next = next
        self.sent_commit = 0
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        self.recent_active = recent_active
        self.sent_tick = NEVER
        self.heard_tick = NEVER
        self.owes_answer = False
        self.asked_tick = 0
        self.slowness = 0
        self.paused = False
        self.inflights = inflights
        self.is_learner = is_learner

    def is_in_touch(self, since_tick: int) -> bool:
        """Return whether it was sent something and took something, both after a tick, and owes no older answer.

        One that rejects is not: only a heartbeat finds out that it lost what it had acknowledged (RAFT_RULES 10).
        """
        if self.owes_answer and self.asked_tick <= since_tick:
            return False
        is_followed = self.state is ProgressState.REPLICATE
        return is_followed and self.sent_tick > since_tick and self.heard_tick > since_tick

    def asked(self, tick: int) -> None:
        """Take note of a heartbeat that was sent in a tick."""
        if not self.owes_answer:
            self.owes_answer = True
            self.asked_tick = tick

    def answered(self, tick: int) -> None:
        """Take note of an answer to a heartbeat."""
        if self.owes_answer:
            self.owes_answer = False
            took_ticks = tick - self.asked_tick
            # It may answer an older heartbeat than we think, so that one fast answer after a slow one proves nothing.
            self.slowness = max(self.slowness - 1, SLOW_ANSWERS + took_ticks if took_ticks else 0)

    def _enter(self, state: ProgressState) -> None:
        self.paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        """Probe from behind what is known, or from behind the snapshot that was on its way."""
        behind = self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match, behind) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """Stream from behind what is known."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Wait for the snapshot at `index` to arrive."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    @property
    def is_paused(self) -> bool:
        """Whether no append may be sent now."""
        return self.paused or self.state is ProgressState.SNAPSHOT

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """Account for an append with `count` entries that is on its way."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            # An empty append into a full window is a probe: one at a time.
            self.paused = self.inflights.full
        elif count:
            self.paused = True

    def can_bump_commit(self, index: int) -> bool:
        """Return whether telling the follower of commit `index` could move its own."""
        return self.sent_commit < index and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """Take an acknowledgement up to `index`; say whether it was news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def maybe_decrease(self, rejected: int, match_hint: int) -> bool:
        """Take the rejection of an append behind `rejected`, with the follower's guess; say whether it counts.

        A rejection that is older than what is known meanwhile does not count.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, match_hint + 1), self.match + 1)
            self.paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True
