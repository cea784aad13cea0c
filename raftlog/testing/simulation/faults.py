"""What goes wrong, when: drawn from the seed, event by event, and all undone at the end."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import TypeAlias

from raftlog.testing.simulation.network import Weather
from raftlog.testing.simulation.server import DISK_BYTES, DISK_SECONDS, SimulatedServer
from raftlog.testing.simulation.world import World

#: Mean seconds between two faults.
MEAN_SECONDS = 0.18
#: Mean seconds until a server that is restarted at once is back.
RESTART_SECONDS = 0.2
#: How often a fault is the leader's.
LEADER_SHARE = 0.4

#: Something that may happen, and how often, compared with the others.
Fault: TypeAlias = tuple[int, Callable[[], None]]


class Faults:
    """Makes faults until `heal`. `more` are further things that may happen, such as changes of membership.

    Many of them seek out the leader, because that is where they hurt.
    """

    def __init__(
        self, world: World, rng: random.Random, servers: dict[str, SimulatedServer], more: list[Fault]
    ) -> None:
        self._world = world
        self._rng = rng
        self._servers = servers
        self._stopped = False
        faults: list[Fault] = [
            (4, self._crash),
            (3, self._crash_in_write),
            (1, self._crash_all),
            (8, self._restart),
            (3, self._pause),
            (5, self._resume),
            (2, self._false_alarm),
            (3, self._cut_pair),
            (3, self._isolate),
            (1, self._split),
            (7, self._heal_network),
            (4, self._change_weather),
            (2, self._slow_disk),
            (1, self._fail_sync),
            (1, self._fill_disk),
            (2, self._empty_disk),
            *more,
        ]
        self._weights = [weight for weight, _ in faults]
        self._faults = [fault for _, fault in faults]

    def start(self) -> None:
        """Begin."""
        self._world.clock.callLater(self._rng.expovariate(1 / MEAN_SECONDS), self._next)

    def _next(self) -> None:
        if self._stopped:
            return
        fault = self._rng.choices(self._faults, self._weights)[0]
        fault()
        self.start()

    def _any(self) -> SimulatedServer:
        servers = list(self._servers.values())
        if self._rng.random() < LEADER_SHARE:
            leaders = [server for server in servers if server.leads]
            if leaders:
                return self._rng.choice(leaders)
        return self._rng.choice(servers)

    def _note(self, what: str, text: str) -> None:
        self._world.happened[what] += 1
        self._world.tell(text)

    # ---- processes --------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        server = self._any()
        server.crash(power_off=self._rng.random() < 0.6)
        if self._rng.random() < 0.5:
            self._announce_end(server)
        self._start_soon(server)

    def _start_soon(self, server: SimulatedServer) -> None:
        """Let a server come back within a moment, as under a supervisor, or leave it to chance."""
        if self._rng.random() < 0.6:
            self._world.clock.callLater(self._rng.expovariate(1 / RESTART_SECONDS), self._start, server)

    def _start(self, server: SimulatedServer) -> None:
        if not server.is_up:
            server.start()

    def _crash_in_write(self) -> None:
        self._any().crash_in_write()

    def _crash_all(self) -> None:
        for server in self._servers.values():
            server.crash(power_off=True)
            self._start_soon(server)

    def _restart(self) -> None:
        down = [server for server in self._servers.values() if not server.is_up]
        if down:
            self._rng.choice(down).start()

    def _pause(self) -> None:
        self._any().pause()

    def _resume(self) -> None:
        paused = [server for server in self._servers.values() if server.paused]
        if paused:
            self._rng.choice(paused).resume()

    def _announce_end(self, ended: SimulatedServer) -> None:
        """Let most of the others hear that a server's process has ended: whoever dials it is refused."""
        for server in self._servers.values():
            if server is not ended and self._rng.random() < 0.8:
                server.hear_of_end(ended.name)

    def _false_alarm(self) -> None:
        server = self._any()
        self._note("server: said to have ended", f"{server.name} is said to have ended")
        self._announce_end(server)

    # ---- network ----------------------------------------------------------------------------------------------

    def _cut_pair(self) -> None:
        one, other = self._rng.sample(sorted(self._servers), 2)
        one_way = self._rng.random() < 0.5
        what = "network: cut one way" if one_way else "network: cut"
        self._note(what, f"network: {one} {'->' if one_way else '<->'} {other} is cut")
        self._world.network.cut(one, other, one_way=one_way)

    def _isolate(self) -> None:
        one = self._any().name
        self._note("network: server isolated", f"network: {one} is isolated")
        for other in self._servers:
            if other != one:
                self._world.network.cut(one, other, one_way=False)

    def _split(self) -> None:
        names = self._rng.sample(sorted(self._servers), len(self._servers))
        size = self._rng.randint(1, len(names) - 1)
        self._note("network: split", f"network: split into {' '.join(names[:size])} and {' '.join(names[size:])}")
        for one in names[:size]:
            for other in names[size:]:
                self._world.network.cut(one, other, one_way=False)

    def _heal_network(self) -> None:
        self._world.tell("network: heals")
        self._world.network.heal()

    def _change_weather(self) -> None:
        rng = self._rng
        slow = rng.choice([0.002, 0.02, 0.2])
        weather = Weather(rng.choice([0.0, 0.05, 0.2]), rng.choice([0.0, 0.1, 0.5]), 0.0005, slow)
        self._note("network: bad weather", f"network: {weather}")
        self._world.network.weather = weather

    # ---- disks ------------------------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        server = self._any()
        server.disk_seconds = (0.0001, self._rng.choice([0.002, 0.05, 0.8]))
        self._note("disk: slow", f"{server.name}: the disk takes up to {server.disk_seconds[1]} s")

    def _fail_sync(self) -> None:
        server = self._any()
        self._world.tell(f"{server.name}: the disk fails the next write")
        server.disk.fail_next("write", errno.EIO)

    def _fill_disk(self) -> None:
        server = self._any()
        self._note("disk: filled", f"{server.name}: the disk is full")
        server.disk.capacity_bytes = 0

    def _empty_disk(self) -> None:
        for server in self._servers.values():
            server.disk.capacity_bytes = DISK_BYTES

    # ---- the end ----------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Stop making faults and undo all that can be undone."""
        self._stopped = True
        self._world.tell("everything heals")
        self._world.network.heal()
        self._empty_disk()
        for server in self._servers.values():
            server.disk_seconds = DISK_SECONDS
            server.disk.power_off_at = None
            server.resume()
