"""Servers that left a read without an answer, so that the next reads ask them last for a while.

A server that is gone refuses at once, but one that is paused or cut off costs every read that asks it first a whole
attempt. Suspicion only orders; a suspect is still asked when nobody else answers, and as usual when its time is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.client.requests import Asker
from dbnode.wire import Reply, Request

#: How long a server is asked last: a few election timeouts, so that one probe per second finds it well again.
SUSPICION_SECONDS = 1.0


_NOBODY: frozenset[str] = frozenset()


class Suspects:
    """Passes requests on and remembers who did not answer them. Fulfils dbnode.client's Asker."""

    def __init__(self, clock: IReactorTime, requests: Asker) -> None:
        self._clock = clock
        self._requests = requests
        self._until_seconds: dict[str, float] = {}

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """Send one request to one server; whatever becomes of it becomes of the result."""
        return self._requests.ask(server, build, timeout_seconds).addErrback(self._unanswered, server)

    def order(self, servers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the servers in the same order, suspects behind all others."""
        if not self._until_seconds:
            return servers
        return tuple(sorted(servers, key=self.names().__contains__))

    def names(self) -> frozenset[str]:
        """Return who is suspected now."""
        if not self._until_seconds:
            return _NOBODY
        now_seconds = self._clock.seconds()
        self._until_seconds = {name: until for name, until in self._until_seconds.items() if until > now_seconds}
        return frozenset(self._until_seconds)

    def suspect(self, server: str) -> None:
        """Ask a server last for a while."""
        self._until_seconds[server] = self._clock.seconds() + SUSPICION_SECONDS

    def _unanswered(self, failure: Failure, server: str) -> Any:
        self.suspect(server)
        return failure
