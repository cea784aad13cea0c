"""`twistd -n shardlb --follow …`: where a follower meets files and sockets."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

from treq.client import HTTPClient
from twisted.web.client import Agent

from dbnode.client.control import Control
from dbnode.client.secret import read_secret
from dbnode.wire import decode_items, encode_items
from lbnode.follower import Follower, FollowerSettings
from lbnode.following import HttpCatalogSource
from lbnode.process import (
    CannotStart,
    FrontDoor,
    OwnProcess,
    connection_pool,
    keep_what_is_there,
    links_name,
    router_options,
)
from lbnode.standard_input import StandardInput
from raftlog.link import Identity, Receive
from raftlog.link.links import Links
from raftlog.turnclock import TurnClock

#: A balancer's own deadline comes first, and its answer says what has become of the request.
_FORWARD_GRACE_SECONDS = 5.0

#: How long clients are kept away from a follower that has no catalog yet; then they are told so.
_PATIENCE_SECONDS = 2.0


class FollowerProcess(OwnProcess):
    """A follower as a process of its own."""

    _follower: Follower | None = None
    _door: FrontDoor | None = None
    _input: StandardInput | None = None

    async def _start(self) -> None:
        options = self._options
        if options["stop-on-eof"]:
            self._input = StandardInput(self._reactor, self._reactor.stop)
            self._input.watch()
        self._follower = follower = self._put_together(_secret(Path(options["secret-file"])))
        self._door = FrontDoor(self._reactor, follower.app, options)
        follower.start()
        # Whoever shares the port serves all who come until this one can.
        await follower.informed(_PATIENCE_SECONDS)
        url = await self._door.open(options["port"], shared=options["share-port"])
        keep_what_is_there()
        self._log.info("serving at {url}", url=url)

    async def _stop(self) -> None:
        if self._input is not None:
            self._input.forget()
        if self._door is not None:
            await self._door.close()
        if self._follower is not None:
            await self._follower.stop()

    def _put_together(self, secret: bytes) -> Follower:
        reactor, options = self._reactor, self._options
        clock = TurnClock(reactor)
        rng = random.Random(secrets.randbits(64))
        incarnation = secrets.token_hex(8)
        name = links_name(f"follower-{incarnation}", options["name"])
        tls = self.mutual_tls()

        def links_of(cluster_id: str, receive: Receive) -> Links:
            own = Identity(cluster_id, "balancer", name, incarnation)
            return Links(reactor, own, secret, encode_items, decode_items, receive, rng=rng, tls=tls, clock=clock)

        return Follower(
            clock,
            rng,
            name=name,
            balancers=options["follow"],
            source=HttpCatalogSource(Control(reactor, HTTPClient(Agent(reactor, pool=self._pool)), secret)),
            http=HTTPClient(Agent(reactor, pool=connection_pool(reactor, persistent=False))),
            links_of=links_of,
            settings=FollowerSettings(
                router=router_options(options),
                rows_max=options["rows-max"],
                forward_seconds=max(options["init-deadline"], options["resize-deadline"]) + _FORWARD_GRACE_SECONDS,
            ),
        )


def _secret(path: Path) -> bytes:
    try:
        return read_secret(path)
    except OSError as error:
        raise CannotStart(f"--secret-file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CannotStart(f"--secret-file {error}; a copy of the balancer's DATA/secret belongs there") from error
