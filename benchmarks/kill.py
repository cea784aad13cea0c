"""The murder in the middle of the writes: whom to kill, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

LEADER, FOLLOWER = "leader", "follower"


class NoSuchServerError(Exception):
    """The caller's mistake: nobody of that name or kind."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A server to be killed, and the shards it led when it was chosen."""

    server: str
    led: tuple[str, ...]


def choose(whom: str, leaders: Mapping[str, str], servers: Iterable[str]) -> Victim:
    """Return the server that `whom` means: the one leading most shards, one leading fewest, or the one of that name.

    `leaders` names each shard's leader. Raises NoSuchServerError.
    """
    led = Counter(leaders.values())
    names = sorted(servers)
    if whom == LEADER:
        server = max(names, key=led.__getitem__)
    elif whom == FOLLOWER:
        server = min(names, key=led.__getitem__)
    elif whom in names:
        server = whom
    else:
        raise NoSuchServerError(f"there is no server {whom}: it is leader, follower or one of {', '.join(names)}")
    return Victim(server, tuple(sorted(shard for shard, leader in leaders.items() if leader == server)))


class Ambush:
    """Kills its victim once, when half of the requests that it watches are over; `struck` tells whether it did."""

    def __init__(self, victim: Victim, requests: int, kill: Callable[[str], None]) -> None:
        self.victim = victim
        self.struck = False
        self._requests = requests
        self._kill = kill

    def watch(self, over: int) -> None:
        """Take the number of requests that are over."""
        if not self.struck and self._requests // 2 <= over < self._requests:
            self._kill(self.victim.server)
            self.struck = True
