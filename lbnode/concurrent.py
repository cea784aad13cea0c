"""Coroutines side by side: several awaited as one, or one that nobody awaits."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

_T = TypeVar("_T")
_log = Logger()


async def together(works: Iterable[Coroutine[Deferred[Any], Any, _T] | Deferred[_T]]) -> list[_T]:
    """Return what each returns, in order; raises the first failure. Cancelling cancels all."""
    started = [work if isinstance(work, Deferred) else Deferred.fromCoroutine(work) for work in works]
    try:
        return await gatherResults(started, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
        raise AssertionError("not reached") from None


def in_background(coroutine: Coroutine[Deferred[Any], Any, Any], what: str) -> Deferred[None]:
    """Run a coroutine that nobody awaits; a failure goes to the log at once.

    Fires when it has ended. Cancelling cancels it, which is no failure.
    """

    def failed(failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("{what} failed", failure, what=what)

    return Deferred.fromCoroutine(coroutine).addCallbacks(lambda _: None, failed)
