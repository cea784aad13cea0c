"""The reactor's poller with less around each event.

Before each event of a socket Twisted's reactor notes whose it is, so that lines logged the old way
(`twisted.python.log`) begin with a name; ours have names of their own (`twisted.logger`). And what is to be done at the
end of a turn goes through its heap of timers, although it is known to be due.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because Twisted's reactor is untyped.

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

_log = Logger()


def poll_leanly(reactor: object, is_due: Callable[[], bool], end_turn: Callable[[], None]) -> bool:
    """Let a reactor that polls with epoll call `end_turn` after a turn's events if `is_due`; return whether it will.

    Any other reactor, and one that does so for somebody else already, is left as it is.
    """
    if type(reactor) is not EPollReactor or "doIteration" in vars(reactor):
        return False
    reactor.doIteration = _LeanPoll(reactor, is_due, end_turn).do_iteration  # type: ignore[method-assign]
    return True


class _LeanPoll:
    """EPollReactor.doPoll but for the context; both know the same private parts of the reactor."""

    __slots__ = ("_end_turn", "_is_due", "_reactor")

    def __init__(self, reactor: Any, is_due: Callable[[], bool], end_turn: Callable[[], None]) -> None:
        self._reactor = reactor
        self._is_due = is_due
        self._end_turn = end_turn

    def do_iteration(self, timeout_seconds: float | None) -> None:
        """Wait for events and dispatch them; what goes wrong with one is logged and spares the others."""
        reactor = self._reactor
        selectables = reactor._selectables
        if self._is_due():
            timeout_seconds = 0
        try:
            events = reactor._poller.poll(-1 if timeout_seconds is None else timeout_seconds, len(selectables))
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
            events = []
        dispatch = reactor._doReadOrWrite
        for descriptor, event in events:
            # An event before this one may have closed it.
            selectable = selectables.get(descriptor)
            if selectable is not None:
                try:
                    dispatch(selectable, descriptor, event)
                except Exception:  # noqa: BLE001 - as Twisted does
                    _log.failure("an event of {selectable} failed", selectable=selectable)
        if self._is_due():
            self._end_turn()
