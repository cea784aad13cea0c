"""What a server's data directory tells whoever looks into it from outside, while the server runs or not."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dbnode.datadir import ServerIdentity, StoredConfig
from dbnode.wire import ManagedConfig


class HomeDamaged(Exception):
    """A file in a data directory cannot be read; the text names it."""


class Home(msgspec.Struct, frozen=True):
    """Who lives there, what it was last told by its balancer, and its cluster's secret."""

    name: str
    incarnation: str
    cluster_id: str
    cluster: ManagedConfig
    secret: bytes


def read_home(directory: Path) -> Home | None:
    """Return what a data directory tells, None if no server lives there or it was never told anything.

    Raises HomeDamaged.
    """
    try:
        identity = msgspec.json.decode((directory / "identity.json").read_bytes(), type=ServerIdentity)
        config = msgspec.json.decode((directory / "config.json").read_bytes(), type=StoredConfig)
        secret = (directory / "secret").read_bytes().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise HomeDamaged(f"{directory} is damaged: {error}") from error
    return Home(identity.name, identity.incarnation, identity.cluster_id, config.cluster, secret)
