"""Mutants that change the membership as they must not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftlog import tracker
from raftlog.core import Raft
from raftlog.messages import Entry
from raftlog.quorum import majority_committed, majority_vote
from raftlog.testing.mutants.mutant import Mutant
from raftlog.testing.simulation.membership import Membership


def _one_half_commits(incoming: Any, outgoing: Any, acked: Any) -> int:
    return majority_committed(incoming, acked)


def _one_half_votes(incoming: Any, outgoing: Any, votes: Any) -> Any:
    return majority_vote(incoming, votes)


def _never_pending(self: Raft, entries: Sequence[Entry]) -> bool:
    self.pending_conf_index = 0
    return _real_append(self, entries)


def _same_id_again(self: Membership) -> int:
    return self._lost or _real_next_id(self)


_real_append = Raft.append
_real_next_id = Membership._next_id

MUTANTS = (
    Mutant(
        "skip the joint quorum",
        "Raft §6: both majorities of a joint configuration agree",
        [(tracker, "joint_committed", _one_half_commits), (tracker, "joint_vote", _one_half_votes)],
        "raftlog.test.test_membership.JointTests.test_both_majorities",
    ),
    Mutant(
        "change the membership twice at once",
        "RAFT_RULES 29: at most one change is unapplied",
        [(Raft, "append", _never_pending)],
    ),
    Mutant(
        "reuse a replica id",
        "RAFT_RULES 32: ids are never used again, not even by a server that lost its disk",
        [(Membership, "_next_id", _same_id_again)],
    ),
)
