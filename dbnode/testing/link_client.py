"""A client of servers' links, as a balancer is one: its own connections, requests and reads."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from dbnode.client import ReadChannel, Requests, SessionOptions, ShardSession
from dbnode.testing.networks import Dial
from dbnode.wire import Endpoint, decode_items, encode_items
from raftlog.link import Connection, Identity
from raftlog.link.links import Links


class LinkClient:
    """A client of that name. `dial` is how it dials, None: as everybody does."""

    def __init__(
        self, reactor: Any, rng: random.Random, cluster_id: str, name: str, secret: bytes, dial: Dial | None
    ) -> None:
        self._reactor = reactor
        self._rng = rng
        self.name = name
        self._sessions = 0
        identity = Identity(cluster_id, "balancer", name, f"{rng.getrandbits(64):x}")
        self.links = Links(reactor, identity, secret, encode_items, decode_items, self._receive, rng=rng, dial=dial)
        self.requests = Requests(reactor, self.links)
        self.reads = ReadChannel(reactor, self.requests, rng)

    def start(self, servers: Mapping[str, Endpoint]) -> None:
        """Dial these servers."""
        for name, endpoint in servers.items():
            self.links.set_peer(name, endpoint)
        self.links.watch(lambda name, lane: None, self.requests.dropped)
        self.links.startService()

    async def stop(self) -> None:
        """Give up what waits and close everything; fine if it was never started."""
        if self.links.running:
            self.reads.stop()
            self.requests.stop()
            await self.links.stopService()

    def session(self, group_id: int, servers: Sequence[str], options: SessionOptions | None = None) -> ShardSession:
        """Return a new session, which is a client of its own to the shard."""
        self._sessions += 1
        return ShardSession(
            self._reactor,
            self.requests,
            random.Random(self._rng.getrandbits(64)),
            group_id=group_id,
            client_name=f"{self.name}{self._sessions}-{self._rng.getrandbits(64):x}",
            servers=servers,
            options=options,
        )

    def _receive(self, _: Connection, items: list[Any]) -> None:
        self.requests.received(items)
