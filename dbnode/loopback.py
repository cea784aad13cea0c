"""A server's own requests: to itself without a connection, to other servers over its links.

The client in this process (dbnode.client) then needs no case of its own for replicas that happen to be here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from dbnode.client.requests import Sender
from dbnode.replypath import ReplyPath
from raftlog.link import Lane


class Loopback:
    """A Sender that keeps what is for `name` in this process; without `links` (a server alone) there is no other.

    What is for this server is handed to `deliver` in the next reactor turn, all of it together as a frame would be;
    `replied` takes the replies.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        links: Sender | None,
        deliver: Callable[[ReplyPath, list[Any]], object],
        replied: Callable[[list[Any]], None],
    ) -> None:
        self._clock = clock
        self._name = name
        self._links = links
        self._deliver = deliver
        self._replies = _Replies(replied)
        self._items: list[Any] = []

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for a server; False if it was dropped."""
        if name != self._name:
            return self._links is not None and self._links.send(name, lane, item)
        if not self._items:
            self._clock.callLater(0, self._turn)
        self._items.append(item)
        return True

    def _turn(self) -> None:
        items, self._items = self._items, []
        self._deliver(self._replies, items)


class _Replies:
    def __init__(self, replied: Callable[[list[Any]], None]) -> None:
        self._replied = replied

    def send(self, item: Any) -> bool:
        self._replied([item])
        return True
