"""Several balancers in memory: the real ones, with real servers, over links, logs and HTTP in memory, by one clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from twisted.web.http_headers import Headers

from dbnode.jsonhttp import JsonSite, Limits
from dbnode.wire import Endpoint, ServerFile
from lbnode.acquaintance import Roster
from lbnode.balancer import Balancer, BalancerSettings
from lbnode.catalog_group import CATALOG_GROUP_ID
from lbnode.concurrent import in_background
from lbnode.council import Company
from lbnode.initialise import InitTimes
from lbnode.launchers import ServerSpec
from lbnode.launchers.memory import HomeLinks, MemoryLauncher
from lbnode.peers import Peers
from lbnode.presence import decode_peer_items, encode_peer_items
from lbnode.resizing import ResizeTimes
from lbnode.router import RouterOptions
from lbnode.test.balancers import Disk, Fuse, FusedControl, FusedLauncher, pass_time, run
from lbnode.test.door import Call, MemoryDoor, Reply
from raftlog.link import Identity, Receive
from raftlog.link.identity import GROUP_LANES
from raftlog.link.memory import MemoryLinks, MemoryNetwork

CLUSTER_ID = "c1"
NAMES = ("lb1", "lb2", "lb3")
ADDRESSES = {name: Endpoint(name, 1) for name in NAMES}


class Home:
    """A balancer's data directory."""

    def __init__(self, directory: Path, incarnation: str) -> None:
        self.incarnation = incarnation
        self.disk = Disk(directory)
        self.roster: Roster | None = None

    @property
    def replica_id(self) -> int | None:
        """The replica of the catalog that is here, None if it is not known."""
        name = self.incarnation.partition(".")[0]
        return self.roster.members[name].replica_id if self.roster is not None else None

    def read_roster(self) -> Roster | None:
        """Return what was kept last."""
        return self.roster

    def keep_roster(self, roster: Roster) -> None:
        """Keep a roster."""
        self.roster = roster


class SeenLauncher(FusedLauncher):
    """A launcher in the hands of a balancer that may die; `acted` hears of what it does, when it is done."""

    def __init__(self, launcher: MemoryLauncher, fuse: Fuse, acted: Callable[[str, str], None]) -> None:
        super().__init__(launcher, fuse)
        self._acted = acted

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """See Launcher.start."""
        self._acted("start", spec.home)
        return super().start(spec)

    def stop(self, home: str) -> Deferred[None]:
        """See Launcher.stop."""
        self._acted("stop", home)
        return super().stop(home)

    def destroy(self, home: str) -> Deferred[None]:
        """See Launcher.destroy."""
        self._acted("destroy", home)
        return super().destroy(home)


class Member:
    """One balancer as a process: what it is made of, and what it said when it refused to go on."""

    def __init__(self, world: CompanyWorld, name: str, home: Home, fuse: Fuse, *, wants_back: bool) -> None:
        self.name = name
        self.home = home
        self.fuse = fuse
        self.dead = False
        self.unwelcome: list[str] = []
        self._links: list[MemoryLinks] = []
        self.stopped: list[Deferred[None]] = []
        self._world = world
        incarnation = f"{name}-{world.number()}"

        def links_of(name: str, receive: Receive) -> HomeLinks:
            own = Identity(CLUSTER_ID, "balancer", name, incarnation)
            self._links.append(MemoryLinks(world.launcher.network, own, receive))
            return HomeLinks(self._links[-1], world.launcher.home_at)

        def peer_links_of(receive: Receive) -> MemoryLinks:
            own = Identity(CLUSTER_ID, "balancer", self.name, home.incarnation)
            self._links.append(
                MemoryLinks(
                    world.network, own, receive, encode=encode_peer_items, decode=decode_peer_items, eager=GROUP_LANES
                )
            )
            return self._links[-1]

        self.balancer = Balancer(
            world.clock,
            random.Random(world.number()),
            name=f"balancer/{incarnation}",
            state_file=home.disk.path,
            wal=home.disk.wal,
            recovered=home.disk.recovered,
            links_of=links_of,
            launcher=SeenLauncher(world.launcher, fuse, lambda what, on: world.acts.append((self.name, what, on))),
            control=FusedControl(world.launcher, fuse),
            secret=b"secret",
            fatal=world.fatal.append,
            company=Company(
                peers=Peers(name, ADDRESSES),
                incarnation=home.incarnation,
                wants_back=wants_back,
                roster_file=home,
                links_of=peer_links_of,
                url=lambda: f"http://{name}:5000",
                http=world,  # type: ignore[arg-type]  # the one method of a treq client that is used
                forward_seconds=100.0,
                may_found=lambda: None,
                unwelcome=self.unwelcome.append,
            ),
            settings=BalancerSettings(
                RouterOptions(), InitTimes(deadline_seconds=60), ResizeTimes(deadline_seconds=60), rows_max=1000
            ),
        )
        self.site = JsonSite(world.clock, self.balancer.app.app.resource(), Limits(), self.balancer.app.direct)
        self._opening = in_background(self.balancer.open(CLUSTER_ID), "opening")

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        """Return the answer to a request, letting time go by."""
        return self.begin(method, path, body).reply()

    def begin(self, method: str, path: str, body: Any = None) -> Call:
        """Make a request."""
        content = b"" if body is None else msgspec.json.encode(body)
        return MemoryDoor(self._world.clock, self.site).begin(method, path, content)

    @property
    def voters(self) -> tuple[int, ...]:
        """The voters of the catalog's group, as applied here; none while they change."""
        conf_state = self.balancer._node.status(CATALOG_GROUP_ID).conf_state
        return () if conf_state.voters_outgoing else conf_state.voters

    @property
    def status(self) -> dict[str, Any]:
        """What /status says."""
        told: dict[str, Any] = self.ask("GET", "/status").json
        return told

    @property
    def is_controller(self) -> bool:
        """Whether it holds the office, as far as it knows."""
        council = self.balancer.council
        return not self.dead and council is not None and council.office.held_here

    def kill(self) -> None:
        """End it as kill -9 does: nothing that it awaits ever happens."""
        self.dead = True
        self.fuse.left = 0
        self._opening.cancel()
        self.balancer._node.stopService()
        for links in self._links:
            # Those of an /init under way are closed when its coroutine is collected.
            if links.running and not links.identity.name.endswith(" init"):
                self.stopped.append(links.stopService())
        self.home.disk.crash()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        run(self._world.clock, self.balancer.stop())
        self.dead = True
        self.home.disk.crash()


