"""Who the balancers of a cluster are: the voters of the catalog's own group, and which of them is the controller.

Pure. A balancer's data directory has an incarnation, and with it a replica id of the catalog's group that is never
used again: one that lost its directory may have voted, and would not know (RAFT_RULES 32). It comes back under a new
id, as a learner first, which takes the old one's place in one joint change once it has caught up (RAFT_RULES 31).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from raftlog.messages import ConfChangeSingle, ConfChangeType, ConfChangeV2
from raftlog.status import GroupStatus

#: How many entries a learner may lack and still be trusted to vote; the catalog changes rarely.
_LAG_VOTING_MAX = 10


class BalancerRecord(msgspec.Struct, frozen=True):
    """A balancer: its replica of the catalog, and the incarnation of the data directory that holds it."""

    replica_id: int
    incarnation: str


class Office(msgspec.Struct, frozen=True):
    """Which balancer is the controller, for the `number`-th time that one took over, and where clients reach it."""

    number: int
    holder: str
    url: str


def founders(incarnations: Mapping[str, str]) -> dict[str, BalancerRecord]:
    """Return the balancers with which a catalog begins: replica ids from 1, in order of their names."""
    return {name: BalancerRecord(place, incarnations[name]) for place, name in enumerate(sorted(incarnations), start=1)}


def first_voters(names: Collection[str]) -> tuple[int, ...]:
    """Return the voters with which the log of a catalog of these balancers begins, the same for each replica ever."""
    return tuple(range(1, len(names) + 1))


def next_change(wanted: Collection[int], status: GroupStatus) -> ConfChangeV2 | None:
    """Return how the group's membership is to change next, as its leader sees it; None: not now, or not any more."""
    conf = status.conf_state
    if conf.voters_outgoing:
        return None
    voters, learners = set(conf.voters), set(conf.learners)
    if strays := learners.difference(wanted):
        return _change(ConfChangeType.REMOVE, strays)
    if missing := set(wanted) - voters - learners:
        return _change(ConfChangeType.ADD_LEARNER, [min(missing)])
    filled = [id_ for id_ in learners if status.last_index - status.matched.get(id_, 0) <= _LAG_VOTING_MAX]
    if not filled:
        return None
    leaving = sorted(voters.difference(wanted) - {status.replica_id})[:1]
    promoted = _change(ConfChangeType.ADD_VOTER, [min(filled)])
    return ConfChangeV2(changes=(*promoted.changes, *_change(ConfChangeType.REMOVE, leaving).changes))


def _change(kind: ConfChangeType, replica_ids: Iterable[int]) -> ConfChangeV2:
    return ConfChangeV2(changes=tuple(ConfChangeSingle(kind, id_) for id_ in sorted(replica_ids)))
