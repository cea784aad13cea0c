"""The balancer's data directory: which cluster it belongs to, its secret, and that only one balancer uses it.

lock            held by the running balancer
identity.json   the cluster's id; written once
secret          what servers and balancers of the cluster prove to each other (0600)
catalog/        the catalog's log and state
servers/        one data directory per server, for servers on this machine
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

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

    def open(self) -> None:
        """Create what is missing and take the lock.

        Raises DirectoryUnusable if another balancer has it, and if there are servers but no catalog: a new one would
        hand out the ids of their replicas a second time, and take their homes for its own.
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
        if any(self.servers.iterdir()) and not any(self.catalog.iterdir()):
            self.close()
            raise DirectoryUnusable(
                f"{self.servers} holds servers, but their catalog {self.catalog} is gone: bring it back"
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
        path = self.path / "secret"
        try:
            secret = path.read_bytes().strip()
        except FileNotFoundError:
            replace_file(path, new.encode() + b"\n", mode=0o600)
            return new.encode()
        if not secret:
            raise DirectoryUnusable(f"{path} is empty; its servers know the secret that belongs there")
        os.chmod(path, 0o600)
        return secret
