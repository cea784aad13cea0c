"""Which faults strike, in which order, after which pause and for how long: drawn from a seed, before anything happens.

A fault names its victim by a number, since who leads, and which servers there are, is only known when
it strikes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What a fault does. Killed is `kill -9`, paused is SIGSTOP and later SIGCONT, wiped is killed without its data.

    Cut off is to lose all packets, of which a server's own still arrive if it only hears nobody.
    """

    KILL = "kill a server"
    KILL_LEADER = "kill a leader"
    KILL_MAJORITY = "kill a majority"
    KILL_BALANCER = "kill the balancer"
    KILL_EVERYTHING = "kill everything"
    PAUSE = "pause a server"
    PAUSE_LEADER = "pause a leader"
    CUT = "cut a server off"
    CUT_LEADER = "cut a leader off"
    MUTE_LEADER = "let nobody hear a leader"
    DEAFEN_LEADER = "let a leader hear nobody"
    ISOLATE_LEADER = "wipe a leader without followers"
    WIPE = "wipe a server"
    WIPE_AND_KILL = "wipe a server and kill another"
    RESIZE = "add and remove a server"
    RESIZE_AND_KILL = "kill a server while one is added"
    RESIZE_AND_KILL_BALANCER = "kill the balancer while a server is added"


#: Those that need a balancer that was started by us, those that need one that adds and removes servers, and those that
#: need servers in network namespaces.
BALANCER_KINDS = frozenset({Kind.KILL_BALANCER, Kind.KILL_EVERYTHING, Kind.RESIZE_AND_KILL_BALANCER})
RESIZE_KINDS = frozenset({Kind.RESIZE, Kind.RESIZE_AND_KILL, Kind.RESIZE_AND_KILL_BALANCER})
CUT_KINDS = frozenset({Kind.CUT, Kind.CUT_LEADER, Kind.MUTE_LEADER, Kind.DEAFEN_LEADER})


#: How often each strikes while all the others strike as often as theirs.
_WEIGHTS = {
    Kind.KILL: 2,
    Kind.KILL_LEADER: 3,
    Kind.KILL_MAJORITY: 1,
    Kind.KILL_BALANCER: 2,
    Kind.KILL_EVERYTHING: 1,
    Kind.PAUSE: 1,
    Kind.PAUSE_LEADER: 2,
    Kind.CUT: 1,
    Kind.CUT_LEADER: 2,
    Kind.MUTE_LEADER: 1,
    Kind.DEAFEN_LEADER: 1,
    Kind.ISOLATE_LEADER: 2,
    Kind.WIPE: 2,
    Kind.WIPE_AND_KILL: 1,
    Kind.RESIZE: 1,
    Kind.RESIZE_AND_KILL: 1,
    Kind.RESIZE_AND_KILL_BALANCER: 1,
}
#: Clients have this long to themselves before a fault.
_CALM_SECONDS = (1.0, 4.0)
#: A fault lasts this long before anything is done against it: shorter and longer than elections and deadlines.
_HOLD_SECONDS = (0.3, 8.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to come. `pick` says which of the possible victims are meant."""

    kind: Kind
    calm_seconds: float
    hold_seconds: float
    pick: float

    def order(self, victims: Collection[str]) -> list[str]:
        """Return the possible victims, those first that are meant first."""
        ordered = sorted(victims)
        Random(self.pick).shuffle(ordered)
        return ordered

    def choose(self, victims: Collection[str]) -> str:
        """Return the victim that is meant among these, at least one."""
        return self.order(victims)[0]


def schedule(rng: Random, kinds: Sequence[Kind]) -> Iterator[Fault]:
    """Yield faults of these kinds without end: every kind strikes before its turn comes again."""
    while True:
        deck = [kind for kind in kinds for _ in range(_WEIGHTS[kind])]
        rng.shuffle(deck)
        for kind in deck:
            yield Fault(kind, rng.uniform(*_CALM_SECONDS), rng.uniform(*_HOLD_SECONDS), rng.random())
