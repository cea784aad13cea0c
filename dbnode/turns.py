"""A budget for each turn of the reactor, so that many long answers at once hold up no heartbeat (RAFT_RULES 36, 40)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: What pieces of work may cost together before the reactor gets its turn: some milliseconds.
TURN_COST_MAX = 256 << 10


class Turns:
    """Does pieces of work in order, at once as long as the budget of the turn lasts, and else in later turns.

    The budget is counted over all turns in which nothing had to wait: then it only makes the reactor's next turn come
    a little early now and then.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._left = TURN_COST_MAX
        self._waiting: deque[Callable[[], int]] = deque()
        self._next_turn: IDelayedCall | None = None

    def run(self, work: Callable[[], int]) -> None:
        """Do a piece of work, which returns what it has cost: about as many bytes as it has made."""
        if self._next_turn is None:
            self._spend(work())
        else:
            self._waiting.append(work)

    def stop(self) -> None:
        """Drop what waits (the process ends)."""
        self._waiting.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def _spend(self, cost: int) -> None:
        self._left -= cost
        if self._left <= 0:
            self._next_turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._left = TURN_COST_MAX
        while self._waiting and self._next_turn is None:
            self._spend(self._waiting.popleft()())
