"""The links of a process over TCP: a service that listens, dials its peers, and keeps both alive.

Traffic to a peer goes over the connections dialled to it; connections accepted from a peer carry its traffic and our
replies. `interface.PeerLinks` says what its users may count on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from secrets import token_bytes
from typing import Any

from twisted.application.service import Service
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from raftlog.link.connection import Wiring
from raftlog.link.dialler import DialledLane
from raftlog.link.greeting import NONCE_BYTES, Prover
from raftlog.link.identity import EAGER_LANES, Endpoint, Identity, Lane
from raftlog.link.interface import LaneChange, PeerEnd, Receive
from raftlog.link.listener import Listener
from raftlog.link.options import LinkCounters, LinkOptions
from raftlog.link.outbox import Turn
from raftlog.tls import MutualTls, TlsRole

#: Whose certificates open a link; which lanes, and for whom, the handshake says.
_PEERS: tuple[TlsRole, ...] = ("server", "balancer")


#: A leader whose heartbeats are heard but whose appends get lost would stay a leader who can't lead; one whose appends
#: get through but not its heartbeats could not prove that it leads, and serve no reads.
_STAND_IN = {Lane.CONTROL: Lane.DATA, Lane.DATA: Lane.CONTROL}


@dataclass(slots=True)
class _Peer:
    """An entry of the directory; the lanes, indexed by Lane, are there while the service runs."""

    endpoint: Endpoint
    lanes: tuple[DialledLane, ...] = ()

    def close(self) -> None:
        lanes, self.lanes = self.lanes, ()
        for lane in lanes:
            lane.close()


class Links(Service):
    """All links of one process.

    `encode` makes the payload of a frame from a list of items, `decode` the list again; `receive` takes the items of
    each frame with the connection that brought them. `dial` returns the endpoint for an address, by default plain TCP.
    With `tls` every connection, dialled and accepted, is in TLS. Peers may be set before the service is started; they
    are dialled from then on. `eager` are the lanes opened at once, by default those of the own role. `clock` is the
    one that ends the turns, by default the reactor.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: Identity,
        secret: bytes,
        encode: Callable[[list[Any]], bytes],
        decode: Callable[[bytes | memoryview], list[Any]],
        receive: Receive,
        *,
        rng: Random,
        options: LinkOptions | None = None,
        dial: Callable[[Endpoint], IStreamClientEndpoint] | None = None,
        eager: tuple[Lane, ...] | None = None,
        tls: MutualTls | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        options = options or LinkOptions()
        clock = clock or reactor
        self.identity = identity
        self.counters = LinkCounters()
        self._wiring = Wiring(
            clock=clock,
            identity=identity,
            prover=Prover(secret),
            encode=encode,
            decode=decode,
            receive=receive,
            options=options,
            counters=self.counters,
            turn=Turn(clock),
            nonce=partial(token_bytes, NONCE_BYTES),
        )
        self._rng = rng
        self._dial = dial or dial_tcp(reactor, options)
        self._eager = EAGER_LANES[identity.role] if eager is None else eager
        self._tls = tls
        self._peers: dict[str, _Peer] = {}
        self._watchers: list[tuple[LaneChange, LaneChange]] = []
        self._on_ends: list[PeerEnd] = []
        self._listener = Listener(self._wiring, self._heard_of)
        self._ports: list[IListeningPort] = []
        self._pulse = LoopingCall(self._tick)
        self._pulse.clock = clock
        self._pulsing: Deferred[LoopingCall] = succeed(self._pulse)

    # ---- interface.PeerLinks ----

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial this peer from now on, at this address; a change of address redials."""
        peer = self._peers.get(name)
        if peer is not None and peer.endpoint == endpoint:
            return
        self.remove_peer(name)
        self._peers[name] = peer = _Peer(endpoint)
        if self.running:
            self._open(name, peer)

    def remove_peer(self, name: str) -> None:
        """Forget a peer and close what was dialled to it; unknown names are fine."""
        peer = self._peers.pop(name, None)
        if peer is not None:
            peer.close()

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for a peer; False: dropped."""
        peer = self._peers.get(name)
        if peer is None or not peer.lanes:
            self.counters.items_dropped += 1
            return False
        return self._way(peer, lane).send(item)

    def _way(self, peer: _Peer, lane: Lane) -> DialledLane:
        """Return the lane itself, or the one that stands in for it while it is down."""
        own = peer.lanes[lane]
        if own.connected or lane not in _STAND_IN or lane not in self._eager:
            return own
        instead = peer.lanes[_STAND_IN[lane]]
        return instead if instead.connected else own

    def connected(self, name: str, lane: Lane) -> bool:
        """Return whether this lane to the peer is up."""
        peer = self._peers.get(name)
        return peer is not None and bool(peer.lanes) and peer.lanes[lane].connected

    def watch(self, on_up: LaneChange, on_down: LaneChange, on_end: PeerEnd | None = None) -> None:
        """Call these when a dialled lane comes up or goes down, and when a peer has ended."""
        self._watchers.append((on_up, on_down))
        if on_end is not None:
            self._on_ends.append(on_end)

    # ---- service ----

    def listen(self, endpoint: IStreamServerEndpoint) -> Deferred[IListeningPort]:
        """Accept connections; returns the port, which stopService closes."""
        if self._tls is not None:
            endpoint = self._tls.server(endpoint, _PEERS)
        return endpoint.listen(self._listener).addCallback(self._listening)

    def startService(self) -> None:
        """Dial the peers that are set."""
        super().startService()
        for name, peer in self._peers.items():
            self._open(name, peer)
        self._pulsing = self._pulse.start(self._wiring.options.ping_seconds, now=False)

    def stopService(self) -> Deferred[None]:
        """Close everything; fires when all connections are gone."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._pulse.stop()
        await self._pulsing
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        for peer in self._peers.values():
            peer.close()
        live = list(self._wiring.live)
        for connection in live:
            connection.close()
        await gatherResults([connection.gone for connection in live])

    # ---- directory ----

    def _listening(self, port: IListeningPort) -> IListeningPort:
        self._ports.append(port)
        return port

    def _open(self, name: str, peer: _Peer) -> None:
        peer.lanes = tuple(self._lane(name, peer.endpoint, lane) for lane in Lane)
        for lane in peer.lanes:
            lane.start()

    def _lane(self, name: str, endpoint: Endpoint, lane: Lane) -> DialledLane:
        return DialledLane(
            self._wiring,
            name,
            lane,
            partial(self._dialled, endpoint),
            self._rng,
            self._up,
            self._down,
            self._ended,
            eager=lane in self._eager,
        )

    def _dialled(self, address: Endpoint) -> IStreamClientEndpoint:
        endpoint = self._dial(address)
        return endpoint if self._tls is None else self._tls.client(endpoint, _PEERS)

    def _heard_of(self, peer: Identity) -> None:
        known = self._peers.get(peer.name)
        if known is not None and peer.role == self.identity.role:
            for lane in known.lanes:
                lane.hurry()

    # ---- watching ----

    def _up(self, name: str, lane: Lane) -> None:
        for on_up, _ in self._watchers:
            with self._log.failuresHandled("a watcher of links failed"):
                on_up(name, lane)

    def _down(self, name: str, lane: Lane) -> None:
        for _, on_down in self._watchers:
            with self._log.failuresHandled("a watcher of links failed"):
                on_down(name, lane)

    def _ended(self, name: str) -> None:
        peer = self._peers.get(name)
        if peer is None or any(lane.connected for lane in peer.lanes):
            # It is a connection that broke alone; the other lanes tell if that is not so.
            return
        for on_end in self._on_ends:
            with self._log.failuresHandled("a watcher of links failed"):
                on_end(name)

    def _tick(self) -> None:
        with self._log.failuresHandled("watching over connections failed"):
            live = list(self._wiring.live)
            heard = {connection.peer for connection in live if connection.heard}
            for connection in live:
                connection.tick(peer_heard=connection.established and connection.peer in heard)


def dial_tcp(reactor: Any, options: LinkOptions) -> Callable[[Endpoint], IStreamClientEndpoint]:
    """Return what makes the plain endpoint for an address, which may be a name or a number."""

    def endpoint(address: Endpoint) -> IStreamClientEndpoint:
        host, port = address.host, address.port
        # A HostnameEndpoint tells of a failure only when it would begin with a further address, and what is sent
        # meanwhile to a process that is gone waits for that.
        if isIPAddress(host):
            return TCP4ClientEndpoint(reactor, host, port, timeout=options.dial_seconds)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(reactor, host, port, timeout=options.dial_seconds)
        return HostnameEndpoint(
            reactor, host, port, timeout=options.dial_seconds, attemptDelay=options.next_address_seconds
        )

    return endpoint
