"""A clock whose next turn is the end of this one.

`callLater(0, ...)` of a reactor is a round through its heap and its poller. In a process whose every frame makes one
part leave work to the next (the driver to the links, a session to the driver), that costs as much as the work itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from raftlog.leanpoll import poll_leanly

#: Calls made within a turn by calls made within it, and by those: what the longest chain of parts needs. Whatever goes
#: on beyond that gives way to sockets and timers first.
_GENERATIONS = 3


@implementer(IReactorTime)
class TurnClock:
    """A reactor's clock that makes the calls due at once together, after the events being dispatched now.

    They are made in the order in which they were asked for; those that they ask for follow in the same turn, within
    bounds. A call that fails is logged and spares the others, as with a reactor. The first one of a reactor that polls
    with epoll is called by its poller (raftlog.leanpoll), any other by a timer.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._due: list[DelayedCall] = []
        self._scheduled = False
        self.seconds: Callable[[], float] = reactor.seconds
        self._reactor_ends_turns = poll_leanly(reactor, lambda: self._scheduled, self._run)

    def callLater(  # noqa: N802 - Twisted's own name
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """Make a call later (IReactorTime); with a delay of 0 at the end of this turn."""
        if delay > 0:
            return self._reactor.callLater(delay, callable, *args, **kwargs)
        call = DelayedCall(self.seconds(), callable, args, kwargs, _ignore, _ignore, self.seconds)
        self._due.append(call)
        if not self._scheduled:
            self._schedule()
        return call

    def getDelayedCalls(self) -> list[Any]:  # noqa: N802 - Twisted's own name
        """Return all calls to come (IReactorTime)."""
        return [*self._reactor.getDelayedCalls(), *(call for call in self._due if call.active())]

    def _schedule(self) -> None:
        self._scheduled = True
        if not self._reactor_ends_turns:
            self._reactor.callLater(0, self._run)

    def _run(self) -> None:
        for _ in range(_GENERATIONS):
            due, self._due = self._due, []
            for call in due:
                if call.active():
                    self._make(call)
            if not self._due:
                self._scheduled = False
                return
        self._schedule()

    def _make(self, call: DelayedCall) -> None:
        if call.delayed_time:
            self._reactor.callLater(call.delayed_time, call.func, *call.args, **call.kw)
            return
        call.called = 1
        try:
            call.func(*call.args, **call.kw)
        except Exception:  # noqa: BLE001 - as a reactor does: one failure spares the others
            self._log.failure("a call at the end of a turn failed")


def _ignore(call: DelayedCall) -> None:
    """Take no notice: calls are looked at when they are due."""
