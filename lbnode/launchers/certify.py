"""Certificates of servers that a launcher is about to start."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from lbnode.launchers import LaunchFailed
from raftlog.tls import TlsUnusable
from raftlog.tls.authority import ensure


def certify(directory: Path, name: str) -> None:
    """Have a good certificate for a server in a directory; LaunchFailed if there is none and none can be made."""
    try:
        ensure(directory, "server", name, datetime.now(UTC))
    except (TlsUnusable, OSError) as error:
        raise LaunchFailed(f"{name} gets no certificate: {error}") from error
