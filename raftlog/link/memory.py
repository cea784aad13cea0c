"""Links without sockets, for tests of what stands on links. Same promises as `links` (see `interface`).

A network joins the processes of a test by name. What a turn sends is delivered, and lanes come up and go down, when
the test calls `flush` or, if the network was given a clock, when that clock says so. A network can be cut between two
processes: both ways, which takes their lanes down, or one way, which loses frames and tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from raftlog.link.identity import EAGER_LANES, Endpoint, Identity, Lane, lane_allowed
from raftlog.link.interface import LaneChange, PeerEnd, Receive


class MemoryNetwork:
    """The wire between the MemoryLinks of one test; with a clock, turns end by themselves."""

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self._clock = clock
        self._flush_due = False
        #: The running processes.
        self._processes: dict[str, MemoryLinks] = {}
        #: Directions in which frames are lost.
        self._cuts: set[tuple[str, str]] = set()
        #: Connections with something to deliver, in the order of their first item.
        self._sending: list[MemoryConnection] = []

    def cut(self, sender: str, receiver: str, *, one_way: bool = False) -> None:
        """Lose what `sender` sends to `receiver`; unless `one_way`, also the other way, and no lane stays up."""
        self._cuts.add((sender, receiver))
        if not one_way:
            self._cuts.add((receiver, sender))
        self.wake()

    def heal(self, sender: str, receiver: str) -> None:
        """Undo every cut between two processes."""
        self._cuts -= {(sender, receiver), (receiver, sender)}
        self.wake()

    def flush(self) -> int:
        """End the turn: bring lanes up and down, deliver what was sent; return how many frames arrived."""
        self._flush_due = False
        for process in list(self._processes.values()):
            process.reconnect()
        sending, self._sending = self._sending, []
        return sum([connection.deliver() for connection in sending])

    # ---- for MemoryLinks ----

    def join(self, process: MemoryLinks) -> None:
        """Make a process reachable; the one that had its name before was stopped."""
        assert process.identity.name not in self._processes
        self._processes[process.identity.name] = process
        self.wake()

    def leave(self, process: MemoryLinks) -> None:
        """Make it unreachable; its peers notice at the end of the turn."""
        del self._processes[process.identity.name]
        self.wake()

    def find(self, caller: Identity, name: str, lane: Lane) -> MemoryLinks | None:
        """Return the process that answers when `caller` dials `name`, if any does."""
        found = self._processes.get(name)
        if found is None or {(caller.name, name), (name, caller.name)} <= self._cuts:
            return None
        theirs = found.identity
        acquainted = theirs.cluster_id == caller.cluster_id and theirs.name != caller.name
        return found if acquainted and lane_allowed(lane, caller.role, theirs.role) else None

    def listens(self, name: str) -> bool:
        """Return whether there is a process of this name, within reach or not."""
        return name in self._processes

    def loses(self, sender: Identity, receiver: Identity) -> bool:
        """Return whether frames are lost in this direction."""
        return (sender.name, receiver.name) in self._cuts

    def wake(self, sender: MemoryConnection | None = None) -> None:
        """Have the turn ended by the clock, if there is one, and what `sender` holds delivered then."""
        if sender is not None:
            self._sending.append(sender)
        if self._clock is not None and not self._flush_due:
            self._flush_due = True
            self._clock.callLater(0, self.flush)


class MemoryConnection:
    """One end of a connection (see `interface.Connection`); `other` is the far end."""

    _log = Logger()
    #: Memory takes everything at once.
    paused = False
    other: MemoryConnection

    def __init__(self, network: MemoryNetwork, owner: MemoryLinks, peer: Identity, lane: Lane) -> None:
        self._network = network
        self.owner = owner
        self.peer = peer
        self.lane = lane
        self.open = True
        self._items: list[Any] = []

    def send(self, item: Any) -> bool:
        """Queue an item for the frame of this turn; False: dropped."""
        if self.open:
            if not self._items:
                self._network.wake(self)
            self._items.append(item)
        return self.open

    def close(self) -> None:
        """End the connection for both sides; what was not delivered is lost."""
        self.open = self.other.open = False

    def deliver(self) -> bool:
        """Hand the items of this turn to the far end; return whether they arrived."""
        items, self._items = self._items, []
        if not self.open or self._network.loses(self.owner.identity, self.peer):
            return False
        try:
            self.other.owner.take(self.other, self.owner.encode(items))
        except Exception:  # noqa: BLE001 (as over TCP, what a receiver raises costs the connection)
            self._log.failure("a frame of {peer} failed", peer=self.owner.identity.name)
            self.close()
            self._network.wake()
        return True


class _MemoryLane:
    """The dialled half of a lane; `attempting` from the moment a connection is wanted to the end of that turn."""

    def __init__(self, *, eager: bool) -> None:
        self.eager = eager
        self.attempting = eager
        self.connection: MemoryConnection | None = None
        #: Items for the attempt under way.
        self.queue: list[Any] = []

    @property
    def connected(self) -> bool:
        return self.connection is not None and self.connection.open


def _unchanged(items: Any) -> Any:
    return items


class MemoryLinks(Service):
    """The links of one process on a MemoryNetwork; `encode` and `decode`, if given, are used as over TCP."""

    _log = Logger()

    def __init__(
        self,
        network: MemoryNetwork,
        identity: Identity,
        receive: Receive,
        *,
        encode: Callable[[list[Any]], Any] = _unchanged,
        decode: Callable[[Any], list[Any]] = _unchanged,
        eager: tuple[Lane, ...] | None = None,
    ) -> None:
        self.identity = identity
        self.encode = encode
        self._network = network
        self._receive = receive
        self._decode = decode
        self._eager = EAGER_LANES[identity.role] if eager is None else eager
        self._peers: dict[str, tuple[Endpoint, dict[Lane, _MemoryLane]]] = {}
        self._accepted: list[MemoryConnection] = []
        self._watchers: list[tuple[LaneChange, LaneChange]] = []
        self._on_ends: list[PeerEnd] = []

    # ---- interface.PeerLinks ----

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial the process of this name; the address only tells whether it changed."""
        if name in self._peers and self._peers[name][0] == endpoint:
            return
        self.remove_peer(name)
        self._peers[name] = (endpoint, {lane: _MemoryLane(eager=lane in self._eager) for lane in Lane})
        self._network.wake()

    def remove_peer(self, name: str) -> None:
        """Forget a peer and close what was dialled to it; unknown names are fine."""
        _, lanes = self._peers.pop(name, (None, {}))
        for number, lane in lanes.items():
            self._drop(name, number, lane)

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for a peer; False: dropped."""
        if name not in self._peers or not self.running:
            return False
        chosen = self._peers[name][1][lane]
        if chosen.connection is not None:
            return chosen.connection.send(item)
        if not chosen.eager and not chosen.attempting:
            chosen.attempting = True
            self._network.wake()
        if chosen.attempting:
            chosen.queue.append(item)
        return chosen.attempting

    def connected(self, name: str, lane: Lane) -> bool:
        """Return whether this lane to the peer is up."""
        return name in self._peers and self._peers[name][1][lane].connected

    def watch(self, on_up: LaneChange, on_down: LaneChange, on_end: PeerEnd | None = None) -> None:
        """Call these when a dialled lane comes up or goes down, and when a peer has ended."""
        self._watchers.append((on_up, on_down))
        if on_end is not None:
            self._on_ends.append(on_end)

    # ---- service ----

    def startService(self) -> None:
        """Join the network."""
        super().startService()
        self._network.join(self)

    def stopService(self) -> Deferred[None]:
        """Leave the network; every connection is closed at once."""
        super().stopService()
        self._network.leave(self)
        for connection in self._accepted:
            connection.close()
        for name, (_, lanes) in self._peers.items():
            for number, lane in lanes.items():
                self._drop(name, number, lane)
        return succeed(None)

    # ---- for MemoryNetwork and MemoryConnection ----

    def reconnect(self) -> None:
        """Take down lanes whose peer is out of reach, and try to bring up those that are wanted."""
        for name, (_, lanes) in list(self._peers.items()):
            for number, lane in lanes.items():
                self._reconnect_lane(name, number, lane)

    def take(self, connection: MemoryConnection, frame: Any) -> None:
        """Receive a frame on our end of a connection."""
        self._receive(connection, self._decode(frame))

    def accept(self, connection: MemoryConnection) -> None:
        """Be the far end of a connection."""
        self._accepted = [one for one in self._accepted if one.open] + [connection]

    def _reconnect_lane(self, name: str, number: Lane, lane: _MemoryLane) -> None:
        listener = self._network.find(self.identity, name, number)
        if lane.connected and listener is not None:
            return
        was_up = lane.connection is not None
        if was_up or listener is None:
            self._drop(name, number, lane)
        if was_up and not self._network.listens(name) and not any(self.connected(name, other) for other in Lane):
            for on_end in self._on_ends:
                on_end(name)
        if listener is not None and (lane.eager or lane.attempting):
            self._connect(name, number, lane, listener)
        lane.attempting = False

    def _connect(self, name: str, number: Lane, lane: _MemoryLane, listener: MemoryLinks) -> None:
        lane.connection = near = MemoryConnection(self._network, self, listener.identity, number)
        near.other = far = MemoryConnection(self._network, listener, self.identity, number)
        far.other = near
        listener.accept(far)
        queue, lane.queue = lane.queue, []
        for item in queue:
            near.send(item)
        for on_up, _ in self._watchers:
            on_up(name, number)

    def _drop(self, name: str, number: Lane, lane: _MemoryLane) -> None:
        connection, lane.connection = lane.connection, None
        queue, lane.queue = lane.queue, []
        if connection is not None:
            connection.close()
        if connection is not None or queue:
            for _, on_down in self._watchers:
                on_down(name, number)
