"""What the options say of a balancer's company, joined to files and sockets (part of the tap)."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.endpoints import serverFromString
from twisted.web.client import Agent, HTTPConnectionPool

from lbnode.acquaintance import Unwelcome
from lbnode.council import Company
from lbnode.datadir import DataDirectory, DirectoryUnusable
from lbnode.options import BalancerOptions
from lbnode.peers import Peers
from lbnode.presence import decode_peer_items, encode_peer_items
from lbnode.process import CannotStart
from raftlog.link import Identity, Receive
from raftlog.link.identity import GROUP_LANES
from raftlog.link.links import Links
from raftlog.tls import MutualTls

#: What the controller's own deadlines leave for the way there and back.
_FORWARD_GRACE_SECONDS = 5.0


def cluster_id_of(secret: bytes) -> str:
    """Return the id of the cluster whose balancers share a secret: all of them must name it before they ever met."""
    return blake2b(b"the cluster of these balancers", key=secret[:64], digest_size=8).hexdigest()


class PeerProcess:
    """One of several balancers as a process: its links to the others, and where clients reach it."""

    def __init__(
        self, reactor: Any, options: BalancerOptions, data: DataDirectory, unwelcome: Callable[[str], NoReturn]
    ) -> None:
        self._reactor = reactor
        self._options = options
        self._data = data
        self._unwelcome = unwelcome
        self._peers = Peers(options["name"], options["peers"])
        self._links: Links | None = None
        self._url: str = options["advertise"] or ""

    def company(
        self,
        cluster_id: str,
        incarnation: str,
        secret: bytes,
        rng: random.Random,
        tls: MutualTls | None,
        pool: HTTPConnectionPool,
    ) -> Company:
        """Return what the balancer is given; `pool` keeps no connections."""
        reactor, options = self._reactor, self._options

        def links_of(receive: Receive) -> Links:
            own = Identity(cluster_id, "balancer", self._peers.own, incarnation)
            self._links = Links(
                reactor, own, secret, encode_peer_items, decode_peer_items, receive, rng=rng, eager=GROUP_LANES, tls=tls
            )
            return self._links

        return Company(
            peers=self._peers,
            incarnation=incarnation,
            wants_back=bool(options["rejoin"]),
            roster_file=self._data,
            links_of=links_of,
            url=lambda: self._url,
            http=HTTPClient(Agent(reactor, pool=pool)),
            forward_seconds=max(options["init-deadline"], options["resize-deadline"]) + _FORWARD_GRACE_SECONDS,
            may_found=self._may_found,
            unwelcome=self._unwelcome,
        )

    async def listen(self, url: str) -> None:
        """Take the links of the other balancers; clients connect at `url`. Raises CannotStart, CannotListenError."""
        own = self._peers.addresses[self._peers.own]
        if not self._url:
            here = urlsplit(url)
            if not here.port:
                raise CannotStart(f"--advertise must say at which URL other balancers reach --port {url}")
            self._url = f"{here.scheme}://{_in_url(own.host)}:{here.port}"
        description = self._options["link"] or f"tcp:{own.port}{_interface(own.host)}"
        assert self._links is not None
        try:
            await self._links.listen(serverFromString(self._reactor, description))
        except (ValueError, OverflowError) as error:
            raise CannotStart(f"--link {description} is no endpoint to listen at: {error}") from error

    def _may_found(self) -> None:
        try:
            self._data.check_no_servers()
        except DirectoryUnusable as unusable:
            raise Unwelcome(str(unusable)) from unusable


def _interface(host: str) -> str:
    """Return where to listen if others come to this address: there alone if it is a number, else everywhere."""
    try:
        ip_address(host)
    except ValueError:
        return ""
    return ":interface=" + host.replace(":", r"\:")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
