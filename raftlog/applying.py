"""How what is committed gets into the state machine of one replica: when, and how much at once.

A leader applies at once: somebody waits for the result. Nobody waits at a follower until a read arrives there, so what
is committed gathers for a while and is applied together: a transaction for many entries costs hardly more than one for
few. To everybody else such a follower is only a little behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from raftlog.messages import Entry, EntryType, Message
from raftlog.statemachine import StateMachine

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


class Replica(Protocol):
    """What an Applier needs of the replica that it belongs to."""

    def is_apply_awaited(self) -> bool:
        """Return whether anybody waits for what this replica applies."""

    def applied(self, messages: list[Message], entries: list[Entry], results: Sequence[Any]) -> None:
        """Take a batch that was applied: the storage applies, their entries and the results."""

    def machine_failed(self, failure: Failure) -> None:
        """Take what the state machine raised: such a replica can't go on."""

    def go_on(self) -> None:
        """Ask for the next turn."""


class Applier:
    """Gives the state machine what is committed and durable here, one batch at a time.

    The replica is an argument wherever it is needed, and kept only while the state machine is at work: one that is
    destroyed should go at once with all that it holds, however rarely cycles are looked for.
    """

    __slots__ = ("_machine", "_queue", "_stopped", "_when_idle", "at_work")

    def __init__(self, machine: StateMachine, gathering_ticks: int) -> None:
        self._machine = machine
        self._queue = ApplyQueue(gathering_ticks)
        self._stopped = False
        #: Whether the state machine is at work.
        self.at_work = False
        self._when_idle: Deferred[None] | None = None

    @property
    def at_work_from(self) -> int | None:
        """The index up to which all is applied, if the state machine is at work on what follows."""
        return self._machine.applied_index if self.at_work else None

    def put(self, message: Message) -> None:
        """Take a storage apply."""
        self._queue.put(message)

    def tick(self) -> bool:
        """Let one tick pass; return whether what was gathered has to be applied now."""
        return self._queue.tick()

    def apply_all(self, replica: Replica) -> None:
        """Apply what there is: somebody is about to look at the state machine."""
        if self._queue:
            self._queue.hurry()
            self.apply_due(replica)
            replica.go_on()

    def idle(self, replica: Replica) -> Deferred[None]:
        """Return a Deferred that fires when the state machine has nothing to do. One caller at a time."""
        idle: Deferred[None] = Deferred()
        self.apply_all(replica)
        if self.at_work:
            self._when_idle = idle
        else:
            idle.callback(None)
        return idle

    def stop(self) -> None:
        """Begin with nothing any more."""
        self._stopped = True

    def apply_due(self, replica: Replica) -> None:
        """Apply what does not wait for more."""
        queue = self._queue
        while queue and not self.at_work and not self._stopped and (queue.due or replica.is_apply_awaited()):
            messages, entries = queue.take()
            try:
                results = self._machine.apply(entries)
            except Exception:  # noqa: BLE001 - whatever it is, this replica can't go on
                replica.machine_failed(Failure())
                return
            if isinstance(results, Deferred):
                self.at_work = True
                # Nobody waits for the chain: what goes wrong in it ends the process.
                later = results.addCallback(self._applied_later, replica, messages, entries)
                _ = later.addErrback(replica.machine_failed)
            else:
                replica.applied(messages, entries, results)

    def _applied_later(
        self, results: Sequence[Any], replica: Replica, messages: list[Message], entries: list[Entry]
    ) -> None:
        self.at_work = False
        replica.applied(messages, entries, results)
        self.apply_due(replica)
        if not self.at_work and self._when_idle is not None:
            idle, self._when_idle = self._when_idle, None
            idle.callback(None)
        if not self._stopped:
            replica.go_on()


def _size_bytes(message: Message) -> int:
    return sum([len(entry.data) for entry in message.entries])
