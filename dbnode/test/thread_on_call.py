"""A pool of threads that works when the test lets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred


class ThreadOnCall:
    """Stands for a pool of threads: work waits until the test lets it run."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any], /) -> Deferred[Any]:
        """Queue work."""
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((work, deferred))
        return deferred

    def run(self) -> None:
        """Do the work that came first."""
        work, deferred = self.waiting.pop(0)
        try:
            deferred.callback(work())
        except Exception:  # noqa: BLE001 - passed on, as a pool would
            deferred.errback()
