"""Connections on which nobody has proved himself yet: as many as can be afforded."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

T = TypeVar("T")


class Strangers(Generic[T]):
    """At most `most` connections, the oldest first, with the hosts they came from."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hosts: dict[T, str] = {}

    def one_too_many(self) -> T | None:
        """Return who has to go before another one may come, None if there is room.

        It is the oldest of the host that has most, so that a flood from one host drives out only its own.
        """
        if len(self._hosts) < self._most:
            return None
        crowded = Counter(self._hosts.values()).most_common(1)[0][0]
        return next(stranger for stranger, host in self._hosts.items() if host == crowded)

    def add(self, stranger: T, host: str) -> None:
        """Count one more."""
        self._hosts[stranger] = host

    def remove(self, stranger: T) -> str | None:
        """Count one less, who is gone or no stranger any more; return his host, None if he was not counted."""
        return self._hosts.pop(stranger, None)
