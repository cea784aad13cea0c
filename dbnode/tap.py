"""`twistd -n dbnode`: the one place where the parts of a database server meet files, threads and sockets."""

from __future__ import annotations

import gc
import os
import random
import resource
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from dbnode.background import in_background
from dbnode.datadir import DataDirectory, DataDirectoryError, ServerIdentity
from dbnode.jsonhttp import JsonSite
from dbnode.listening import address, descriptions, listen
from dbnode.options import ServerOptions, ServerSettings
from dbnode.patient import PatientStore
from dbnode.server import DatabaseServer
from dbnode.storage import Storage, storage_of
from dbnode.store import StoreError
from dbnode.wire import Endpoint, ServerFile, decode_items, encode_items
from raftlog.link import Identity, Receive
from raftlog.link.links import Links
from raftlog.link.refusals import Refusals
from raftlog.tls import MutualTls, TlsRole, TlsUnusable
from raftlog.turnclock import TurnClock
from raftlog.wal import RecoveredGroup, Wal, WalError, open_wal

T = TypeVar("T")

#: Threads for what stores do besides small reads and commits: long scans, checkpoints, copies.
_STORE_THREADS_MAX = 4
#: Whose certificates open the HTTP port.
_ASKING: tuple[TlsRole, ...] = ("balancer", "operator")
#: How long a thread that comes back from the disk waits at most for the reactor's to let go (default 5 ms).
_SWITCH_SECONDS = 0.0005


class Options(ServerOptions):
    """The options of `twistd dbnode`, with this process's environment."""

    def __init__(self) -> None:
        super().__init__(os.environ)


def makeService(options: ServerOptions) -> IService:
    """Return the service of a database server (twistd's entry point)."""
    from twisted.internet import reactor

    return ServerProcess(reactor, options.settings)


