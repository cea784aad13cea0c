"""`twistd -n shardlb`: the one place where the parts of a balancer meet files, threads, sockets and processes."""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path
from typing import Any, NoReturn

from treq.client import HTTPClient
from twisted.application.service import IService
from twisted.internet.task import deferLater
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS

from dbnode.client.control import Control
from dbnode.client.tls import ServersOnly
from dbnode.errors import ApiError
from dbnode.jsonhttp import encode
from dbnode.wire import decode_items, encode_items
from lbnode.balancer import Balancer, BalancerSettings
from lbnode.company import PeerProcess, cluster_id_of
from lbnode.concurrent import in_background
from lbnode.datadir import DataDirectory
from lbnode.default_table import default_table
from lbnode.feed import CatalogFeed
from lbnode.first_steps import first_steps
from lbnode.fleet import FleetTimes
from lbnode.follower_process import FollowerProcess
from lbnode.initialise import InitTimes
from lbnode.launchers import Launcher
from lbnode.launching import known_homes, launcher_of, others_environment
from lbnode.options import BalancerOptions
from lbnode.process import (
    NO_ENDPOINT,
    CannotStart,
    FrontDoor,
    OwnProcess,
    connection_pool,
    keep_what_is_there,
    links_name,
    router_options,
)
from lbnode.rebuild import rebuild
from lbnode.resizing import ResizeTimes
from lbnode.roles import SERVING
from lbnode.shared_port import until_free
from lbnode.upkeep import UpkeepTimes
from lbnode.wire import InitLimits, InitRequest, parse_init
from lbnode.workers import Workers, WorkerTimes
from raftlog.link import Identity, Receive
from raftlog.link.links import Links
from raftlog.tls import MutualTls, TlsUnusable
from raftlog.turnclock import TurnClock
from raftlog.wal import Wal, WalError, open_wal

#: Where the balancer itself listens when workers serve its clients.
_PRIVATE = "tcp:0:interface=127.0.0.1"


class Options(BalancerOptions):
    """The options of `twistd shardlb`, with this process's environment."""

    def __init__(self) -> None:
        super().__init__(os.environ)


def makeService(options: BalancerOptions) -> IService:
    """Return the service of a balancer, or of a follower of one (twistd's entry point)."""
    from twisted.internet import reactor

    return BalancerProcess(reactor, options) if options["follow"] is None else FollowerProcess(reactor, options)


