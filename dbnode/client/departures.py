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

#: So long a batch waits for others at most: about as long as one is on its way where many have a change each.
HELD_SECONDS = 0.012
#: So long after the last one was answered they leave: those who got answers tend to ask again.
RETURN_SECONDS = 0.001
#: With so few changes on their way each batch has one or two whatever it waits for.
FEW_CHANGES = 8


class Departures:
    """The batches of several groups that are on their way, and those that wait to leave together.

    A batch is whatever object stands for it. Who waits is a function that sends what there is to send when called.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: The batches that are waited for, and how many changes each has.
        self._away: dict[object, int] = {}
        self._waiting: dict[Callable[[], None], None] = {}
        self._leaving = False
        self._call: IDelayedCall | None = None

    def must_wait(self, leave: Callable[[], None], changes: int, patience_seconds: float) -> bool:
        """Return whether a batch of so many changes waits for others, for so long at most, and HELD_SECONDS.

        If so `leave` is called when it need not wait any more.
        """
        if self._leaving or not (self._away or self._waiting):
            return False
        if not self._waiting and sum(self._away.values()) + changes <= FEW_CHANGES:
            return False
        if leave not in self._waiting:
            self._waiting[leave] = None
            self._leave_within(min(HELD_SECONDS, patience_seconds) if self._away else RETURN_SECONDS)
        return True

    def left(self, batch: object, changes: int) -> None:
        """Take note that a batch is on its way; those that wait leave with it."""
        self._away[batch] = changes
        self._leave()

    def ended(self, batch: object) -> None:
        """Take note that a batch is answered or given up. After the last one all leave."""
        if self._away.pop(batch, None) is not None and not self._away and self._waiting:
            self._leave_within(RETURN_SECONDS)

    def forget(self, leave: Callable[[], None]) -> None:
        """Call this function no more."""
        self._waiting.pop(leave, None)
        if not self._waiting and self._call is not None:
            self._call.cancel()
            self._call = None

    def _leave_within(self, seconds: float) -> None:
        due_seconds = self._clock.seconds() + seconds
        if self._call is not None:
            if self._call.getTime() <= due_seconds:
                return
            self._call.cancel()
        self._call = self._clock.callLater(seconds, self._wait_no_more)

    def _wait_no_more(self) -> None:
        self._call = None
        self._away.clear()
        self._leave()

    def _leave(self) -> None:
        if self._leaving:
            return
        if self._call is not None:
            self._call.cancel()
            self._call = None
        waiting, self._waiting = self._waiting, {}
        self._leaving = True
        try:
            for leave in waiting:
                leave()
        finally:
            self._leaving = False
