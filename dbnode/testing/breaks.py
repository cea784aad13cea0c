"""Ways in which the network between three servers breaks, each with a client that lives beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Longer than several elections, and than links need to notice that they are dead.
BROKEN_SECONDS = 4.0

#: The share that is lost of what goes from one place to another, by (source, destination).
Shares = Mapping[tuple[str, str], float]


def beside(server: str) -> str:
    """Return the name of the client that lives beside a server."""
    return f"beside {server}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Who is what when a break begins."""

    leader: str
    followers: tuple[str, ...]

    @property
    def servers(self) -> tuple[str, ...]:
        """All servers."""
        return (self.leader, *self.followers)

    def side(self, *servers: str) -> tuple[str, ...]:
        """Return these servers and the clients beside them."""
        return (*servers, *map(beside, servers))


@dataclass(frozen=True, slots=True)
class Break:
    """A break by name: what is lost, and for how many seconds, one step after the other."""

    name: str
    steps: Callable[[Scene], Iterable[tuple[Shares, float]]]


def one_way(source: Sequence[str], destination: Sequence[str]) -> Shares:
    """Return what is lost if nothing gets from one side to the other."""
    return {(one, other): 1.0 for one in source for other in destination}


def cut(these: Sequence[str], those: Sequence[str]) -> Shares:
    """Return what is lost if nothing gets from one side to the other and back."""
    return {**one_way(these, those), **one_way(those, these)}


def among(places: Sequence[str], share: float) -> Shares:
    """Return what is lost if everybody's part is lost on the way to everybody else."""
    return {(one, other): share for one in places for other in places if one != other}


def _follower(scene: Scene) -> Iterable[tuple[Shares, float]]:
    lonely, other = scene.followers
    yield cut(scene.side(lonely), scene.side(scene.leader, other)), BROKEN_SECONDS


def _leader(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield cut(scene.side(scene.leader), scene.side(*scene.followers)), BROKEN_SECONDS


def _leader_alone(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield cut([scene.leader], [*scene.side(*scene.followers), beside(scene.leader)]), BROKEN_SECONDS


def _everybody(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield among(scene.servers, 1.0), BROKEN_SECONDS


def _mute(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield one_way([scene.leader], scene.followers), BROKEN_SECONDS


def _deaf(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield one_way(scene.followers, [scene.leader]), BROKEN_SECONDS


def _pair(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield cut([scene.leader], scene.followers[:1]), BROKEN_SECONDS


def _door(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield cut([scene.leader], list(map(beside, scene.servers))), BROKEN_SECONDS


def _flapping(scene: Scene) -> Iterable[tuple[Shares, float]]:
    for seconds in (0.2, 0.5, 0.8, 0.3, 1.0):
        yield cut(scene.side(scene.leader), scene.side(*scene.followers)), seconds
        yield {}, seconds


def _lossy(scene: Scene) -> Iterable[tuple[Shares, float]]:
    yield among(scene.side(*scene.servers), 0.1), BROKEN_SECONDS


FOLLOWER = Break("a follower and the client beside it", _follower)
LEADER = Break("the leader and the client beside it", _leader)
LEADER_ALONE = Break("the leader from everybody", _leader_alone)
EVERYBODY = Break("each server from each other", _everybody)
MUTE = Break("the leader is not heard by followers", _mute)
DEAF = Break("the leader does not hear followers", _deaf)
PAIR = Break("the leader from one follower", _pair)
DOOR = Break("the leader from all clients", _door)
FLAPPING = Break("the leader and its client, on and off", _flapping)
LOSSY = Break("a tenth is lost everywhere", _lossy)
