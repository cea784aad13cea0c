"""Who waits for what becomes of an entry that this replica proposed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from raftlog.errors import GroupError, Superseded
from raftlog.messages import Entry

_NOBODY: tuple[int, None] = (0, None)


class Waiters:
    """The Deferreds of one replica's proposals, by the index of their entries. Cancelling one drops it only here."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[int, tuple[int, Deferred[Any]]] = {}

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return bool(self._waiters)

    def add(self, term: int, index: int) -> Deferred[Any]:
        """Return a Deferred of the result of the entry that was proposed in `term` and got this index."""
        deferred: Deferred[Any] = Deferred()
        self._waiters[index] = (term, deferred)
        return deferred

    def applied(self, entries: Iterable[Entry], results: Iterable[Any]) -> None:
        """Tell those who wait for these entries their results, or that another leader's came in their place."""
        waiters = self._waiters
        if not waiters:
            return
        for entry, result in zip(entries, results, strict=True):
            term, deferred = waiters.pop(entry.index, _NOBODY)
            if deferred is None or deferred.called:
                continue
            if term == entry.term:
                deferred.callback(result)
            else:
                deferred.errback(Superseded("another leader's entry was committed in its place"))

    def fail_all(self, error: GroupError) -> None:
        """Tell everybody that nothing will be known here."""
        waiters, self._waiters = self._waiters, {}
        for _, deferred in waiters.values():
            if not deferred.called:
                deferred.errback(error)
