"""When batches of different groups leave together.

A server has replicas of many groups, each led by another server. Batches that leave at the same time reach a follower
at nearly the same time, which then takes them all in one turn: it wakes up once, writes its log once and applies them
one after the other, instead of doing all that for each. So a batch that could leave waits until those of other groups
that left before it are answered. But it waits no longer than batches of its own group take, and a moment at most, since
the other group may be slow, or without a leader; and a batch that took longer is waited for no more.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: So long a batch waits for others at most: about as long as one is on its way where many have a change each.
HELD_SECONDS = 0.012
#: So long they wait after the last one was answered: those who got answers tend to ask again.
RETURN_SECONDS = 0.001
#: With so few changes on their way each batch has one or two whatever it waits for.
FEW_CHANGES = 8


class Departures:
    """The batches of several groups that are on their way, and those that wait to leave together.

    A batch is whatever object stands for it. Who waits is a function that sends what there is to send when called.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: The batches that are waited for, how many changes each has, and when the first of them left.
        self._away: dict[object, int] = {}
        self._left_seconds = float("-inf")
        self._waiting: dict[Callable[[], None], None] = {}
        self._releasing = False
        self._call: IDelayedCall | None = None

    def must_wait(self, leave: Callable[[], None], changes: int, patience_seconds: float) -> bool:
        """Let a batch of so many changes wait for others if it has to; return whether it does.

        `leave` is called as soon as it need not wait any more: after `patience_seconds` or HELD_SECONDS, whichever is
        less, or before.
        """
        if self._releasing or not (self._away or self._waiting):
            return False
        if not self._waiting:
            is_leaving_now = 0 <= self._clock.seconds() - self._left_seconds < RETURN_SECONDS
            if is_leaving_now or sum(self._away.values()) + changes <= FEW_CHANGES:
                return False
        if leave not in self._waiting:
            self._waiting[leave] = None
            self._release_within(min(HELD_SECONDS, patience_seconds) if self._away else RETURN_SECONDS)
        return True

    def left(self, batch: object, changes: int) -> None:
        """Take note that a batch is on its way. What comes within a moment leaves with it."""
        if not self._away:
            self._left_seconds = self._clock.seconds()
        self._away[batch] = changes

    def ended(self, batch: object) -> None:
        """Take note that a batch is answered or given up. A moment after the last one all leave that wait."""
        if self._away.pop(batch, None) is not None and not self._away and self._waiting:
            self._release_within(RETURN_SECONDS)

    def forget(self, leave: Callable[[], None]) -> None:
        """Call this function no more."""
        self._waiting.pop(leave, None)
        if not self._waiting and self._call is not None:
            self._call.cancel()
            self._call = None

    def _release_within(self, seconds: float) -> None:
        due_seconds = self._clock.seconds() + seconds
        if self._call is not None:
            if self._call.getTime() <= due_seconds:
                return
            self._call.cancel()
        self._call = self._clock.callLater(seconds, self._release)

    def _release(self) -> None:
        self._call = None
        self._away.clear()
        waiting, self._waiting = self._waiting, {}
        self._releasing = True
        for leave in waiting:
            try:
                leave()
            except Exception:  # noqa: BLE001 - one failure spares the others
                self._log.failure("a batch could not leave")
        self._releasing = False