class ServerProcess(Service):
    """A database server as a process of its own.

    What keeps it from starting ends the process with a message; so does, later, an error of the disk: nothing may be
    acknowledged after it, and only a new process may read the log again (RAFT_RULES 13).
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: ServerSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._data = DataDirectory(settings.data_dir)
        self._threads = ThreadPool(0, _STORE_THREADS_MAX, "stores")
        self._wal: Wal | None = None
        self._links: Links | None = None
        self._tls: MutualTls | None = None
        self._storage: Storage | None = None
        self._server: DatabaseServer | None = None
        self._site: JsonSite | None = None
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Open everything and serve."""
        super().startService()
        _raise_open_files_limit()
        sys.setswitchinterval(_SWITCH_SECONDS)
        in_background(Deferred.fromCoroutine(self._start()).addErrback(self._cannot_start), "starting")

    def stopService(self) -> Deferred[None]:
        """Stop taking requests, give leadership away, and end with everything on disk."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        settings, data = self._settings, self._data
        data.open()
        data.check_log()
        clock = TurnClock(self._reactor)
        self._wal, recovered = open_wal(
            data.wal,
            call_from_thread=self._reactor.callFromThread,
            on_fatal=self._disk_failed,
            at_end_of_turn=lambda write: clock.callLater(0, write),
        )
        choice = data.storage(settings.storage)
        identity = data.identify(settings.name, settings.cluster_id, secrets.token_hex(16))
        secret = data.secret(settings.secret_file)
        if identity.cluster_id and secret is None:
            raise DataDirectoryError(f"{data.path} has no secret of cluster {identity.cluster_id}: use --secret-file")
        self._tls = self._mutual_tls(identity)
        storage = await self._start_storage(choice, identity)
        self._server = server = self._put_together(
            clock, identity, self._wal, recovered, secret if identity.cluster_id else None, storage
        )
        await server.start()
        await self._listen(identity, server)
        gc.collect()
        gc.freeze()

    async def _start_storage(self, choice: str, identity: ServerIdentity) -> Storage:
        settings = self._settings
        if settings.storage not in (None, choice):
            self._log.warn("this server is not new: it keeps its storage, and --storage is for servers that are")
        self._threads.start()
        self._storage = storage = storage_of(
            choice, self._reactor, self._data, identity, self._in_thread, settings.postgres_programs
        )
        await storage.start()
        self._log.info("shards are kept in {storage}", storage=storage)
        return storage

    def _mutual_tls(self, identity: ServerIdentity) -> MutualTls | None:
        directory = self._data.tls_dir(self._settings.tls_dir)
        if directory is None:
            return None
        tls = MutualTls(self._reactor, directory, "server", identity.name)
        if identity.cluster_id not in ("", tls.own.cluster_id):
            raise TlsUnusable(f"{directory} is for cluster {tls.own.cluster_id}, this is {identity.cluster_id}")
        return tls

    def _put_together(
        self,
        clock: TurnClock,
        identity: ServerIdentity,
        wal: Wal,
        recovered: dict[int, RecoveredGroup],
        secret: bytes | None,
        storage: Storage,
    ) -> DatabaseServer:
        reactor, settings = self._reactor, self._settings
        rng = random.Random(secrets.randbits(64))

        def links_of(receive: Receive) -> Links:
            own = Identity(identity.cluster_id, "server", identity.name, identity.incarnation)
            assert secret is not None
            self._links = Links(
                reactor, own, secret, encode_items, decode_items, receive, rng=rng, tls=self._tls, clock=clock
            )
            return self._links

        return DatabaseServer(
            clock,
            rng,
            identity,
            wal=wal,
            wal_stats=wal.stats,
            recovered=recovered,
            tombstones=wal.tombstones,
            links_of=links_of if secret is not None else None,
            stores=lambda group_id, replica_id, schema: PatientStore(
                storage.store(group_id, replica_id, schema), reactor
            ),
            config_file=self._data,
            fatal=self._failed,
            client_name=f"{identity.name}-{secrets.token_hex(8)}",
            server_id=settings.server_id or identity.name,
            secret=secret,
            schema=settings.schema,
            deadline_seconds=settings.deadline_seconds,
            in_thread=self._in_thread,
        )

    async def _listen(self, identity: ServerIdentity, server: DatabaseServer) -> None:
        reactor, settings = self._reactor, self._settings
        before = self._data.read_endpoints()
        link: Endpoint | None = None
        if self._links is not None:
            candidates = descriptions(settings.link, before.link if before is not None else None)
            link = address(await listen(reactor, candidates, self._links.listen))
        self._site = site = JsonSite(reactor, server.app.app.resource(), settings.limits)
        candidates = descriptions(settings.http, before.http if before is not None else None)
        self._port = await listen(reactor, candidates, lambda endpoint: self._guarded(endpoint).listen(site))
        http = address(self._port)
        started_at = _started_at()
        self._data.write_endpoints(
            ServerFile(identity.name, identity.incarnation, identity.cluster_id, os.getpid(), started_at, http, link)
        )
        self._log.info("{name} serves HTTP at {http} and links at {link}", name=identity.name, http=http, link=link)

    def _guarded(self, endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
        """Return the endpoint for HTTP, in TLS if there is any: then only for balancers and operators."""
        return endpoint if self._tls is None else self._tls.server(endpoint, _ASKING, Refusals("HTTP").note)

    async def _stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if self._site is not None:
            self._site.drain()
        if self._server is not None:
            await self._server.stop()
        if self._wal is not None:
            self._wal.close()
        if self._server is not None:
            await self._server.close()
        if self._storage is not None:
            await self._storage.stop()
        if self._threads.started:
            self._threads.stop()
        self._data.close()
        self._log.info("stopped")

    # ---- the world's faults -------------------------------------------------------------------------------------

    def _cannot_start(self, failure: Failure) -> None:
        if failure.check(DataDirectoryError, WalError, StoreError, CannotListenError, TlsUnusable):
            self._die(f"cannot start: {failure.getErrorMessage()}")
        self._failed(failure)

    def _disk_failed(self, error: WalError) -> None:
        self._die(f"the write-ahead log failed: {error}")

    def _failed(self, failure: Failure) -> None:
        self._log.failure("this server cannot go on", failure)
        self._die(failure.getErrorMessage())

    def _die(self, text: str) -> NoReturn:
        """End the process at once, without another write: what is on disk is what was acknowledged."""
        self._log.critical("{text}", text=text)
        print(f"dbnode: {text}", file=sys.stderr, flush=True)  # noqa: T201 - whoever started us may have no log
        os._exit(1)

    def _in_thread(self, work: Callable[[], T], /) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._threads, work)


def _raise_open_files_limit() -> None:
    """Allow as many connections as the system does: the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _started_at() -> int:
    """Return this process's start time (field 22 of /proc/self/stat), or 0 where there is no /proc."""
    try:
        stat = Path("/proc/self/stat").read_bytes()
    except FileNotFoundError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[19])
