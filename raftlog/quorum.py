"""Quorum arithmetic: which index a majority holds, and whether a vote is decided.

A joint configuration (Raft §6) is two majorities that must agree: an index is committed if both committed it, a vote
is won if both are won. An empty majority agrees with everything, so that a plain configuration is a joint one whose
second half is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum

#: What an empty configuration has committed: everything.
INFINITE_INDEX = (1 << 64) - 1


class VoteResult(Enum):
    """The state of a vote."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_committed(voters: Collection[int], acked: Callable[[int], int]) -> int:
    """Return the highest index that a majority of `voters` acknowledged; `acked` gives 0 for one not heard of."""
    if not voters:
        return INFINITE_INDEX
    indexes = sorted([acked(voter) for voter in voters])
    return indexes[(len(indexes) - 1) // 2]


def joint_committed(incoming: Collection[int], outgoing: Collection[int], acked: Callable[[int], int]) -> int:
    """Return the highest index that both majorities acknowledged."""
    if not outgoing:
        return majority_committed(incoming, acked)
    return min(majority_committed(incoming, acked), majority_committed(outgoing, acked))


def majority_vote(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Return how the vote stands among `voters`; an empty majority has won."""
    needed = len(voters) // 2 + 1
    if not voters:
        return VoteResult.WON
    yes = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote:
            yes += 1
        elif vote is None:
            missing += 1
    if yes >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if yes + missing >= needed else VoteResult.LOST


def joint_vote(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Return how the vote stands where both majorities must agree."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first is second:
        return first
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.PENDING
