"""Finding out a group's read index by going from server to server, for somebody who is no replica of it.

Each replica that is visited testifies which term it is in, and one that leads how far the log is committed and who
votes. If those who vote and are in the leader's term are a quorum, nobody was elected in a later term before the way
began: what was acknowledged by then is committed at the leader, which makes its commit index a read index for all reads
that began before (ReadIndex, thesis §6.4). It is the same proof as by heartbeats, whoever carries it, and in whatever
order they were visited: each says what was so after the way began.

The way serves many groups at once, and costs each server one message however many of them it has. Whoever reads at an
index also learns that the entry there is committed: a follower that holds it need not wait to be told by its leader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from raftlog.quorum import VoteResult, joint_vote
from raftlog.state import Role

if TYPE_CHECKING:
    from raftlog.core import Raft


class Testimony(msgspec.Struct, frozen=True, array_like=True):
    """The term that a replica is in; of one that leads also the index of the last committed entry, which is of it.

    `voters` and `outgoing` are its configuration, the second one empty unless it is joint. Without such an entry
    (RAFT_RULES 25) and elsewhere `committed` is 0 and they are empty.
    """

    replica_id: int
    term: int
    committed: int = 0
    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A committed entry: its index and its term. Index 0 stands for none."""

    index: int = 0
    term: int = 0


NOWHERE = Position()


def testify(raft: Raft) -> Testimony:
    """Say what this replica knows by itself."""
    committed = raft.log.committed
    if raft.role is not Role.LEADER or raft.log.term_or_zero(committed) != raft.term:
        return Testimony(raft.id, raft.term)
    membership = raft.tracker.membership
    return Testimony(raft.id, raft.term, committed, tuple(membership.incoming), tuple(membership.outgoing))


def read_position(testimonies: Sequence[Testimony]) -> Position:
    """Return the position that whoever reads must have applied, NOWHERE if these testimonies confirm none."""
    leader = max(testimonies, key=lambda testimony: (testimony.committed > 0, testimony.term), default=None)
    if leader is None or not leader.committed:
        return NOWHERE
    confirming = {testimony.replica_id: True for testimony in testimonies if testimony.term == leader.term}
    if joint_vote(leader.voters, leader.outgoing, confirming) is not VoteResult.WON:
        return NOWHERE
    return Position(leader.committed, leader.term)
