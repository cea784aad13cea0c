"""From the replicas that a shard's group has to those that it should have: one safe step at a time.

Pure: what to do next follows from the catalog's record of the shard and from what its replicas say, and every step
may be repeated. Nothing is remembered, so a controller that died is only late. The order (RAFT_RULES 21, 29, 31):

- a replica that is missing is added as a learner once it exists;
- a leader that is to leave hands over first;
- learners that have caught up are promoted and those who leave removed in ONE joint change (Raft §6), so that there
  are never four voters of which one is dead;
- who leaves without a successor goes only when all wanted replicas vote.

No change is proposed after which the living would not be a majority. As every change needs the majority that there
is, a group that lost its majority stays as it is: it is never made anew out of what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec

from dbnode.wire import ReplicaStatus
from lbnode.catalog import ForgetReplicas, ReplicasJoined
from lbnode.leaders import LAG_LEADING_MAX, Handover, can_lead, leader_of
from lbnode.table import ShardRecord
from raftlog.messages import ConfChangeSingle, ConfChangeType, ConfChangeV2


class Change(msgspec.Struct, frozen=True):
    """The server `leader` should change the membership of the group that it leads; `why` says it in words."""

    group_id: int
    leader: str
    change: ConfChangeV2
    why: str


class Waiting(msgspec.Struct, frozen=True):
    """Nothing can be done now; `why` says what has to happen first."""

    why: str


Step: TypeAlias = Change | Handover | ReplicasJoined | ForgetReplicas | Waiting


def next_step(shard: ShardRecord, known: Mapping[int, ReplicaStatus], held: Collection[int] = ()) -> Step | None:
    """Return what to do next about a shard's replicas, None if all is as it should be.

    `known` are the replicas that gave an answer just now, by id. Those `held` are as they should be once they are
    learners that have caught up: an operation that may still be rolled back wants them, and promotes them later.
    """
    leader = leader_of(shard, known)
    if leader is None:
        return None if shard.settled else Waiting("nobody leads the shard")
    return _Group(shard, leader, known, frozenset(held)).next_step()


def is_filled(shard: ShardRecord, known: Mapping[int, ReplicaStatus], replica_ids: Collection[int]) -> bool:
    """Tell whether a shard has a leader, and these replicas take part and hold nearly all that it holds."""
    leader = leader_of(shard, known)
    return leader is not None and _Group(shard, leader, known, frozenset()).is_filled(replica_ids)


class _Group:
    """A shard's group as its leader and the others describe it."""

    def __init__(
        self, shard: ShardRecord, leader: ReplicaStatus, known: Mapping[int, ReplicaStatus], held: frozenset[int]
    ) -> None:
        self._shard = shard
        self._leader = leader
        self._known = known
        self._held = held
        conf = leader.conf_state
        self._voters, self._learners = frozenset(conf.voters), frozenset(conf.learners)
        self._is_joint = bool(conf.voters_outgoing)
        self._wanted = frozenset(shard.replicas)

    def next_step(self) -> Step | None:
        return self._note_in_catalog() or (
            Waiting("a change of its members is under way") if self._is_joint else self._change()
        )

    def is_filled(self, replica_ids: Collection[int]) -> bool:
        return all(id_ in self._voters | self._learners and self._caught_up(id_) for id_ in replica_ids)

    def _note_in_catalog(self) -> Step | None:
        """Return what the catalog does not know yet. What a leader has applied is committed, so it stays true."""
        shard, present = self._shard, self._voters | self._learners | set(self._leader.conf_state.voters_outgoing)
        if joined := [id_ for id_ in shard.joining if id_ in self._voters]:
            return ReplicasJoined(shard.group_id, tuple(joined))
        if gone := [id_ for id_ in shard.leaving if id_ not in present]:
            return ForgetReplicas(shard.group_id, tuple(gone))
        return None

    def _change(self) -> Step | None:
        if leavers := self._learners - self._wanted:
            return self._propose(remove=leavers)
        missing = self._wanted - self._voters - self._learners
        if there := [id_ for id_ in sorted(missing) if self._exists(id_)]:
            return self._propose(add=there[:1])
        return self._exchange() or self._wait(missing)

    def _exchange(self) -> Step | None:
        """Promote who has caught up, and in the same change let go of as many as leave."""
        ready = sorted(id_ for id_ in (self._learners & self._wanted) - self._held if self._caught_up(id_))
        out = sorted(self._voters - self._wanted, key=lambda id_: (self._lives(id_), id_))
        if self._leader.replica_id in out:
            if successor := self._successor():
                return Handover(self._shard.group_id, self._server(self._leader.replica_id), successor)
            out.remove(self._leader.replica_id)
        if not self._wanted - self._held <= self._voters | set(ready):
            out = out[: len(ready)]
        if not (ready or out):
            return None
        after = (self._voters | set(ready)) - set(out)
        if 2 * sum(map(self._lives, after)) <= len(after):
            dead = [id_ for id_ in after if not self._lives(id_)]
            return Waiting(f"without {_named(out)} too few would be left that live: {_named(dead)} must come back")
        return self._propose(promote=ready, remove=out)

    def _wait(self, missing: Iterable[int]) -> Step | None:
        learners = {id_ for id_ in self._learners if id_ not in self._held or not self._caught_up(id_)}
        if behind := [id_ for id_ in sorted(learners) if self._lives(id_)]:
            return Waiting(f"{_named(behind)} must catch up, {max(map(self._lag, behind))} entries behind")
        if absent := sorted({*missing, *learners}):
            return Waiting(f"{_named(absent)} must come up")
        if leaving := sorted(self._voters - self._wanted):
            return Waiting(f"{_named(leaving)} leads, and nobody can take over")
        return None

    def _propose(self, *, add: Iterable[int] = (), promote: Iterable[int] = (), remove: Iterable[int] = ()) -> Change:
        words, changes = [], []
        for word, kind, replica_ids in (
            ("add", ConfChangeType.ADD_LEARNER, add),
            ("promote", ConfChangeType.ADD_VOTER, promote),
            ("remove", ConfChangeType.REMOVE, remove),
        ):
            if ids := sorted(replica_ids):
                words.append(f"{word} {_named(ids)}")
                changes += [ConfChangeSingle(kind, id_) for id_ in ids]
        leader = self._server(self._leader.replica_id)
        return Change(self._shard.group_id, leader, ConfChangeV2(changes=tuple(changes)), " and ".join(words))

    # ---- what is known of a replica -----------------------------------------------------------------------------

    def _server(self, replica_id: int) -> str:
        return self._shard.directory[replica_id]

    def _exists(self, replica_id: int) -> bool:
        return replica_id in self._known and self._known[replica_id].role != "lost"

    def _lives(self, replica_id: int) -> bool:
        """Tell whether a replica follows the leader, as far as both say so."""
        leader = self._leader
        if not self._exists(replica_id):
            return False
        status = self._known[replica_id]
        return status.term == leader.term and status.leader_id == leader.replica_id

    def _caught_up(self, replica_id: int) -> bool:
        return self._lives(replica_id) and self._lag(replica_id) == 0

    def _lag(self, replica_id: int) -> int:
        """Return how many entries a replica lacks, 0 if so few that it may be trusted to vote."""
        lag = self._leader.last_index - self._leader.matched.get(replica_id, 0)
        return lag if lag > LAG_LEADING_MAX else 0

    def _successor(self) -> int | None:
        able = [
            id_
            for id_ in sorted(self._voters & self._wanted)
            if self._lives(id_) and can_lead(self._shard, self._known[id_], self._leader)
        ]
        return min(able, key=lambda id_: self._leader.last_index - self._known[id_].last_index, default=None)


def _named(replica_ids: Iterable[int]) -> str:
    ids = [str(id_) for id_ in replica_ids]
    return f"replica {ids[0]}" if len(ids) == 1 else f"replicas {', '.join(ids)}"
