"""The control plane over TLS: requests to servers, by a process that has a certificate."""

from __future__ import annotations

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from raftlog.tls import MutualTls, TlsRole

_SERVERS: tuple[TlsRole, ...] = ("server",)


@implementer(IPolicyForHTTPS)
class ServersOnly:
    """For an Agent: whoever answers must be a server of the cluster by its certificate, wherever it listens."""

    def __init__(self, tls: MutualTls) -> None:
        self._tls = tls

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:  # noqa: N802 - theirs
        """Return what begins TLS with a server; certificates name processes and not addresses."""
        return self._tls.creator(_SERVERS)
