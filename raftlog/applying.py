"""What is committed and waits to be applied, in one replica.

A leader applies at once: somebody waits for the result. Nobody waits at a follower until a read arrives there, so what
is committed gathers for a while and is applied together: a transaction for many entries costs hardly more than one for
few. To everybody else such a follower is only a little behind.
"""

from __future__ import annotations

from collections import deque
from itertools import chain

from raftlog.messages import Entry, EntryType, Message

#: Of entries: so many are applied at once, for a transaction with all of them takes a few milliseconds.
GATHERED_BYTES_MAX = 32 << 10


class ApplyQueue:
    """Storage applies that wait for the state machine; those of a follower may do so for `gathering_ticks`."""

    __slots__ = ("_bytes", "_due", "_gathering_ticks", "_messages", "_ticks")

    def __init__(self, gathering_ticks: int) -> None:
        self._gathering_ticks = gathering_ticks
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._ticks = 0
        self._due = False

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._messages)

    def put(self, message: Message) -> None:
        """Take the next entries. A change of membership is not kept waiting: it decides who takes part."""
        self._messages.append(message)
        self._bytes += _size_bytes(message)
        changes_members = any(entry.type is not EntryType.NORMAL for entry in message.entries)
        if changes_members or self._bytes >= GATHERED_BYTES_MAX or not self._gathering_ticks:
            self._due = True

    def tick(self) -> bool:
        """Let one tick pass; return whether what waits has to be applied now."""
        if self._messages:
            self._ticks += 1
            if self._ticks >= self._gathering_ticks:
                self._due = True
        return self._due

    def hurry(self) -> None:
        """Let nothing of what is here wait any longer."""
        self._due = bool(self._messages)

    @property
    def due(self) -> bool:
        """Whether what waits has to be applied now, even if nobody waits for it."""
        return self._due

    def take(self) -> tuple[list[Message], list[Entry]]:
        """Return what is to be applied in one go, and its entries; there must be something."""
        messages = [self._messages.popleft()]
        size_bytes = _size_bytes(messages[0])
        while self._messages and size_bytes < GATHERED_BYTES_MAX:
            messages.append(self._messages.popleft())
            size_bytes += _size_bytes(messages[-1])
        self._bytes -= size_bytes
        if not self._messages:
            self._ticks = 0
            self._due = False
        return messages, list(chain.from_iterable([message.entries for message in messages]))


def _size_bytes(message: Message) -> int:
    return sum([len(entry.data) for entry in message.entries])
