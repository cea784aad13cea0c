"""Hears that standard input ended: whoever started this process and kept the other end has died, however it died."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: What is written to it is thrown away.
_READ_BYTES = 4096


@implementer(IReadDescriptor)
class StandardInput:
    """Standard input as the reactor sees it; `ended` is called once at its end. `descriptor` is its number."""

    def __init__(self, reactor: IReactorFDSet, ended: Callable[[], None], descriptor: int = 0) -> None:
        self._reactor = reactor
        self._ended = ended
        self._descriptor = descriptor

    def watch(self) -> None:
        """Begin to listen for its end."""
        self._reactor.addReader(self)

    def forget(self) -> None:
        """Listen no longer; to be called before the reactor stops, which looks like an end from here."""
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return self._descriptor

    def doRead(self) -> None:  # noqa: N802 - called by Twisted
        """See IReadDescriptor."""
        if not os.read(self._descriptor, _READ_BYTES):
            self.forget()
            self._ended()

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor: a pipe without a writer is told as a lost connection, and removed."""
        self._ended()

    def logPrefix(self) -> str:  # noqa: N802 - called by Twisted
        """See ILoggingContext."""
        return "standard input"
