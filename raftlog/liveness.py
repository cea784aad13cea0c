"""Which of the servers that share a group with this one are alive, by one heartbeat for all groups."""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.messages import Alive


class Liveness:
    """What was heard of the other servers, in ticks. `own` is this server's name, "" until it is known."""

    def __init__(self, boot: int, silence_ticks: int) -> None:
        self.own = ""
        self._boot = boot
        self._silence_ticks = silence_ticks
        self._ticks = 0
        #: When each server that shares a group with this one was heard last, and the process it had then.
        self._heard: dict[str, int] = {}
        self._boots: dict[str, int] = {}
        self._silent: set[str] = set()
        self._full: set[str] = set()

    def set_neighbours(self, own: str, servers: Iterable[str]) -> None:
        """Replace the servers that share a group with this one."""
        self.own = own
        neighbours = set(servers) - {own}
        self._heard = {server: self._heard.get(server, self._ticks) for server in sorted(neighbours)}
        self._silent &= neighbours
        self._full &= neighbours

    @property
    def neighbours(self) -> list[str]:
        """The servers that are told of our life."""
        return list(self._heard)

    def greeting(self, full: bool) -> Alive:
        """Return what the neighbours are told."""
        return Alive(self.own, self._boot, full)

    def may_lead(self, server: str) -> bool:
        """Return whether a server is heard and its disk is not full."""
        return server in self._heard and server not in self._silent and server not in self._full

    def is_silent(self, server: str) -> bool:
        """Return whether a server was not heard for the time of an election."""
        return server in self._silent

    def heard(self, item: Alive) -> bool:
        """Take a server's heartbeat; say whether that is another process than before."""
        if item.server not in self._heard:
            return False
        self._heard[item.server] = self._ticks
        self._silent.discard(item.server)
        if item.full:
            self._full.add(item.server)
        else:
            self._full.discard(item.server)
        before = self._boots.get(item.server, item.boot)
        self._boots[item.server] = item.boot
        return before != item.boot

    def tick(self) -> list[str]:
        """Let one tick pass; return the servers that fell silent with it."""
        self._ticks += 1
        fallen = [
            server
            for server, heard in self._heard.items()
            if self._ticks - heard > self._silence_ticks and server not in self._silent
        ]
        self._silent.update(fallen)
        return fallen
