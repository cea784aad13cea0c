"""What all processes of `twistd shardlb` have in common: how they start, listen, stop, and give up."""

from __future__ import annotations

import gc
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool

from dbnode.client import SessionOptions
from dbnode.errors import ApiError
from dbnode.jsonhttp import JsonSite
from lbnode.acquaintance import Unwelcome
from lbnode.address import url_of
from lbnode.app import BalancerApp
from lbnode.concurrent import in_background
from lbnode.datadir import DirectoryUnusable
from lbnode.launchers import LaunchFailed
from lbnode.options import BalancerOptions
from lbnode.router import RouterOptions
from lbnode.shared_port import SharingReactor
from raftlog.errors import LostData
from raftlog.tls import MutualTls, TlsUnusable
from raftlog.tls.authority import ensure
from raftlog.tls.name import OWN_BUSINESS
from raftlog.wal import WalError

#: What a balancer without a name is called in its certificate and, with its incarnation, on links.
_NAME = "balancer"
#: How long a thread that comes back from the disk waits at most for the reactor's to let go (default 5 ms).
_SWITCH_SECONDS = 0.0005
#: How long requests that are being answered may take when the process stops.
_GOODBYE_SECONDS = 2.0


class CannotStart(Exception):
    """What keeps a process from starting; the text is for the operator."""


#: What keeps a process from starting and is told without a traceback.
_REASONS = (
    CannotStart,
    Unwelcome,
    DirectoryUnusable,
    WalError,
    LostData,
    LaunchFailed,
    TlsUnusable,
    CannotListenError,
    ApiError,
    OSError,
    msgspec.MsgspecError,
)


#: What is wrong with a description that is of no endpoint.
NO_ENDPOINT = (ValueError, OverflowError, OSError, SSL.Error)


class OwnProcess(Service):
    """A process of its own: what keeps it from starting, or from going on, ends it with a message."""

    _log = Logger()

    def __init__(self, reactor: Any, options: BalancerOptions) -> None:
        self._reactor = reactor
        self._options = options
        self._pool = connection_pool(reactor)
        self._background: list[Deferred[None]] = []

    def startService(self) -> None:
        """Open everything and serve."""
        super().startService()
        _raise_open_files_limit()
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._background.append(in_background(self._start_or_die(), "starting"))

    def stopService(self) -> Deferred[None]:
        """Take no more requests and end in good order."""
        super().stopService()
        return Deferred.fromCoroutine(self._end())

    def mutual_tls(self) -> MutualTls | None:
        """Return the TLS of all that goes to servers, None without --tls-dir; raises TlsUnusable."""
        directory: Path | None = self._options["tls-dir"]
        if directory is None:
            return None
        name = self._options["name"] or _NAME
        ensure(directory, "balancer", name, datetime.now(UTC))
        return MutualTls(self._reactor, directory, "balancer", name)

    async def _start(self) -> None:
        """Begin to serve."""
        raise NotImplementedError

    async def _stop(self) -> None:
        """Stop serving; nothing runs in the background any more."""
        raise NotImplementedError

    async def _start_or_die(self) -> None:
        try:
            await self._start()
        except _REASONS as error:
            self._die(f"cannot start: {error}")
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, a process that serves nothing must not stay
            self._failed(Failure())

    async def _end(self) -> None:
        for running in self._background:
            running.cancel()
            await running
        await self._stop()
        await self._pool.closeCachedConnections()
        self._log.info("stopped")

    def _failed(self, failure: Failure) -> None:
        self._log.failure("this process cannot go on", failure)
        self._die(failure.getErrorMessage())

    def _die(self, text: str) -> NoReturn:
        """End the process at once, without another write: what is on disk is what was acknowledged."""
        self._log.critical("{text}", text=text)
        print(f"shardlb: {text}", file=sys.stderr, flush=True)  # noqa: T201 - whoever started us may have no log
        os._exit(1)


class FrontDoor:
    """The port where clients knock, with the site behind it."""

    def __init__(self, reactor: Any, app: BalancerApp, options: BalancerOptions) -> None:
        self._reactor = reactor
        direct = app.direct if options["lane"] == "lean" else None
        self._site = JsonSite(reactor, app.app.resource(), options.limits, direct, app.uploads)
        self._port: IListeningPort | None = None

    async def open(self, description: str, *, shared: bool = False) -> str:
        """Listen at an endpoint, `shared` with other processes, and return its URL.

        Raises CannotStart if it is none, CannotListenError if it is taken.
        """
        reactor = SharingReactor(self._reactor) if shared else self._reactor
        try:
            port: IListeningPort = await serverFromString(reactor, description).listen(self._site)
        except NO_ENDPOINT as error:
            raise CannotStart(f"--port {description} is no endpoint to listen at: {error}") from error
        self._port = port
        return url_of(port, description)

    async def close(self) -> None:
        """Take no more requests, and let those that are being answered end."""
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        self._site.drain()
        deadline_seconds = self._reactor.seconds() + _GOODBYE_SECONDS
        while self._site.channels and self._reactor.seconds() < deadline_seconds:
            await deferLater(self._reactor, 0.02)


def links_name(incarnation: str, name: str | None = None) -> str:
    """Return the name that a process goes by on links; `incarnation` was never used before."""
    return f"{name or _NAME}{OWN_BUSINESS}{incarnation}"


def keep_what_is_there() -> None:
    """Have the collector never walk again through what there is now, for the sake of what requests leave."""
    gc.collect()
    gc.freeze()


def router_options(options: BalancerOptions) -> RouterOptions:
    """Return how requests are to be routed."""
    queue_max = options["queue-max"]
    return RouterOptions(
        deadline_seconds=options["deadline"],
        reads_waiting_max=queue_max,
        slots=options["slots"],
        virtual_servers=options["virtual-servers"],
        session=SessionOptions(queue_operations_max=queue_max),
    )


def connection_pool(reactor: Any, *, persistent: bool = True) -> HTTPConnectionPool:
    """Return a pool of HTTP connections, which keeps them if it is `persistent`."""
    pool = HTTPConnectionPool(reactor, persistent=persistent)
    pool._factory.noisy = False  # or two lines per server are logged whenever one is asked; there is no public way
    return pool


def _raise_open_files_limit() -> None:
    """Allow as many connections as the system does: the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
