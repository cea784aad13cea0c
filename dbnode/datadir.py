"""A server's data directory: who it is, what it was told, where it listens, and that only one process uses it.

    lock            held by the running process
    identity.json   name, incarnation and cluster; written once
    storage         what its shards are kept in (0600: a DSN may hold a password)
    secret          the cluster's secret, for a managed server (0600)
    tls-dir         the path of the directory with its certificate, for a server that speaks TLS
    config.json     the last configuration: schema, groups, directory of servers
    endpoints.json  dbnode.wire.ServerFile, written when the server listens
    wal/            the write-ahead log of all groups
    shards/         one file per group, with SQLite
    postgres/       a PostgreSQL of the server's own, see dbnode.postgres.private

Files are replaced as a whole: after a crash there is the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from dbnode.client.secret import read_secret
from dbnode.client.storage import SQLITE, is_dsn
from dbnode.sqlite_file import sync_directory
from dbnode.wire import ManagedConfig, ServerFile

S = TypeVar("S", bound=msgspec.Struct)

#: In the place of a directory of certificates: no TLS.
OFF = "off"


class DataDirectoryError(Exception):
    """The directory cannot be used; the message says why and what would be right."""


class ServerIdentity(msgspec.Struct, frozen=True):
    """Who a server is as long as its data directory lives; an empty `cluster_id` means a server alone."""

    name: str
    incarnation: str
    cluster_id: str


class StoredConfig(msgspec.Struct, frozen=True):
    """What a server was last told, by a balancer or, for a server alone, by POST /config."""

    schema: dict[str, list[str]]
    cluster: ManagedConfig


class DataDirectory:
    """The directory at `path`; `open` creates and locks it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Create what is missing and take the lock; DataDirectoryError if another process has it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.shards.mkdir(exist_ok=True)
        self.wal.mkdir(exist_ok=True)
        self._lock = open(self.path / "lock", "ab")  # noqa: SIM115 - held until close
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryError(f"{self.path} is in use by another process") from None

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def wal(self) -> Path:
        """Where the write-ahead log is."""
        return self.path / "wal"

    @property
    def shards(self) -> Path:
        """Where the stores are."""
        return self.path / "shards"

    def check_log(self) -> None:
        """Refuse a directory whose server had a log that is gone; to be called before a new log is begun.

        A server's identity is written after its log was begun (see `identify`), so that one without the other means
        loss: replicas that began anew under their old ids could vote twice in a term (RAFT_RULES 10).
        """
        if (self.path / "identity.json").exists() and not any(self.wal.iterdir()):
            raise DataDirectoryError(
                f"the log of the server in {self.path} is gone: bring {self.wal} back, or remove the whole directory, "
                "and its replicas are replaced under new ids"
            )

    def identify(self, name: str | None, cluster_id: str | None, new_incarnation: str) -> ServerIdentity:
        """Return the server's identity, written now if it is new; options that contradict it are refused.

        The log must have been begun before.
        """
        known = self._read("identity.json", ServerIdentity)
        if known is None:
            if not name:
                raise DataDirectoryError(f"{self.path} has no server yet: give it a name with --name")
            known = ServerIdentity(name, new_incarnation, cluster_id or "")
            self._write("identity.json", known)
        if name is not None and name != known.name:
            raise DataDirectoryError(f"{self.path} belongs to server {known.name}, not {name}")
        if cluster_id is not None and cluster_id != known.cluster_id:
            raise DataDirectoryError(f"{self.path} belongs to cluster {known.cluster_id or '(none)'}, not {cluster_id}")
        return known

    def storage(self, given: str | None) -> str:
        """Return what the server's shards are kept in, which is chosen once; to be called before `identify`.

        A server that is not new keeps its storage whatever is `given`, but a DSN is replaced by a given one: the same
        database may have moved, or have another password.
        """
        file = self.path / "storage"
        try:
            kept = file.read_text().strip() or SQLITE
        except FileNotFoundError:
            kept = SQLITE
        chosen = kept
        is_new = not (self.path / "identity.json").exists()
        if given is not None and (is_new or (is_dsn(given) and is_dsn(kept))):
            chosen = given
        if chosen != kept or not file.exists():
            replace_file(file, chosen.encode() + b"\n", mode=0o600)
        return chosen

    def secret(self, given: Path | None) -> bytes | None:
        """Return the cluster's secret, kept here from now on if a file with it is given; None if there is none."""
        kept = self.path / "secret"
        try:
            secret = read_secret(given or kept)
        except FileNotFoundError:
            if given is None:
                return None
            raise DataDirectoryError(f"{given}: no such secret file") from None
        except (OSError, ValueError) as error:
            raise DataDirectoryError(str(error)) from None
        if given is not None:
            replace_file(kept, secret + b"\n", mode=0o600)
        return secret

    def tls_dir(self, told: str | None) -> Path | None:
        """Return where the certificates are, None for no TLS: as it is told, from now on, else as before.

        A server that is started on its directory alone must not fall back to talking in the clear.
        """
        kept = self.path / "tls-dir"
        if told == OFF:
            kept.unlink(missing_ok=True)
            return None
        if told is not None:
            replace_file(kept, told.encode() + b"\n")
            return Path(told)
        try:
            return Path(kept.read_text().removesuffix("\n"))
        except FileNotFoundError:
            return None

    def read_config(self) -> StoredConfig | None:
        """Return the last configuration, None if there never was one."""
        return self._read("config.json", StoredConfig)

    def write_config(self, config: StoredConfig) -> None:
        """Keep a configuration durably."""
        self._write("config.json", config)

    def read_endpoints(self) -> ServerFile | None:
        """Return where the server listened the last time, None if it never did."""
        return self._read("endpoints.json", ServerFile)

    def write_endpoints(self, endpoints: ServerFile) -> None:
        """Say where the server listens now."""
        self._write("endpoints.json", endpoints)

    def _read(self, name: str, kind: type[S]) -> S | None:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise DataDirectoryError(f"{path} is damaged: {error}") from error

    def _write(self, name: str, value: msgspec.Struct) -> None:
        replace_file(self.path / name, msgspec.json.format(msgspec.json.encode(value)) + b"\n")


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a file with this content in the place of `path`, durably and in one step."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(new, path)
    sync_directory(path.parent)
