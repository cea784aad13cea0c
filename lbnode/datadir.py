"""The balancer's data directory: which cluster it belongs to, its secret, and that only one balancer uses it.

lock            held by the running balancer
identity.json   the cluster's id, and of a balancer among others the incarnation of this directory; written once
roster.json     the balancers of the cluster, if there are several
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
from lbnode.acquaintance import Roster
from lbnode.catalog import Catalog
from lbnode.durable_file import replace_file


class DirectoryUnusable(Exception):
    """The directory cannot be used; the message says why."""


class _Identity(msgspec.Struct, frozen=True):
    cluster_id: str
    #: "" in the directory of a balancer alone.
    incarnation: str = ""


class DataDirectory:
    """The directory at `path`; `open` creates and locks it.

    `servers` is where the servers' data directories are, by default in it; `shared` if other balancers use that too.
    """

    def __init__(self, path: Path, servers: Path | None = None, *, shared: bool = False) -> None:
        self.path = path.absolute()
        self.servers = (servers or self.path / "servers").absolute()
        self._shared = shared
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
        self._check_kind()
        lost = not any(self.catalog.iterdir())
        if rebuild and not lost:
            raise DirectoryUnusable(f"the catalog {self.catalog} is there; --rebuild is for one that is gone")
        if lost and not rebuild and not self._shared:
            self.check_no_servers()

    def _check_kind(self) -> None:
        """Refuse the directory of a balancer alone to one of several, and the other way round."""
        if self._shared and self._identity_path.exists() and not self._identity().incarnation:
            raise DirectoryUnusable(
                f"{self.path} is of a balancer alone, which cannot become one of several: leave out --peers, or move "
                f"its {self.catalog.name} and identity.json away and begin all of them with --rebuild"
            )
        if not self._shared and self._roster.exists():
            raise DirectoryUnusable(f"{self.path} is of one of several balancers: --peers must name them")

    def check_no_servers(self) -> None:
        """Raise DirectoryUnusable if there are servers, whose replica ids a new catalog would hand out again."""
        if any(self.servers.iterdir()) and not self._rebuilt.exists():
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
        known = self._identity() if self._identity_path.exists() else _Identity("")
        identity = msgspec.structs.replace(known, cluster_id=catalog.cluster_id)
        replace_file(self._identity_path, msgspec.json.encode(identity) + b"\n")
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

    @property
    def _identity_path(self) -> Path:
        return self.path / "identity.json"

    def _identity(self) -> _Identity:
        try:
            return msgspec.json.decode(self._identity_path.read_bytes(), type=_Identity)
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise DirectoryUnusable(f"{self._identity_path} is damaged: {error}") from error

    def cluster_id(self, new: str) -> str:
        """Return the id of the cluster, which is `new` from now on if there was none."""
        try:
            return self._identity().cluster_id
        except FileNotFoundError:
            replace_file(self._identity_path, msgspec.json.encode(_Identity(new)) + b"\n")
            return new

    # ---- one of several balancers -------------------------------------------------------------------------------

    def identify(self, new_cluster_id: str, new_incarnation: str) -> tuple[str, str]:
        """Return the cluster's id and this directory's incarnation, which are the new ones if there were none."""
        known = self._identity() if self._identity_path.exists() else _Identity(new_cluster_id)
        if not known.incarnation:
            known = msgspec.structs.replace(known, incarnation=new_incarnation)
            replace_file(self._identity_path, msgspec.json.encode(known) + b"\n")
        return known.cluster_id, known.incarnation

    @property
    def _roster(self) -> Path:
        return self.path / "roster.json"

    def read_roster(self) -> Roster | None:
        """Return the balancers as they were known last; raises DirectoryUnusable if that is damaged."""
        try:
            return msgspec.json.decode(self._roster.read_bytes(), type=Roster)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise DirectoryUnusable(f"{self._roster} is damaged: {error}") from error

    def keep_roster(self, roster: Roster) -> None:
        """Keep what is known of the balancers."""
        replace_file(self._roster, msgspec.json.encode(roster) + b"\n")

    def take_secret(self, given: Path | None) -> bytes:
        """Return the secret that all balancers share, from the file given or kept; raises DirectoryUnusable."""
        if given is None:
            if not self.secret_file.exists():
                raise DirectoryUnusable("--peers needs --secret-file, a file with the secret that all of them share")
            return self.secret("")
        try:
            secret = read_secret(given)
        except OSError as error:
            raise DirectoryUnusable(f"--secret-file {given} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise DirectoryUnusable(f"--secret-file {error}") from None
        if self.secret(secret.decode("utf-8", "replace")) != secret:
            raise DirectoryUnusable(f"{given} is another secret than the cluster's, which is in {self.secret_file}")
        return secret

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
