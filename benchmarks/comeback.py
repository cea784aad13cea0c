"""A server that is killed and comes back: when its shards have leaders again, when it runs, when it has caught up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from benchmarks.door import Door, UnexpectedAnswerError, UnreachableError
from benchmarks.kill import Victim

_POLL_SECONDS = 0.02


class NotBackError(Exception):
    """The server that was killed did not come back in time."""


@dataclass(frozen=True, slots=True)
class Comeback:
    """Seconds from the kill until all shards had leaders, the server ran again, and its replicas had caught up."""

    server: str
    led: tuple[str, ...]
    leaders_seconds: float
    running_seconds: float
    caught_up_seconds: float


async def watch_comeback(
    reactor: IReactorTime, door: Door, victim: Victim, kill: Callable[[str], Awaitable[None]], deadline_seconds: float
) -> Comeback:
    """Kill a server and watch until it is as before. Raises NotBackError at the deadline."""
    pid_before = (await door.json("GET", "/status"))["server_states"][victim.server]["pid"]
    await kill(victim.server)
    started = reactor.seconds()
    seconds: dict[str, float] = {}
    while len(seconds) < 3:
        if reactor.seconds() - started > deadline_seconds:
            raise NotBackError(f"{victim.server} is not back after {deadline_seconds:g} s; seen: {seconds}")
        await deferLater(reactor, _POLL_SECONDS)
        try:
            status = await door.json("GET", "/status")
        except (UnreachableError, UnexpectedAnswerError):
            continue
        for what, reached in _reached(status, victim.server, pid_before).items():
            if reached and what not in seconds:
                seconds[what] = reactor.seconds() - started
    return Comeback(victim.server, victim.led, seconds["leaders"], seconds["running"], seconds["caught_up"])


def _reached(status: dict[str, Any], server: str, pid_before: int) -> dict[str, bool]:
    """Return what a status says of each of the three."""
    state = status["server_states"][server]
    runs = state["state"] == "up" and state["pid"] not in (None, pid_before)
    replicas = [one for shard in status["shards"] for one in shard["replicas"] if one["server"] == server]
    primaries = [shard["primary"] for shard in status["shards"]]
    return {
        "leaders": None not in primaries and (runs or server not in primaries),
        "running": runs,
        "caught_up": runs and all(one["state"] == "serving" and one["lag"] == 0 for one in replicas),
    }
