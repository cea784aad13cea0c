"""Empty appends, which only tell a follower how far the log is committed, travel with what is sent to it anyway.

A busy leader has committed a round before it sends the next, so the news of each would be two frames and two answers
of its own to every follower: nearly half of all there are. The next append brings it along, a heartbeat, if one is due,
says the same, and an answer to the follower's read takes it in front, as the read waits for it (thesis §6.4). What
nothing took along goes after some ticks, so that no follower is behind for long. To the core all this is a slow
network.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftlog.messages import Message, MessageType
from raftlog.progress import Progress, ProgressState


class CommitNews:
    """The empty append that waits for each follower, at most so many ticks; a newer one takes the place of an older."""

    __slots__ = ("_ticks", "_ticks_max", "_waiting")

    def __init__(self, ticks_max: int) -> None:
        self._ticks_max = ticks_max
        self._ticks = 0
        self._waiting: dict[int, Message] = {}

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._waiting)

    def tick(self) -> bool:
        """Let one tick pass; return whether what waits has to go now."""
        self._ticks = self._ticks + 1 if self._waiting else 0
        return self._ticks >= self._ticks_max

    def keep(self, message: Message, progress: Progress | None) -> bool:
        """Keep a message if it can wait: an empty append to a follower that takes all it is sent; say whether it is.

        To others it is a probe: how they are found again (RAFT_RULES 39).
        """
        if message.type is not MessageType.APPEND or message.entries or progress is None:
            return False
        if progress.state is not ProgressState.REPLICATE or progress.inflights.full:
            return False
        self._waiting[message.to] = message
        return True

    def before(self, message: Message) -> Message | None:
        """Return what has to go in front of a message, which then does not wait any more."""
        if message.type is MessageType.APPEND:
            self._waiting.pop(message.to, None)
            return None
        if message.type is MessageType.HEARTBEAT:
            waiting = self._waiting.get(message.to)
            if waiting is not None and message.commit >= waiting.commit:
                del self._waiting[message.to]
            return None
        if message.type is MessageType.READ_INDEX_RESPONSE:
            return self._waiting.pop(message.to, None)
        return None

    def all(self) -> Iterator[Message]:
        """Yield everything; nothing waits then."""
        self._ticks = 0
        while self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))

    def forget(self) -> None:
        """Drop everything: another leads."""
        self._waiting.clear()
