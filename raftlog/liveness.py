"""Which of the servers that share a group with this one are alive, by one heartbeat for all groups.

Messages of the replicas, and tours for reads, say the same, so that who is sent one is greeted less often: among ten
servers it is ninety frames in the time of a heartbeat otherwise. Not so rarely, though, that anybody would be taken for
silent if the rest got lost, or waited behind appends; and only a greeting says which process of a server is alive.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.messages import Alive


class Liveness:
    """What was heard of the other servers, in ticks. `own` is this server's name, "" until it is known.

    At most `spared_max` greetings in a row are spared for other messages.
    """

    def __init__(self, boot: int, silence_ticks: int, spared_max: int) -> None:
        self.own = ""
        self._boot = boot
        self._spared_max = spared_max
        self._silence_ticks = silence_ticks
        self._ticks = 0
        #: When each server that shares a group with this one was heard last, and the process it had then.
        self._heard: dict[str, int] = {}
        self._boots: dict[str, int] = {}
        self._silent: set[str] = set()
        self._full: set[str] = set()
        #: Who was sent something since the last greetings were due, and how many greetings were spared each since its
        #: last one.
        self._sent: set[str] = set()
        self._spared: dict[str, int] = {}
        self._own_full = False

    def set_neighbours(self, own: str, servers: Iterable[str]) -> None:
        """Replace the servers that share a group with this one."""
        self.own = own
        neighbours = set(servers) - {own}
        self._heard = {server: self._heard.get(server, self._ticks) for server in sorted(neighbours)}
        self._boots = {server: boot for server, boot in self._boots.items() if server in neighbours}
        self._silent &= neighbours
        self._full &= neighbours
        self._spared = {server: spared for server, spared in self._spared.items() if server in neighbours}

    def sent(self, server: str) -> None:
        """Take note that a server was sent something."""
        self._sent.add(server)

    def to_greet(self, full: bool) -> list[str]:
        """Return who has to be told that we live, or that our disk is full now or is not any more."""
        if full != self._own_full:
            self._own_full = full
            self._spared.clear()
        due = []
        for server in self._heard:
            spared = self._spared.get(server, self._spared_max)
            if server in self._sent and spared < self._spared_max:
                self._spared[server] = spared + 1
            else:
                due.append(server)
        self._sent.clear()
        return due

    def greeting(self) -> Alive:
        """Return what they are told."""
        return Alive(self.own, self._boot, self._own_full)

    def greeted(self, server: str) -> None:
        """Take note that a greeting is on its way."""
        self._spared[server] = 0

    def may_lead(self, server: str) -> bool:
        """Return whether a server is heard and its disk is not full."""
        return server in self._heard and server not in self._silent and server not in self._full

    def is_silent(self, server: str) -> bool:
        """Return whether a server was not heard for the time of an election."""
        return server in self._silent

    def heard_of(self, server: str) -> None:
        """Take a message that a server sent itself for a sign of its life."""
        if server in self._heard:
            self._heard[server] = self._ticks
            self._silent.discard(server)

    def heard(self, item: Alive) -> bool:
        """Take a server's greeting; say whether that is another process than before."""
        if item.server not in self._heard:
            return False
        self.heard_of(item.server)
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