class BalancerProcess(OwnProcess):
    """A balancer as a process of its own.

    What keeps it from starting ends the process with a message; so does, later, an error of the disk (RAFT_RULES 13).
    """

    def __init__(self, reactor: Any, options: BalancerOptions) -> None:
        super().__init__(reactor, options)
        is_peer = options["peers"] is not None
        self._data = DataDirectory(Path(options["data-dir"]), options["servers-dir"], shared=is_peer)
        self._peer = PeerProcess(reactor, options, self._data, self._unwelcome) if is_peer else None
        self._incarnation = ""
        self._tls: MutualTls | None = None
        self._wal: Wal | None = None
        self._launcher: Launcher | None = None
        self._balancer: Balancer | None = None
        self._door: FrontDoor | None = None
        self._workers: Workers | None = None

    async def _start(self) -> None:
        options = self._options
        first_table = _first_table(options)
        self._data.open(rebuild=options["rebuild"])
        if options["rebuild"]:
            rebuilt = rebuild(known_homes(options, self._data.servers))
            self._data.keep_rebuilt(rebuilt.catalog, rebuilt.secret)
            self._log.warn("the catalog was put together from what the servers know")
        self._tls = tls = self.mutual_tls()
        cluster_id, secret = self._identify(tls)
        if tls is not None and tls.own.cluster_id != cluster_id:
            raise TlsUnusable(
                f"{options['tls-dir']} is for cluster {tls.own.cluster_id}, {self._data.path} is of {cluster_id}: "
                f"make other certificates with bin/certificates DIR --cluster-id {cluster_id}"
            )
        control = Control(self._reactor, HTTPClient(self._agent()), secret, tls=tls is not None)
        self._launcher = launcher_of(self._reactor, options, self._data.servers, cluster_id, secret, control.heartbeat)
        await self._launcher.open()
        self._balancer = balancer = self._put_together(cluster_id, secret, control, self._launcher)
        self._door = FrontDoor(self._reactor, balancer.app, options)
        if self._peer is not None:
            # Where clients connect is what the others are told first.
            url = await self._serve(self._door, balancer.feed)
            await self._peer.listen(url)
            await balancer.open(cluster_id)
        else:
            await balancer.open(cluster_id)
            url = await self._serve(self._door, balancer.feed)
        self._data.forget_rebuilt()
        balancer.start()
        keep_what_is_there()
        self._log.info("serving at {url}, data in {data}", url=url, data=self._data.path)
        self._background.append(in_background(self._first_steps(first_table, url), "/init"))

    def _identify(self, tls: MutualTls | None) -> tuple[str, bytes]:
        """Return the id and the secret of the cluster, which begin here or are shared with other balancers."""
        if self._peer is None:
            cluster_id = self._data.cluster_id(secrets.token_hex(8) if tls is None else tls.own.cluster_id)
            return cluster_id, self._data.secret(secrets.token_hex(32))
        secret = self._data.take_secret(self._options["secret-file"])
        new_id = cluster_id_of(secret) if tls is None else tls.own.cluster_id
        cluster_id, self._incarnation = self._data.identify(new_id, secrets.token_hex(8))
        return cluster_id, secret

    def _unwelcome(self, text: str) -> NoReturn:
        self._die(f"cannot take part: {text}")

    async def _serve(self, door: FrontDoor, feed: CatalogFeed) -> str:
        """Listen where clients connect, or have workers listen there and serve only these; return the URL."""
        options = self._options
        if not options["workers"]:
            return await door.open(options["port"])
        try:
            url = await until_free(self._reactor, options["port"])
        except NO_ENDPOINT as error:
            raise CannotStart(f"--port {options['port']} with --workers: {error}") from error
        private_url = await door.open(_PRIVATE)
        self._log.info("workers follow {url}", url=private_url)
        arguments = ["--follow", private_url, "--secret-file", str(self._data.secret_file), "--port", options["port"]]
        arguments += ["--share-port", "--stop-on-eof"]
        for name in SERVING:
            if options[name] is not None:
                arguments += [f"--{name}", str(options[name])]
        self._workers = Workers(
            self._reactor,
            self._reactor,
            self._data.workers,
            options["workers"],
            arguments,
            others_environment(os.environ),
            feed.seen_seconds,
            WorkerTimes(),
        )
        self._workers.startService()
        return url

    def _agent(self) -> Agent:
        policy = BrowserLikePolicyForHTTPS() if self._tls is None else ServersOnly(self._tls)
        return Agent(self._reactor, policy, pool=self._pool)

    def _put_together(self, cluster_id: str, secret: bytes, control: Control, launcher: Launcher) -> Balancer:
        reactor, options = self._reactor, self._options
        clock = TurnClock(reactor)
        rng = random.Random(secrets.randbits(64))
        incarnation = secrets.token_hex(8)
        self._wal, recovered = open_wal(
            self._data.catalog / "log", call_from_thread=reactor.callFromThread, on_fatal=self._disk_failed
        )

        def links_of(name: str, receive: Receive) -> Links:
            own = Identity(cluster_id, "balancer", name, incarnation)
            return Links(reactor, own, secret, encode_items, decode_items, receive, rng=rng, tls=self._tls, clock=clock)

        return Balancer(
            clock,
            rng,
            name=links_name(incarnation, options["name"]),
            state_file=self._data.catalog / "state.json",
            wal=self._wal,
            recovered=recovered,
            links_of=links_of,
            launcher=launcher,
            control=control,
            secret=secret,
            fatal=self._failed,
            restored=self._data.rebuilt(),
            company=None
            if self._peer is None
            else self._peer.company(
                cluster_id, self._incarnation, secret, rng, self._tls, connection_pool(reactor, persistent=False)
            ),
            settings=_settings(options),
        )

    # ---- the first table ----------------------------------------------------------------------------------------

    async def _first_steps(self, first_table: InitRequest | None, url: str) -> None:
        """Make the table that --auto-init asks for, unless there is one; then tell what can be done with it."""
        assert self._balancer is not None
        controller = self._balancer.controller
        while first_table is not None and controller.table is None:
            try:
                await self._balancer.init(first_table)
            except ApiError as error:
                if error.code not in ("busy", "no_controller", "outcome_unknown"):
                    self._log.error("--auto-init failed: {error}", error=error.text)
                    break
                await deferLater(self._reactor, 0.1)
        for line in first_steps(url, controller.table):
            self._log.info("{line}", line=line)

    # ---- stopping -----------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        if self._workers is not None:
            await self._workers.stopService()
        if self._balancer is not None:
            self._balancer.release_followers()
        if self._door is not None:
            await self._door.close()
        if self._balancer is not None:
            await self._balancer.stop()
        if self._launcher is not None:
            await self._launcher.close()
        if self._wal is not None:
            self._wal.close()
        self._data.close()

    # ---- the world's faults -------------------------------------------------------------------------------------

    def _disk_failed(self, error: WalError) -> None:
        self._die(f"the catalog's log failed: {error}")


def _settings(options: BalancerOptions) -> BalancerSettings:
    return BalancerSettings(
        router=router_options(options),
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
