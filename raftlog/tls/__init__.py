"""Mutual TLS between the processes of a cluster, by certificates of an authority of its own.

    name       whom a certificate names
    authority  making the authority's and the processes' certificates (`python -m raftlog.tls` is the command)
    channel    the endpoints that speak it

A directory of certificates holds, for a cluster:

    ca.pem             certificates of the authorities that are believed; the system's own are not
    ca.key             the authority's private key (0600); only who makes certificates needs it
    ROLE-NAME.pem      private key and certificate of one process (0600)

Links need no TLS to know each other: the challenge and response over the cluster's secret runs inside it all the same.
What TLS adds is that nobody on the path reads or changes anything, and that a process cannot pass itself off as
another one of the cluster although it knows the secret.
"""

from raftlog.tls.channel import MutualTls, TlsRefused, explained, peer_of
from raftlog.tls.credentials import words
from raftlog.tls.name import CertifiedName, TlsRole, TlsUnusable, name_of

__all__ = [
    "CertifiedName",
    "MutualTls",
    "TlsRefused",
    "TlsRole",
    "TlsUnusable",
    "explained",
    "name_of",
    "peer_of",
    "words",
]