class CompanyWorld:
    """Three balancers, and the servers that outlive them. Also the treq client by which they reach each other."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.fatal: list[Failure] = []
        self.launcher = MemoryLauncher(self.clock, random.Random(1), self.fatal.append)
        self.network = MemoryNetwork(self.clock)
        #: Who did what with which home, in order.
        self.acts: list[tuple[str, str, str]] = []
        self.members: dict[str, Member] = {}
        self._directory = directory
        self._number = 0

    def number(self) -> int:
        """Return a number that was never returned before."""
        self._number += 1
        return self._number

    def start(self, name: str, *, wiped: bool = False, wants_back: bool = False, fuse: Fuse | None = None) -> Member:
        """Start a balancer, on the directory that it had unless that is `wiped`."""
        before = self.members.get(name)
        if before is None or wiped:
            number = self.number()
            home = Home(self._directory / f"{name}-{number}", f"{name}.{number}")
        else:
            home = before.home
        member = self.members[name] = Member(self, name, home, fuse or Fuse(), wants_back=wants_back)
        return member

    def start_all(self) -> Member:
        """Start three balancers and return the controller."""
        for name in NAMES:
            self.start(name)
        return self.until_controller()

    def until(self, condition: Callable[[], bool], seconds_max: float = 60.0) -> None:
        """Let time go by until something is so."""
        pass_time(self.clock, until=condition, seconds_max=seconds_max)
        assert condition(), "it did not come to be"

    @property
    def controllers(self) -> list[Member]:
        """Those that hold the office, as far as they know."""
        return [member for member in self.members.values() if member.is_controller]

    def until_controller(self) -> Member:
        """Let time go by until there is a controller that all who live know."""

        def known() -> bool:
            living = [member for member in self.members.values() if not member.dead and not member.unwelcome]
            offices = {member.balancer.council.office.holder for member in living if member.balancer.council}
            return len(self.controllers) == 1 and offices == {self.controllers[0].name}

        self.until(known)
        return self.controllers[0]

    def others(self, than: Member) -> list[Member]:
        """Return the balancers that live besides one."""
        return [member for member in self.members.values() if member is not than and not member.dead]

    def cut_off(self, name: str) -> None:
        """Let nothing through between one balancer and the others."""
        for other in set(NAMES) - {name}:
            self.network.cut(name, other)

    def heal(self, name: str) -> None:
        """Undo it."""
        for other in set(NAMES) - {name}:
            self.network.heal(name, other)

    async def request(
        self, method: str, url: str, *, headers: Headers, data: bytes | None, unbuffered: bool
    ) -> _Response:
        """Make a request as a treq client does."""
        parts = urlsplit(url)
        member = self.members[str(parts.hostname)]
        if member.dead:
            raise ConnectionRefusedError
        given = {name.decode(): values[-1].decode() for name, values in headers.getAllRawHeaders()}
        call = MemoryDoor(self.clock, member.site).begin(method, parts.path, data or b"", given)
        while not call.answered:
            if member.dead:
                raise ResponseNeverReceived([Failure(ConnectionLost())])
            await deferLater(self.clock, 0.01)
        return _Response(call.reply())


class _Response:
    """What is asked of a treq response."""

    def __init__(self, reply: Reply) -> None:
        self.code = reply.status
        self.headers = Headers({name: [value] for name, value in reply.headers.items()})
        self._body = reply.body

    async def content(self) -> bytes:
        return self._body
