"""The certificates of a cluster: one authority, and one certificate per process, made without anybody's help.

Keys are of the curve P-256: small, fast, and known to every TLS library. A certificate is made anew, key and all, once
less than a third of its time is left; processes take it up at their next connection (see `channel`).
"""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftlog.tls.name import (
    OWN_BUSINESS,
    CertifiedName,
    TlsRole,
    TlsUnusable,
    authorities,
    authority_uri,
    cluster_of,
    name_of,
    parse_role,
    process_file,
)

AUTHORITY_DAYS = 3650
PROCESS_DAYS = 365
#: Clocks of machines differ: a certificate is good from a little before it was made.
_SKEW = timedelta(hours=1)
#: Longest common name (RFC 5280, ub-common-name). It is for people; programs read the alternative names.
_COMMON_NAME_CHARACTERS_MAX = 64
_HERE = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]


def make_authority(directory: Path, cluster_id: str, now: datetime) -> None:
    """Make the authority of a cluster, in a directory that has none; raises TlsUnusable if it has one."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (authorities(directory)).exists():
        raise TlsUnusable(f"{directory} has an authority already")
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name(f"shardlb {cluster_id}")
    certificate = (
        _builder(name, name, key, now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(authority_uri(cluster_id))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    # The key first: with a certificate that has none, nothing could be made here any more.
    _replace(directory / "ca.key", _private_bytes(key), 0o600)
    _replace(authorities(directory), certificate.public_bytes(Encoding.PEM), 0o644)


def has_authority(directory: Path) -> bool:
    """Return whether certificates can be made here."""
    return (directory / "ca.key").exists()


def cluster_id_of(directory: Path) -> str:
    """Return the id of the cluster that the certificates in a directory are for; raises TlsUnusable."""
    cluster_id = cluster_of(read_certificate(authorities(directory)))
    if cluster_id is None:
        raise TlsUnusable(f"{directory / 'ca.pem'} is no authority's certificate for a cluster")
    return cluster_id


def issue(directory: Path, role: TlsRole, name: str, now: datetime, days: int = PROCESS_DAYS) -> Path:
    """Make key and certificate of a process; return where they are. Raises TlsUnusable."""
    if not name.strip() or OWN_BUSINESS in name or not name.isprintable():
        raise TlsUnusable(f"{name!r} is no name of a {role}; it must be printable, not blank, and without '/'")
    authority = read_certificate(authorities(directory))
    authority_key = _load_key(directory / "ca.key")
    subject = CertifiedName(cluster_id_of(directory), role, name)
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + timedelta(days=days), authority.not_valid_after_utc)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(_common_name(f"{role} {name}"), authority.subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(subject)), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    path = process_file(directory, role, name)
    _replace(path, _private_bytes(key) + certificate.public_bytes(Encoding.PEM), 0o600)
    return path


def ensure(directory: Path, role: TlsRole, name: str, now: datetime, days: int = PROCESS_DAYS) -> bool:
    """Make a process's certificate if there is none, or one that should be renewed; return whether it was made.

    Raises TlsUnusable if one is needed and cannot be made here.
    """
    path = process_file(directory, role, name)
    if path.exists() and (not has_authority(directory) or not is_due(read_certificate(path), now)):
        return False
    if not has_authority(directory):
        raise TlsUnusable(
            f"{path} is not there, nor is the authority's key to make it: "
            f"where that key is kept, run bin/certificates DIR {role}:{name}, and bring the file here"
        )
    issue(directory, role, name, now, days)
    return True


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether less than a third of a certificate's time is left."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now > end - (end - start) / 3


def processes_in(directory: Path) -> list[tuple[TlsRole, str, x509.Certificate]]:
    """Return the processes that have a certificate in a directory; raises TlsUnusable if one cannot be read."""
    found: list[tuple[TlsRole, str, x509.Certificate]] = []
    for path in sorted(directory.glob("*-*.pem")):
        certificate = read_certificate(path)
        name = name_of(certificate)
        if name is not None and path == process_file(directory, name.role, name.name):
            found.append((name.role, name.name, certificate))
    return found


def parse_process(text: str) -> tuple[TlsRole, str]:
    """Return role and name of ROLE:NAME, or of NAME for a server; raises ValueError."""
    role, colon, name = text.partition(":")
    return (parse_role(role), name) if colon else ("server", text)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key is for: signing certificates, or signing handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(subject: CertifiedName) -> list[x509.GeneralName]:
    """Return the URI that counts here, and what lets an operator's tools connect to this machine by its address."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri), x509.DNSName("localhost"), *_HERE]
    if subject.name.isascii() and subject.name.replace("-", "").replace(".", "").isalnum():
        names.append(x509.DNSName(subject.name))
    return names


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_COMMON_NAME_CHARACTERS_MAX])])


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsUnusable(f"{path} cannot be read ({error.strerror}); bin/certificates makes it") from None


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate in a file; raises TlsUnusable."""
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise TlsUnusable(f"{path} holds no certificate: {error}") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise TlsUnusable(f"{path} holds no private key without a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TlsUnusable(f"{path} holds a key of another kind than ours, an elliptic curve's")
    return key


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Put a file with this content in the place of `path` in one step."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
