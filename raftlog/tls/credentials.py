"""The files of one process, as OpenSSL wants them: its key, its certificate, and the authorities that it believes.

TLS 1.3 only: both ends are ours. Files that change are read again for the next connection, so that certificates are
renewed without a restart; those that cannot be used leave the former in force.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from twisted.logger import Logger

from raftlog.tls.authority import is_due, read_certificate
from raftlog.tls.name import CertifiedName, TlsRole, TlsUnusable, authorities, name_of, process_file

#: Rights by which others may read a private key.
_OTHERS = 0o077


class Credentials:
    """What `directory` has for this role and name; raises TlsUnusable if it is not there or not good."""

    _log = Logger()

    def __init__(self, directory: Path, role: TlsRole, name: str) -> None:
        self._authority = authorities(directory)
        self._file = process_file(directory, role, name)
        self._stamps = self._now_stamps()
        #: The certificate in use, until it was said that it nears its end.
        self._unwarned: x509.Certificate | None = None
        self.own = self._name(role, name)
        self._context = self._load()

    def context(self) -> SSL.Context:
        """Return what connections begin with now."""
        stamps = self._now_stamps()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._name(self.own.role, self.own.name)
                self._context = self._load()
            except TlsUnusable as error:
                self._log.warn("the certificate in use stays: {error}", error=error)
            else:
                self._log.info("read {file} again", file=str(self._file))
        self._warn_when_due()
        return self._context

    def _now_stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in (self._authority, self._file)]

    def _name(self, role: TlsRole, name: str) -> CertifiedName:
        own = name_of(read_certificate(self._file))
        if own is None or (own.role, own.name) != (role, name):
            raise TlsUnusable(f"the certificate in {self._file} is of {own or 'nobody'}; it must be of {role} {name}")
        return own

    def _load(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        for path, load in (
            (self._authority, partial(context.load_verify_locations, str(self._authority))),
            (self._file, partial(context.use_certificate_file, str(self._file))),
            (self._file, partial(context.use_privatekey_file, str(self._file))),
            (self._file, context.check_privatekey),
        ):
            try:
                load()
            except SSL.Error as error:
                raise TlsUnusable(f"{path} cannot be used for TLS: {words(error)}") from error
        if self._file.stat().st_mode & _OTHERS:
            self._log.warn("{file} holds a private key and others may use it: chmod 600 it", file=str(self._file))
        self._unwarned = read_certificate(self._file)
        self._warn_when_due()
        return context

    def _warn_when_due(self) -> None:
        certificate = self._unwarned
        if certificate is not None and is_due(certificate, datetime.now(UTC)):
            self._unwarned = None
            until = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
            self._log.warn("{file} expires at {until} UTC: renew it", file=str(self._file), until=until)


def words(error: SSL.Error) -> str:
    """Return what OpenSSL says, without the parts that only its makers need."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in entries if entry) or "the connection ended within the handshake"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
