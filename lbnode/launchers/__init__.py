"""Launchers: what makes database servers run, stops them, and takes them away with their data.

A launcher knows nothing of shards. It starts a server on a home (a data directory, a volume), tells which servers it
finds running, and is safe to ask twice: to start what runs is to find it, to stop what is stopped is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred

from dbnode.wire import ServerFile


class ServerSpec(msgspec.Struct, frozen=True):
    """A server to be started: its name, the home that holds its data, its cluster.

    `incarnation` is that of the data which the home must hold; "" lets an empty home be filled.
    """

    name: str
    home: str
    cluster_id: str
    incarnation: str = ""


class LaunchTimes(msgspec.Struct, frozen=True):
    """How long a server may take until it answers, and until it has stopped by itself."""

    start_seconds: float = 30.0
    stop_seconds: float = 10.0


class LaunchFailed(Exception):
    """A server could not be started or stopped; the text says why and shows the end of its log."""


class LostHome(LaunchFailed):
    """The home does not hold the data that it should: a server started on it would vote as somebody it is not."""


class ServerStorage(msgspec.Struct, frozen=True):
    """What servers are told of where to keep their shards; those that are not new go on as they were made.

    `told` is what the operator said, None for the servers' own default: it may hold a password, so servers get it in
    a file of their own. `programs` is the folder of PostgreSQL's programs on this machine, "" to look for them.
    """

    told: str | None = None
    programs: str = ""


#: The name of that file in a server's data directory.
STORAGE_FILE = "told-storage"


class Launcher(Protocol):
    """Starts and stops servers. Homes are unique names; every method may be repeated, between `open` and `close`."""

    def open(self) -> Deferred[None]:
        """Find what is needed to start servers. Fails with LaunchFailed if that is not there; nothing is left then."""

    def close(self) -> Deferred[None]:
        """Let go of it, and watch no more; servers that run stay."""

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """Make a server run, or find it running; fires once it answers a heartbeat.

        Fails with LaunchFailed within a deadline, with LostHome before anything is started.
        """

    def look(self, home: str) -> Deferred[ServerFile | None]:
        """Return what the server on a home says of itself if it runs, whoever started it; None if it does not."""

    def stop(self, home: str) -> Deferred[None]:
        """Stop the server on a home, by force if it takes too long; its data stays. Fails with LaunchFailed."""

    def on_exit(self, ended: Callable[[str], None]) -> None:
        """Have `ended` hear of the home of each server that ended, whether started or only looked at here."""

    def destroy(self, home: str) -> Deferred[None]:
        """Stop the server on a home and remove its data. Fails with LaunchFailed."""
