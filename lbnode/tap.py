"""`twistd -n shardlb`: the one place where the parts of a balancer meet files, threads, sockets and processes."""

from __future__ import annotations

import gc
import os
import random
import resource
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from treq.client import HTTPClient
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from dbnode.client import SessionOptions
from dbnode.client.control import Control
from dbnode.client.tls import ServersOnly
from dbnode.errors import ApiError
from dbnode.jsonhttp import JsonSite, Limits, encode
from dbnode.wire import decode_items, encode_items
from lbnode.balancer import Balancer, BalancerSettings
from lbnode.concurrent import in_background
from lbnode.datadir import DataDirectory, DirectoryUnusable
from lbnode.default_table import default_table
from lbnode.first_steps import first_steps
from lbnode.fleet import FleetTimes
from lbnode.initialise import InitTimes
from lbnode.launchers import Launcher, LaunchFailed
from lbnode.launching import launcher_of
from lbnode.options import BalancerOptions
from lbnode.rebuild import homes_below, rebuild
from lbnode.resizing import ResizeTimes
from lbnode.router import RouterOptions
from lbnode.upkeep import UpkeepTimes
from lbnode.wire import InitLimits, InitRequest, parse_init
from raftlog.errors import LostData
from raftlog.link import Identity, Receive
from raftlog.link.links import Links
from raftlog.tls import MutualTls, TlsUnusable
from raftlog.tls.authority import ensure
from raftlog.tls.name import OWN_BUSINESS
from raftlog.wal import Wal, WalError, open_wal

#: What a balancer is called where it is told from others: in its certificate and, with its incarnation, on links.
_NAME = "balancer"
#: How long a thread that comes back from the disk waits at most for the reactor's to let go (default 5 ms).
_SWITCH_SECONDS = 0.0005
#: How long requests that are being answered may take when the balancer stops.
_GOODBYE_SECONDS = 2.0


class Options(BalancerOptions):
    """The options of `twistd shardlb`, with this process's environment."""

    def __init__(self) -> None:
        super().__init__(os.environ)


def makeService(options: BalancerOptions) -> IService:
    """Return the service of a balancer (twistd's entry point)."""
    from twisted.internet import reactor

    return BalancerProcess(reactor, options)


