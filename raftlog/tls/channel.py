"""One process's half of mutual TLS: endpoints in TLS around others, and who is at the far end.

Either end must show a certificate of the cluster's authorities that is in its time and names a process of this cluster
in a role that is wanted there. Who exactly it is, is for what runs inside to compare with what the peer says of itself
(see `raftlog.link.handshake`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from raftlog.strangers import Strangers
from raftlog.tls.credentials import Credentials, words
from raftlog.tls.name import CertifiedName, TlsRole, name_of

_VERIFY = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
#: What OpenSSL's numbers of a failed verification (x509_vfy.h) mean to an operator; others are told by number.
_OBJECTIONS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is of no authority (self-signed)",
    19: "is of a foreign authority",
    20: "is of a foreign authority",
    21: "is of a foreign authority",
    7: "has a wrong signature: its authority is not ours",
}


#: Accepted connections whose handshake is not over; see raftlog.strangers.
STRANGERS_MAX = 64
#: They may take so long for it.
HANDSHAKE_SECONDS = 5.0


class TlsRefused(Exception):
    """A connection came to nothing by TLS; the text says whose fault it was and what was wrong."""


class _Talk:
    """What one connection has shown of its far end: `peer` is what a good certificate says.

    That it also has the certificate's key is certain once the handshake is over, hence with the first byte inside.
    """

    def __init__(self, cluster_id: str, roles: Collection[TlsRole]) -> None:
        self._cluster_id = cluster_id
        self._roles = roles
        self.peer: CertifiedName | None = None
        self.objection = ""

    def verify(self, connection: SSL.Connection, certificate: crypto.X509, errno: int, depth: int, ok: int) -> bool:
        """Judge one certificate of the chain, the authority's first (OpenSSL's verify callback)."""
        if not ok:
            self.objection = f"its certificate {_OBJECTIONS.get(errno, f'is not accepted (OpenSSL error {errno})')}"
        elif depth == 0:
            self._judge(name_of(certificate.to_cryptography()))
        return not self.objection

    def _judge(self, name: CertifiedName | None) -> None:
        if name is None:
            self.objection = "its certificate names no process of a cluster"
        elif name.cluster_id != self._cluster_id:
            self.objection = f"its certificate is of {name}, here it is cluster {self._cluster_id}"
        elif name.role not in self._roles:
            self.objection = f"its certificate is of {name}; wanted here: {' or '.join(sorted(self._roles))}"
        else:
            self.peer = name


class TlsTransport(TLSMemoryBIOProtocol):
    """Twisted's TLS, which writes at once what it is given: who writes here has put together what belongs together."""

    factory: _Factory
    talk: _Talk
    _deadline: IDelayedCall | None = None

    def makeConnection(self, transport: ITransport) -> None:
        """Begin TLS; an accepted connection is a stranger's until the handshake is over."""
        if not self.factory.dials:
            self._deadline = self.factory.clock.callLater(HANDSHAKE_SECONDS, self._too_late)
            self.factory.count(self, transport)
        super().makeConnection(transport)

    def dataReceived(self, bytes: bytes) -> None:
        """Go on with the handshake, or hand on what was inside."""
        super().dataReceived(bytes)
        if self._deadline is not None and self.getHandle().get_peer_finished() is not None:
            self._known()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell who listens of a far end that was not let in."""
        self._known()
        if self.talk.peer is None and self.factory.refused is not None:
            host = str(getattr(self.getPeer(), "host", "a local socket"))
            self.factory.refused(host, self.talk.objection or "it showed no certificate, or speaks no TLS")
        super().connectionLost(reason)

    def _known(self) -> None:
        """Take note that the far end is no stranger any more, or gone."""
        self.factory.strangers.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.abortConnection()


class _Factory(TLSMemoryBIOFactory):
    """Puts TLS around a factory's connections; `refused` is told of hosts that were not let in, and why."""

    protocol = TlsTransport

    def __init__(
        self,
        creator: _Creator,
        is_client: bool,
        factory: IProtocolFactory,
        clock: IReactorTime,
        refused: Callable[[str, str], None] | None,
    ) -> None:
        super().__init__(creator, is_client, factory, clock)
        self.clock = clock
        self.dials = is_client
        self.refused = refused
        self.strangers: Strangers[TlsTransport] = Strangers(STRANGERS_MAX)

    def count(self, stranger: TlsTransport, transport: ITransport) -> None:
        """Count a stranger, at the cost of another if there are too many."""
        other = self.strangers.one_too_many()
        if other is not None:
            self.strangers.remove(other)
            other.abortConnection()
        self.strangers.add(stranger, str(getattr(transport.getPeer(), "host", "")))


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Creator:
    """Begins TLS on a connection; the far end must be in one of the roles."""

    def __init__(self, credentials: Credentials, roles: Collection[TlsRole]) -> None:
        self._credentials = credentials
        self._roles = roles

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803 - theirs
        """Return OpenSSL's half of a connection that we dial."""
        return self._connection(tlsProtocol)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803 - theirs
        """Return OpenSSL's half of a connection that we accept."""
        return self._connection(tlsProtocol)

    def _connection(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        talk = _Talk(self._credentials.own.cluster_id, self._roles)
        if isinstance(protocol, TlsTransport):
            protocol.talk = talk
        connection = SSL.Connection(self._credentials.context(), None)
        connection.set_verify(_VERIFY, talk.verify)
        return connection


@implementer(IStreamClientEndpoint)
class _ClientEndpoint:
    def __init__(self, clock: IReactorTime, creator: _Creator, endpoint: IStreamClientEndpoint) -> None:
        self._clock = clock
        self._creator = creator
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - theirs
        """Connect the protocol that the factory makes, in TLS; fires once TCP is connected."""
        wrapped = _Factory(self._creator, True, protocolFactory, self._clock, None)
        connecting: Deferred[Any] = self._endpoint.connect(wrapped)
        return connecting.addCallback(lambda transport: transport.wrappedProtocol)


@implementer(IStreamServerEndpoint)
class _ServerEndpoint:
    def __init__(
        self,
        clock: IReactorTime,
        creator: _Creator,
        endpoint: IStreamServerEndpoint,
        refused: Callable[[str, str], None] | None,
    ) -> None:
        self._clock = clock
        self._creator = creator
        self._endpoint = endpoint
        self._refused = refused

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803 - theirs
        """Accept connections in TLS for the factory's protocols."""
        return self._endpoint.listen(_Factory(self._creator, False, protocolFactory, self._clock, self._refused))


class MutualTls:
    """TLS as the process that `directory` has a certificate for under this role and name.

    The constructor reads the files, so that it raises TlsUnusable where an operator sees it.
    """

    def __init__(self, clock: IReactorTime, directory: Path, role: TlsRole, name: str) -> None:
        self._clock = clock
        self._credentials = Credentials(directory, role, name)

    @property
    def own(self) -> CertifiedName:
        """Whom our own certificate names."""
        return self._credentials.own

    def creator(self, roles: Collection[TlsRole]) -> IOpenSSLClientConnectionCreator:
        """Return what begins TLS towards processes in these roles, for those who make their own endpoints."""
        return _Creator(self._credentials, roles)

    def client(self, endpoint: IStreamClientEndpoint, roles: Collection[TlsRole]) -> IStreamClientEndpoint:
        """Return an endpoint in TLS around another; the far end must be in one of the roles."""
        return _ClientEndpoint(self._clock, _Creator(self._credentials, roles), endpoint)

    def server(
        self,
        endpoint: IStreamServerEndpoint,
        roles: Collection[TlsRole],
        refused: Callable[[str, str], None] | None = None,
    ) -> IStreamServerEndpoint:
        """Return an endpoint in TLS around another; `refused` is called with host and reason of whom it keeps out."""
        return _ServerEndpoint(self._clock, _Creator(self._credentials, roles), endpoint, refused)


def peer_of(transport: object) -> CertifiedName | None:
    """Return whom the far end's certificate names, None on a connection without our TLS."""
    return transport.talk.peer if isinstance(transport, TlsTransport) else None


def explained(transport: object, error: BaseException) -> BaseException:
    """Return why a connection ended, in words, if TLS is why; else `error`."""
    if isinstance(transport, TlsTransport) and transport.talk.objection:
        return TlsRefused(transport.talk.objection)
    if isinstance(error, SSL.Error):
        return TlsRefused(f"TLS failed: {words(error)}")
    return error
