"""What users of links depend on; implemented over TCP by `links`, in memory by `memory`.

Delivery is at most once and in order per connection. `send` only queues: what one reactor turn sends to one peer on
one lane leaves in one frame at the end of the turn and arrives in one call of the receiver. True means queued, not
delivered; whoever needs to know uses replies and deadlines. What was accepted and not answered when a lane goes down
may or may not have arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from raftlog.link.identity import Endpoint, Identity, Lane


class Connection(Protocol):
    """One authenticated connection, as a receiver sees it: replies go back on the one that brought the request."""

    @property
    def peer(self) -> Identity:
        """Return who proved itself at the other end."""

    @property
    def lane(self) -> Lane:
        """Return the lane that the dialling side chose."""

    @property
    def paused(self) -> bool:
        """Return whether the peer takes bytes more slowly than we produce them: a sender of bulk data waits."""

    def send(self, item: Any) -> bool:
        """Queue an item; False: dropped, since the connection is gone or its queue is full."""


#: Called with all items of a frame. What it raises is logged and costs the connection, which is then redialled.
Receive: TypeAlias = Callable[[Connection, list[Any]], None]
#: Called with a peer's name and the lane whose dialled connection came up or went down.
LaneChange: TypeAlias = Callable[[str, Lane], None]
#: Called with the name of a peer whose process has ended.
PeerEnd: TypeAlias = Callable[[str], None]


class PeerLinks(Protocol):
    """The dialled connections of a process, by the name of the peer."""

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial this peer from now on, at this address; a change of address redials."""

    def remove_peer(self, name: str) -> None:
        """Forget a peer and close what was dialled to it; unknown names are fine."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for a peer. While one of the lanes CONTROL and DATA is down, the other one stands in for it.

        False: dropped at once, since the peer is unknown, is being waited for after a failed attempt, or has a full
        queue. While an attempt to connect is under way items are queued for it.
        """

    def connected(self, name: str, lane: Lane) -> bool:
        """Return whether this lane to the peer is up."""

    def watch(self, on_up: LaneChange, on_down: LaneChange, on_end: PeerEnd | None = None) -> None:
        """Call `on_up` when a lane comes up, `on_down` when what it had accepted must be taken for lost.

        That is when its connection is lost, and when an attempt to connect fails for which items were queued. `on_end`
        is called, once or more often, when a peer to which no lane is up any more listens no longer where it did: its
        machine refuses a connection.
        """
