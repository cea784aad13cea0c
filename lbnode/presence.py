"""What balancers tell each other besides Raft: every second, and at once when it changes or a connection comes up.

Over the same links as the Raft messages of the catalog's group. A balancer that says nothing for a while is away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from lbnode.voters import BalancerRecord
from raftlog.link import Connection, Endpoint, Lane, LaneChange
from raftlog.messages import RaftItem

#: How often a balancer tells what it is.
TELL_SECONDS = 1.0
#: Whoever was not heard for so long is away.
AWAY_SECONDS = 3.5


class Presence(msgspec.Struct, frozen=True, array_like=True, tag=100):
    """A balancer about itself: where clients reach it, whom it knows (see lbnode.acquaintance), where it stands.

    `wants_back`: its data directory is new, and it asks for a new replica id.
    """

    url: str
    members: dict[str, BalancerRecord]
    seen: dict[str, str]
    wants_back: bool = False
    role: str = ""
    term: int = 0
    last_index: int = 0
    applied_index: int = 0


PeerItem: TypeAlias = RaftItem | Presence

encode_peer_items = msgspec.msgpack.Encoder().encode
decode_peer_items = msgspec.msgpack.Decoder(list[PeerItem]).decode


class Heard(msgspec.Struct, frozen=True):
    """The last that was heard of a balancer, and when by the local clock."""

    incarnation: str
    presence: Presence
    at_seconds: float


class GroupLinks(Protocol):
    """What balancers need of the links among them (raftlog.link.Links)."""

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial a peer."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item."""

    def watch(self, on_up: LaneChange, on_down: LaneChange) -> None:
        """Call these when a lane comes up or goes down."""

    def startService(self) -> None:
        """Begin to dial."""

    def stopService(self) -> Deferred[None]:
        """Close everything."""


class Presences:
    """Tells the `others` what `describe` returns, and remembers what they tell.

    `heard` takes a name and what was just heard of it; `raft` takes the Raft items of each frame.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        links_of: Callable[[Callable[[Connection, list[PeerItem]], None]], GroupLinks],
        others: Iterable[str],
        describe: Callable[[], Presence],
        heard: Callable[[str, Heard], None],
        raft: Callable[[list[RaftItem]], None],
    ) -> None:
        self._clock = clock
        self.links = links_of(self._receive)
        self._others = tuple(others)
        self._describe = describe
        self._heard = heard
        self._raft = raft
        self._telling = LoopingCall(self.tell)
        self._telling.clock = clock
        self._told: Deferred[LoopingCall] | None = None
        self.latest: dict[str, Heard] = {}

    def start(self) -> None:
        """Dial, and begin to tell."""
        self.links.watch(self._up, self._down)
        self.links.startService()
        self._told = self._telling.start(TELL_SECONDS)

    async def stop(self) -> None:
        """Say no more."""
        if self._told is not None:
            self._telling.stop()
            await self._told
            self._told = None
        await self.links.stopService()

    def tell(self) -> None:
        """Tell all others now."""
        with self._log.failuresHandled("telling the other balancers failed"):
            presence = self._describe()
            for name in self._others:
                self.links.send(name, Lane.DATA, presence)

    def present(self, name: str) -> Heard | None:
        """Return what was heard of a balancer that is not away."""
        heard = self.latest.get(name)
        return heard if heard is not None and self._clock.seconds() - heard.at_seconds <= AWAY_SECONDS else None

    def _up(self, name: str, lane: Lane) -> None:
        if lane is Lane.DATA:
            self.links.send(name, Lane.DATA, self._describe())

    def _down(self, name: str, lane: Lane) -> None:
        """Forget what was heard of a balancer that is out of reach."""
        if lane is Lane.DATA:
            self.latest.pop(name, None)

    def _receive(self, connection: Connection, items: list[PeerItem]) -> None:
        messages: list[RaftItem] = []
        for item in items:
            if not isinstance(item, Presence):
                messages.append(item)
            elif connection.peer.name in self._others:
                self._take(connection.peer.name, connection.peer.incarnation, item)
        if messages:
            self._raft(messages)

    def _take(self, name: str, incarnation: str, presence: Presence) -> None:
        self.latest[name] = heard = Heard(incarnation, presence, self._clock.seconds())
        self._heard(name, heard)
