"""Requests to servers over links, and the replies that belong to them.

A request has a number; its reply carries the same one and may come in any order. A request is given up when the
connection that took it drops or when its time is over; deadlines are looked at by one coarse sweep for all requests,
not by a timer each. What is written to one server in one reactor turn travels in one frame (see raftlog.link).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dbnode.client.outcome import Unanswered
from dbnode.wire import OVERLOADED, UNAVAILABLE, Reply, Request
from raftlog.link import Lane

#: Deadlines are late by at most this.
SWEEP_SECONDS = 0.1


class Sender(Protocol):
    """What requests need of the links."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for a server; False if it was dropped."""


class Asker(Protocol):
    """What the rest of this client needs of Requests."""

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """Send one request to one server; see Requests.ask."""


class _InFlight:
    __slots__ = ("deadline_seconds", "reply", "server")

    def __init__(self, server: str, deadline_seconds: float, reply: Deferred[Reply]) -> None:
        self.server = server
        self.deadline_seconds = deadline_seconds
        self.reply = reply


class Requests:
    """The requests of this process that wait for a reply; at most `in_flight_max`.

    They are numbered from `first_id` on. Where replies come over other connections than the one that took the request,
    this has to be a random number: what was asked by a process that ran here before may still be answered.
    """

    def __init__(self, clock: IReactorTime, links: Sender, *, in_flight_max: int = 100_000, first_id: int = 1) -> None:
        self._clock = clock
        self._links = links
        self._in_flight_max = in_flight_max
        self._in_flight: dict[int, _InFlight] = {}
        self._last_id = first_id - 1
        self._sweep_call: IDelayedCall | None = None

    def __len__(self) -> int:
        """Return how many requests wait for a reply."""
        return len(self._in_flight)

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """Send `build(request_id)` to a server; fires with the reply, a Refused included.

        Fails with Unanswered: not sent at all, or the connection dropped, or no reply within `timeout_seconds`.
        Cancelling only drops the waiter.
        """
        reply: Deferred[Reply] = Deferred()
        if len(self._in_flight) >= self._in_flight_max:
            reply.errback(Unanswered(OVERLOADED, f"{self._in_flight_max} requests wait already", sent=False))
            return reply
        self._last_id = request_id = self._last_id + 1
        if not self._links.send(server, Lane.DATA, build(request_id)):
            reply.errback(Unanswered(UNAVAILABLE, f"{server} is not connected", sent=False))
            return reply
        self._in_flight[request_id] = _InFlight(server, self._clock.seconds() + timeout_seconds, reply)
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)
        return reply

    def received(self, replies: Iterable[Reply]) -> None:
        """Take replies from a link; those to requests given up already are dropped."""
        for reply in replies:
            waiting = self._in_flight.pop(reply.request_id, None)
            if waiting is not None:
                waiting.reply.callback(reply)

    def dropped(self, server: str, lane: Lane) -> None:
        """Give up what was sent to a server whose connection dropped (raftlog.link's on_down)."""
        if lane is not Lane.DATA:
            return
        lost = [request_id for request_id, waiting in self._in_flight.items() if waiting.server == server]
        self._give_up(lost, f"the connection to {server} dropped")

    def stop(self) -> None:
        """Give up everything (the process ends)."""
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        self._give_up(list(self._in_flight), "this process stops")

    def _sweep(self) -> None:
        self._sweep_call = None
        now_seconds = self._clock.seconds()
        late = [request_id for request_id, one in self._in_flight.items() if one.deadline_seconds <= now_seconds]
        self._give_up(late, "no reply in time")
        if self._in_flight and self._sweep_call is None:
            self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)

    def _give_up(self, request_ids: list[int], text: str) -> None:
        for request_id in request_ids:
            waiting = self._in_flight.pop(request_id, None)
            if waiting is not None:
                waiting.reply.errback(Unanswered(UNAVAILABLE, text, sent=True))
