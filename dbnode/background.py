"""Deferreds that nobody waits for: their failures go to the log at once instead of being lost."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


def in_background(work: Deferred[Any], what: str) -> None:
    """Let `work` finish unwatched; a failure is our bug and is logged with its traceback, naming `what` was done."""

    def failed(failure: Failure) -> None:
        _log.failure("{what} failed in the background", failure, what=what)

    work = work.addErrback(failed)
