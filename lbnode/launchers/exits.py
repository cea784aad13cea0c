"""Hears at once that a process ended, whoever started it: a pidfd becomes readable then (pidfd_open(2))."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from lbnode.launchers.processes import Process


class Exits:
    """Watches one process per home; `ended` hears of the home whose process is gone."""

    def __init__(self, reactor: IReactorFDSet, ended: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._ended = ended
        self._watched: dict[str, _Watched] = {}

    def watch(self, home: str, process: Process) -> None:
        """Watch the process that runs on a home, in the place of any other; one that is gone already is not watched."""
        known = self._watched.get(home)
        if known is not None and known.process == process:
            return
        self.forget(home)
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        if not process.is_alive():
            os.close(pidfd)
            return
        watched = self._watched[home] = _Watched(process, pidfd, lambda: self._gone(home))
        self._reactor.addReader(watched)

    def forget(self, home: str) -> None:
        """Watch the process on a home no longer."""
        watched = self._watched.pop(home, None)
        if watched is not None:
            self._reactor.removeReader(watched)
            os.close(watched.fileno())

    def stop(self) -> None:
        """Watch nothing any more."""
        for home in list(self._watched):
            self.forget(home)

    def _gone(self, home: str) -> None:
        self.forget(home)
        self._ended(home)


@implementer(IReadDescriptor)
class _Watched:
    """A process as the reactor sees it."""

    def __init__(self, process: Process, pidfd: int, gone: Callable[[], None]) -> None:
        self.process = process
        self._pidfd = pidfd
        self._gone = gone

    def fileno(self) -> int:
        return self._pidfd

    def doRead(self) -> None:  # noqa: N802 - called by Twisted
        self._gone()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing to do: the reactor stops."""

    def logPrefix(self) -> str:  # noqa: N802 - called by Twisted
        return "exits"
