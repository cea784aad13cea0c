"""The incoming half: accepts strangers, bounds them, and keeps one connection per peer and lane, the newest."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from raftlog.link.connection import BrokenConnectionError, FramedConnection, Wiring
from raftlog.link.handshake import HandshakeError, ListenerHandshake
from raftlog.link.identity import Identity, Lane, Role
from raftlog.link.refusals import Refusals
from raftlog.strangers import Strangers
from raftlog.tls import TlsRefused


class Listener(Factory):
    """Makes the accepted connections. `on_peer` is told of each peer that has proved itself."""

    noisy = False

    def __init__(self, wiring: Wiring, on_peer: Callable[[Identity], None]) -> None:
        self._wiring = wiring
        self._on_peer = on_peer
        self._strangers: Strangers[FramedConnection] = Strangers(wiring.options.strangers_max)
        self._established: dict[tuple[Role, str, Lane], FramedConnection] = {}
        self._refusals = Refusals("links")

    def buildProtocol(self, address: IAddress | None) -> FramedConnection:
        """Accept a connection, at the cost of another stranger if there are too many."""
        one = self._strangers.one_too_many()
        if one is not None:
            # Out of the count at once: its transport tells of its end only in a later turn.
            one.abort("too many strangers")
            self._lost(one, BrokenConnectionError("too many strangers"))
        wiring = self._wiring
        handshake = ListenerHandshake(wiring.identity, wiring.prover, wiring.nonce())
        connection = FramedConnection(wiring, handshake, wiring.outbox(), self._welcome, self._lost)
        self._strangers.add(connection, str(getattr(address, "host", address)))
        return connection

    def _welcome(self, connection: FramedConnection) -> None:
        self._strangers.remove(connection)
        key = (connection.peer.role, connection.peer.name, connection.lane)
        older = self._established.get(key)
        self._established[key] = connection
        if older is not None:
            older.abort("replaced by a newer connection")
        self._on_peer(connection.peer)

    def _lost(self, connection: FramedConnection, error: BaseException) -> None:
        host = self._strangers.remove(connection)
        if host is not None:
            self._log_refusal(host, error)
        elif connection.established:
            self._forget(connection)

    def _forget(self, connection: FramedConnection) -> None:
        key = (connection.peer.role, connection.peer.name, connection.lane)
        if self._established.get(key) is connection:
            del self._established[key]

    def _log_refusal(self, host: str, error: BaseException) -> None:
        # What a stranger chose (a name, a version) is in some texts: the kind is not for him to vary.
        kind = error.code if isinstance(error, HandshakeError) else type(error).__name__
        self._refusals.note(host, str(error), str(error) if isinstance(error, TlsRefused) else kind)
