"""Ways in which the network between three servers breaks, each with a client that lives beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dbnode.testing.networks import Trouble, Troubles
from raftlog.link import Lane

#: Longer than several elections, and than links need to notice that they are dead.
BROKEN_SECONDS = 4.0

LOST = Trouble(share=1.0)
#: Steps of a break: the troubles, and for how many seconds.
Steps = Iterable[tuple[Troubles, float]]


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
    """A break by name, step by step."""

    name: str
    steps: Callable[[Scene], Steps]


def one_way(source: Sequence[str], destination: Sequence[str], trouble: Trouble = LOST) -> Troubles:
    """Return the trouble on every way from one side to the other; by default nothing arrives."""
    return {(one, other): trouble for one in source for other in destination}


def cut(these: Sequence[str], those: Sequence[str]) -> Troubles:
    """Return the troubles if nothing gets from one side to the other and back."""
    return {**one_way(these, those), **one_way(those, these)}


def among(places: Sequence[str], trouble: Trouble = LOST) -> Troubles:
    """Return the trouble on every way from everybody to everybody else."""
    return {(one, other): trouble for one in places for other in places if one != other}


def _follower(scene: Scene) -> Steps:
    lonely, other = scene.followers
    yield cut(scene.side(lonely), scene.side(scene.leader, other)), BROKEN_SECONDS


def _leader(scene: Scene) -> Steps:
    yield cut(scene.side(scene.leader), scene.side(*scene.followers)), BROKEN_SECONDS


def _leader_alone(scene: Scene) -> Steps:
    yield cut([scene.leader], [*scene.side(*scene.followers), beside(scene.leader)]), BROKEN_SECONDS


def _everybody(scene: Scene) -> Steps:
    yield among(scene.servers), BROKEN_SECONDS


def _mute(scene: Scene) -> Steps:
    yield one_way([scene.leader], scene.followers), BROKEN_SECONDS


def _deaf(scene: Scene) -> Steps:
    yield one_way(scene.followers, [scene.leader]), BROKEN_SECONDS


def _pair(scene: Scene) -> Steps:
    yield cut([scene.leader], scene.followers[:1]), BROKEN_SECONDS


def _door(scene: Scene) -> Steps:
    yield cut([scene.leader], list(map(beside, scene.servers))), BROKEN_SECONDS


def _flapping(scene: Scene) -> Steps:
    for seconds in (0.2, 0.5, 0.8, 0.3, 1.0):
        yield cut(scene.side(scene.leader), scene.side(*scene.followers)), seconds
        yield {}, seconds


def _lossy(scene: Scene) -> Steps:
    yield among(scene.side(*scene.servers), Trouble(share=0.1)), BROKEN_SECONDS


def _slow(scene: Scene) -> Steps:
    trouble = Trouble(delay_seconds=0.02, jitter_seconds=0.06)
    yield among(scene.side(*scene.servers), trouble), BROKEN_SECONDS


def _narrow(scene: Scene) -> Steps:
    yield one_way([scene.leader], scene.followers, Trouble(bytes_per_second=20_000)), BROKEN_SECONDS


def _data(scene: Scene) -> Steps:
    yield one_way([scene.leader], scene.followers, Trouble(share=1.0, lane=Lane.DATA)), BROKEN_SECONDS


def _data_of_one(scene: Scene) -> Steps:
    yield one_way([scene.leader], scene.followers[:1], Trouble(share=1.0, lane=Lane.DATA)), BROKEN_SECONDS


def _control(scene: Scene) -> Steps:
    yield one_way([scene.leader], scene.followers, Trouble(share=1.0, lane=Lane.CONTROL)), BROKEN_SECONDS


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
SLOW = Break("20 to 80 ms everywhere, out of order", _slow)
NARROW = Break("20 kB/s from the leader to each follower", _narrow)
DATA = Break("the leader's appends, not its heartbeats", _data)
DATA_OF_ONE = Break("the leader's appends to one follower", _data_of_one)
CONTROL = Break("the leader's heartbeats, not its appends", _control)
