"""Whom a certificate names: the one URI `shardlb://CLUSTER/ROLE/NAME` among its alternative names (RFC 5280 §4.2.1.6).

Each part is percent-encoded, so that names of any characters stay apart. The authority's own says `shardlb://CLUSTER`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args
from urllib.parse import quote, unquote

from cryptography import x509

#: An operator's certificate opens the HTTP ports of servers (metrics, for instance), never a link.
TlsRole: TypeAlias = Literal["server", "balancer", "operator"]

_SCHEME = "shardlb://"
#: What follows this in a balancer's name tells its connections and lives apart, and is its own business. Names of
#: processes cannot hold it, hence no balancer's name is the beginning of another's in this way.
OWN_BUSINESS = "/"


class TlsUnusable(Exception):
    """A directory of certificates cannot be used; the text says which file, why, and what would be right."""


@dataclass(frozen=True, slots=True)
class CertifiedName:
    """A process of a cluster, as its certificate names it."""

    cluster_id: str
    role: TlsRole
    name: str

    @property
    def uri(self) -> str:
        """The alternative name."""
        return authority_uri(self.cluster_id) + f"/{self.role}/{quote(self.name, safe='')}"

    def covers(self, cluster_id: str, role: str, name: str) -> bool:
        """Return whether a process with this certificate may say that it is so called."""
        if self.role == "balancer":
            name = name.partition(OWN_BUSINESS)[0]
        return (self.cluster_id, self.role, self.name) == (cluster_id, role, name)

    def __str__(self) -> str:
        return f"{self.role} {self.name} of cluster {self.cluster_id}"


def authority_uri(cluster_id: str) -> str:
    """Return the alternative name of a cluster's authority."""
    return _SCHEME + quote(cluster_id, safe="")


def name_of(certificate: x509.Certificate) -> CertifiedName | None:
    """Return whom a certificate names, None if it names nobody of a cluster, or more than one."""
    match [part for uri in _our_uris(certificate) for part in uri.split("/")]:
        case [cluster_id, ("server" | "balancer" | "operator") as role, name]:
            return CertifiedName(unquote(cluster_id), role, unquote(name))
    return None


def cluster_of(authority: x509.Certificate) -> str | None:
    """Return the id of the cluster that an authority's certificate is for, None if it is for none."""
    match _our_uris(authority):
        case [uri] if "/" not in uri:
            return unquote(uri)
    return None


def parse_role(text: str) -> TlsRole:
    """Return a role by its name; raises ValueError."""
    for role in get_args(TlsRole):
        if text == role:
            return role  # type: ignore[no-any-return]  # get_args is untyped
    raise ValueError(f"{text} is no role; there are {', '.join(get_args(TlsRole))}")


def authorities(directory: Path) -> Path:
    """Return where the certificates of the authorities are that are believed."""
    return directory / "ca.pem"


def process_file(directory: Path, role: TlsRole, name: str) -> Path:
    """Return where the key and the certificate of a process are."""
    return directory / f"{role}-{name}.pem"


def _our_uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):  # ValueError: whatever a stranger encoded
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.removeprefix(_SCHEME) for uri in uris if uri.startswith(_SCHEME)]
