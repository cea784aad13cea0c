"""A database server put together: groups, replicas, links and the HTTP application, started and stopped in order.

What is particular to a process (files, sockets, threads) comes in from outside, so that several servers can run in one
process, over memory, under a clock of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import execute, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.app import ServerApp
from dbnode.client import Requests
from dbnode.configuring import Configuring
from dbnode.datadir import ServerIdentity
from dbnode.direct import Direct
from dbnode.handover import hand_over
from dbnode.host import ConfigFile, Host
from dbnode.loopback import Loopback
from dbnode.metrics import Metrics
from dbnode.relay import Relay
from dbnode.replypath import ReplyPath
from dbnode.schema import Schema
from dbnode.serving import Serving
from dbnode.store import RunInThread, SnapshotStore
from dbnode.tours import Tours
from dbnode.wire import Reply
from raftlog.link import Lane, PeerLinks, Receive
from raftlog.link.options import LinkCounters
from raftlog.node import Node
from raftlog.options import Times
from raftlog.wal import RecoveredGroup, Stats, WriteAheadLog

#: How long a stopping server tries to give its leaderships away; an election would take about as long.
_HAND_OVER_SECONDS = 1.0


#: As by default. Nobody looks at a follower's rows but its readers, for whom it hurries.
TIMES = Times(gathering_ticks=4)


class ServerLinks(PeerLinks, Protocol):
    """The links of a server, which are also a service."""

    def startService(self) -> None:
        """Dial the peers."""

    def stopService(self) -> Any:
        """Close everything."""


class DatabaseServer:
    """One server.

    `links_of` makes the links, given who receives; None for a server alone, which has no `secret` either. `recovered`
    and `tombstones` are what the log held, `wal_stats` its live counters; `fatal` ends the process. `client_name` is
    unique among all clients there ever were, `server_id` is what /home says, `schema` the default of /config for a
    server alone, `in_thread` where long entries are decoded.
    """

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        identity: ServerIdentity,
        *,
        wal: WriteAheadLog,
        wal_stats: Stats,
        recovered: dict[int, RecoveredGroup],
        tombstones: Iterable[int],
        links_of: Callable[[Receive], ServerLinks] | None,
        stores: Callable[[int, int, Schema], SnapshotStore],
        config_file: ConfigFile,
        fatal: Callable[[Failure], None],
        client_name: str,
        server_id: str,
        secret: bytes | None = None,
        schema: Schema | None = None,
        deadline_seconds: float = 10.0,
        in_thread: RunInThread = execute,
    ) -> None:
        self._clock = clock
        self.links = links_of(self._receive) if links_of is not None else None
        loopback = Loopback(
            clock, identity.name, self.links, self._receive, lambda replies: self.requests.received(replies)
        )
        # Tours come back from any server.
        self.requests = Requests(clock, loopback, first_id=rng.getrandbits(63))
        self.node = Node(clock, wal, recovered, loopback, rng, fatal=fatal, times=TIMES)
        tours = Tours(
            self.node, identity.name, loopback, self.requests, lambda group_id: self.serving.leader_server(group_id)
        )
        self.serving = Serving(self.node, clock, Relay(self.requests, self._is_connected), tours)
        self.host = Host(identity, self.node, self.serving, self.links, stores, config_file, tombstones, in_thread)
        self.direct = Direct(
            clock,
            self.requests,
            rng,
            self.host,
            self.serving,
            client_name=client_name,
            timeout_seconds=deadline_seconds,
        )
        counters: LinkCounters | None = getattr(self.links, "counters", None)
        metrics = Metrics(self.serving, self.node, wal, wal_stats, counters)
        self.app = ServerApp(server_id, Configuring(self.host, secret, schema), self.direct, metrics)

    async def start(self) -> None:
        """Take up what was configured before and take part in its groups."""
        await self.host.open()
        if self.links is not None:
            self.links.watch(_ignore, self.requests.dropped, self.node.server_ended)
            self.links.startService()
        self.node.startService()

    async def stop(self) -> None:
        """Give leadership away if others can have it, then end. The log is closed by who opened it, before `close`."""
        links = self.links
        if links is not None:
            await hand_over(
                self._clock,
                self.node,
                self.serving,
                lambda server: links.connected(server, Lane.DATA),
                _HAND_OVER_SECONDS,
            )
        self.serving.stop()
        self.direct.stop()
        self.requests.stop()
        await maybeDeferred(self.node.stopService)
        if links is not None:
            await maybeDeferred(links.stopService)

    async def close(self) -> None:
        """Close the stores; nothing is applied any more."""
        await self.host.close()

    def _receive(self, path: ReplyPath, items: list[Any]) -> None:
        replies = self.serving.receive(path, items)
        if replies:
            self._replied(replies)

    def _is_connected(self, server: str) -> bool:
        links = self.links
        # Each stands in for the other.
        return links is not None and any(links.connected(server, lane) for lane in (Lane.DATA, Lane.CONTROL))

    def _replied(self, replies: list[Reply]) -> None:
        self.requests.received(replies)


def _ignore(name: str, lane: Lane) -> None:
    """Take no notice of a lane that came up."""
