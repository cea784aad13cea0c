"""The balancer's data directory: which cluster it belongs to, its secret, and that only one balancer uses it.

lock            held by the running balancer
identity.json   the cluster's id; written once
rebuilt.json    the catalog to begin with, while it is being rebuilt from what the servers know
secret          what servers and balancers of the cluster prove to each other (0600)
catalog/        the catalog's log and state
servers/        one data directory per server, for servers on this machine
workers/        the logs of worker processes
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from dbnode.client.secret import read_secret
from lbnode.catalog import Catalog
from lbnode.durable_file import replace_file


class DirectoryUnusable(Exception):
    """The directory cannot be used; the message says why."""


class _Identity(msgspec.Struct, frozen=True):
    cluster_id: str


class DataDirectory:
    """The directory at `path`; `open` creates and locks it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[bytes] | None = None

    def open(self, *, rebuild: bool = False) -> None:
        """Create what is missing and take the lock.

        Raises DirectoryUnusable if another balancer has it, and if there are servers but no catalog, unless `rebuild`
        says that one may be put together from them: a new one would hand out the ids of their replicas a second time,
        and take their homes for its own.
        """
        try:
            for path in (self.path, self.catalog, self.servers):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "ab")  # noqa: SIM115 - held until close
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryUnusable(f"{self.path} is in use by another balancer") from None
        except OSError as error:
            raise DirectoryUnusable(f"{self.path} cannot be used: {error}") from error
        try:
            self._check(rebuild=rebuild)
        except DirectoryUnusable:
            self.close()
            raise

    def _check(self, *, rebuild: bool) -> None:
        lost = not any(self.catalog.iterdir())
        if rebuild and not lost:
            raise DirectoryUnusable(f"the catalog {self.catalog} is there; --rebuild is for one that is gone")
        if lost and not rebuild and any(self.servers.iterdir()) and not self._rebuilt.exists():
            raise DirectoryUnusable(
                f"{self.servers} holds servers, but their catalog {self.catalog} is gone: bring it back, "
                "or begin once with --rebuild to put it together from what the servers know"
            )

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def catalog(self) -> Path:
        """Where the catalog is."""
        return self.path / "catalog"

    @property
    def servers(self) -> Path:
        """Where the servers' data directories are."""
        return self.path / "servers"

    @property
    def workers(self) -> Path:
        """Where the workers' logs are."""
        return self.path / "workers"

    @property
    def secret_file(self) -> Path:
        """The file with the cluster's secret, once `secret` was asked for."""
        return self.path / "secret"

    @property
    def _rebuilt(self) -> Path:
        return self.path / "rebuilt.json"

    def keep_rebuilt(self, catalog: Catalog, secret: bytes) -> None:
        """Begin with this catalog, which is of a cluster with this secret, however often that is cut short."""
        replace_file(self.secret_file, secret + b"\n", mode=0o600)
        replace_file(self.path / "identity.json", msgspec.json.encode(_Identity(catalog.cluster_id)) + b"\n")
        replace_file(self._rebuilt, msgspec.json.encode(catalog) + b"\n")

    def rebuilt(self) -> Catalog | None:
        """Return the catalog to begin with, None if none was rebuilt or it was begun with already."""
        try:
            return msgspec.json.decode(self._rebuilt.read_bytes(), type=Catalog)
        except FileNotFoundError:
            return None

    def forget_rebuilt(self) -> None:
        """Take note that the rebuilt catalog is in the log."""
        self._rebuilt.unlink(missing_ok=True)

    def cluster_id(self, new: str) -> str:
        """Return the id of the cluster, which is `new` from now on if there was none."""
        path = self.path / "identity.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Identity).cluster_id
        except FileNotFoundError:
            replace_file(path, msgspec.json.encode(_Identity(new)) + b"\n")
            return new
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise DirectoryUnusable(f"{path} is damaged: {error}") from error

    def secret(self, new: str) -> bytes:
        """Return the cluster's secret, which is `new` from now on if there was none."""
        path = self.secret_file
        try:
            secret = read_secret(path)
        except FileNotFoundError:
            replace_file(path, new.encode() + b"\n", mode=0o600)
            return new.encode()
        except ValueError as error:
            raise DirectoryUnusable(f"{error}; the cluster's servers know what belongs there") from None
        os.chmod(path, 0o600)
        return secret