class BalancerProcess(Service):
    """A balancer as a process of its own.

    What keeps it from starting ends the process with a message; so does, later, an error of the disk (RAFT_RULES 13).
    """

    _log = Logger()

    def __init__(self, reactor: Any, options: BalancerOptions) -> None:
        self._reactor = reactor
        self._options = options
        self._data = DataDirectory(Path(options["data-dir"]))
        self._pool = _connection_pool(reactor)
        self._tls: MutualTls | None = None
        self._wal: Wal | None = None
        self._launcher: Launcher | None = None
        self._balancer: Balancer | None = None
        self._site: JsonSite | None = None
        self._port: IListeningPort | None = None
        self._background: list[Deferred[None]] = []

    def startService(self) -> None:
        """Open everything and serve."""
        super().startService()
        _raise_open_files_limit()
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._background.append(in_background(self._start_or_die(), "starting"))

    def stopService(self) -> Deferred[None]:
        """Take no more requests, stop the servers, and end with everything on disk."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start_or_die(self) -> None:
        try:
            await self._start()
        except (DirectoryUnusable, TlsUnusable, WalError, LostData, LaunchFailed, CannotListenError, ApiError) as error:
            self._die(f"cannot start: {error}")
        except (OSError, msgspec.MsgspecError) as error:
            self._die(f"cannot start with {self._data.path}: {error}")
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, a process that serves nothing must not stay
            self._failed(Failure())

    async def _start(self) -> None:
        options = self._options
        first_table = _first_table(options)
        self._data.open(rebuild=options["rebuild"])
        if options["rebuild"]:
            rebuilt = rebuild(homes_below(self._data.servers))
            self._data.keep_rebuilt(rebuilt.catalog, rebuilt.secret)
            self._log.warn("the catalog was put together from what the servers know")
        self._tls = tls = self._mutual_tls()
        cluster_id = self._data.cluster_id(secrets.token_hex(8) if tls is None else tls.own.cluster_id)
        if tls is not None and tls.own.cluster_id != cluster_id:
            raise TlsUnusable(
                f"{options['tls-dir']} is for cluster {tls.own.cluster_id}, {self._data.path} is of {cluster_id}: "
                f"make other certificates with bin/certificates DIR --cluster-id {cluster_id}"
            )
        secret = self._data.secret(secrets.token_hex(32))
        control = Control(self._reactor, HTTPClient(self._agent()), secret, tls=tls is not None)
        self._launcher = launcher_of(self._reactor, options, self._data.servers, cluster_id, secret, control.heartbeat)
        await self._launcher.open()
        self._balancer = balancer = self._put_together(cluster_id, secret, control, self._launcher)
        await balancer.open(cluster_id)
        self._data.forget_rebuilt()
        limits = Limits(body_bytes_max=options["body-bytes-max"], connections_max=options["connections-max"])
        direct = balancer.app.direct if options["lane"] == "lean" else None
        self._site = JsonSite(self._reactor, balancer.app.app.resource(), limits, direct)
        self._port = await self._listen(options["port"], self._site)
        balancer.start()
        # What is there now stays; the collector need not walk through it for the sake of what requests leave.
        gc.collect()
        gc.freeze()
        host: Any = self._port.getHost()
        url = f"http://{host.host}:{host.port}"
        self._log.info("serving at {url}, data in {data}", url=url, data=self._data.path)
        self._background.append(in_background(self._first_steps(first_table, url), "/init"))

    async def _listen(self, description: str, site: JsonSite) -> IListeningPort:
        try:
            port: IListeningPort = await serverFromString(self._reactor, description).listen(site)
        except (ValueError, OverflowError) as error:
            self._die(f"cannot start: --port {description} is no endpoint to listen at: {error}")
        return port

    def _mutual_tls(self) -> MutualTls | None:
        directory: Path | None = self._options["tls-dir"]
        if directory is None:
            return None
        ensure(directory, "balancer", _NAME, datetime.now(UTC))
        return MutualTls(self._reactor, directory, "balancer", _NAME)

    def _agent(self) -> Agent:
        policy = BrowserLikePolicyForHTTPS() if self._tls is None else ServersOnly(self._tls)
        return Agent(self._reactor, policy, pool=self._pool)

    def _put_together(self, cluster_id: str, secret: bytes, control: Control, launcher: Launcher) -> Balancer:
        reactor, options = self._reactor, self._options
        rng = random.Random(secrets.randbits(64))
        incarnation = secrets.token_hex(8)
        self._wal, recovered = open_wal(
            self._data.catalog / "log", call_from_thread=reactor.callFromThread, on_fatal=self._disk_failed
        )

        def links_of(name: str, receive: Receive) -> Links:
            own = Identity(cluster_id, "balancer", name, incarnation)
            return Links(reactor, own, secret, encode_items, decode_items, receive, rng=rng, tls=self._tls)

        return Balancer(
            reactor,
            rng,
            name=f"{_NAME}{OWN_BUSINESS}{incarnation}",
            state_file=self._data.catalog / "state.json",
            wal=self._wal,
            recovered=recovered,
            links_of=links_of,
            launcher=launcher,
            control=control,
            fatal=self._failed,
            restored=self._data.rebuilt(),
            settings=_settings(options),
        )

    # ---- the first table ----------------------------------------------------------------------------------------

    async def _first_steps(self, first_table: InitRequest | None, url: str) -> None:
        """Make the table that --auto-init asks for, unless there is one; then tell what can be done with it."""
        assert self._balancer is not None
        controller = self._balancer.controller
        while first_table is not None and controller.table is None:
            try:
                await controller.init(first_table)
            except ApiError as error:
                if error.code != "busy":
                    self._log.error("--auto-init failed: {error}", error=error.text)
                    break
                await deferLater(self._reactor, 0.1)
        for line in first_steps(url, controller.table):
            self._log.info("{line}", line=line)

    # ---- stopping -----------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        for running in self._background:
            running.cancel()
            await running
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        if self._site is not None:
            await self._last_answers(self._site)
        if self._balancer is not None:
            await self._balancer.stop()
        if self._launcher is not None:
            await self._launcher.close()
        if self._wal is not None:
            self._wal.close()
        await self._pool.closeCachedConnections()
        self._data.close()
        self._log.info("stopped")

    async def _last_answers(self, site: JsonSite) -> None:
        site.drain()
        deadline_seconds = self._reactor.seconds() + _GOODBYE_SECONDS
        while site.channels and self._reactor.seconds() < deadline_seconds:
            await deferLater(self._reactor, 0.02)

    # ---- the world's faults -------------------------------------------------------------------------------------

    def _disk_failed(self, error: WalError) -> None:
        self._die(f"the catalog's log failed: {error}")

    def _failed(self, failure: Failure) -> None:
        self._log.failure("this balancer cannot go on", failure)
        self._die(failure.getErrorMessage())

    def _die(self, text: str) -> NoReturn:
        """End the process at once, without another write: what is on disk is what was acknowledged."""
        self._log.critical("{text}", text=text)
        print(f"shardlb: {text}", file=sys.stderr, flush=True)  # noqa: T201 - whoever started us may have no log
        os._exit(1)


def _connection_pool(reactor: Any) -> HTTPConnectionPool:
    """Return the process's one pool of HTTP connections, to servers."""
    pool = HTTPConnectionPool(reactor)
    pool._factory.noisy = False  # or two lines per server are logged whenever one is asked; there is no public way
    return pool


def _settings(options: BalancerOptions) -> BalancerSettings:
    queue_max = options["queue-max"]
    return BalancerSettings(
        router=RouterOptions(
            deadline_seconds=options["deadline"],
            reads_waiting_max=queue_max,
            slots=options["slots"],
            virtual_servers=options["virtual-servers"],
            session=SessionOptions(queue_operations_max=queue_max),
        ),
        init=InitTimes(deadline_seconds=options["init-deadline"]),
        resize=ResizeTimes(deadline_seconds=options["resize-deadline"]),
        rows_max=options["rows-max"],
        fleet=FleetTimes(
            heartbeat_seconds=options["heartbeat-deadline"], heartbeats_missed_max=options["heartbeat-misses"]
        ),
        upkeep=UpkeepTimes(
            look_seconds=options["heartbeat-interval"],
            hung_seconds=options["hung-deadline"],
            tries_max=options["respawn-tries"],
        ),
    )


def _first_table(options: BalancerOptions) -> InitRequest | None:
    """Return the table that --auto-init asks for; raises OSError or ApiError if that cannot be."""
    if options["auto-init"] is None:
        return None
    if options["auto-init"] == "default":
        body = encode(default_table(options["server-number"]))
    else:
        body = Path(options["auto-init"]).read_bytes()
    return parse_init({}, body, InitLimits())


def _raise_open_files_limit() -> None:
    """Allow as many connections as the system does: the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
