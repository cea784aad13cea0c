"""A configuration and what is known of each replica in it: the leader's view of its group."""

from __future__ import annotations

from dataclasses import dataclass

from raftlog.messages import ConfState
from raftlog.progress import Progress
from raftlog.quorum import VoteResult, joint_committed, joint_vote


@dataclass(frozen=True, slots=True)
class Membership:
    """Who takes part. In a joint configuration `outgoing` holds the voters of the old half (Raft §6).

    Learners are never voters of either half; a voter of the outgoing half that is to become a learner stands in
    `learners_next` until the joint configuration is left.
    """

    incoming: frozenset[int] = frozenset()
    outgoing: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether two majorities have to agree."""
        return bool(self.outgoing)

    @property
    def voters(self) -> frozenset[int]:
        """The voters of both halves."""
        return self.incoming | self.outgoing if self.outgoing else self.incoming

    def conf_state(self) -> ConfState:
        """Return the same as data."""
        return ConfState(
            voters=tuple(sorted(self.incoming)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )

    @classmethod
    def from_conf_state(cls, state: ConfState) -> Membership:
        """Return what `state` describes."""
        return cls(
            incoming=frozenset(state.voters),
            outgoing=frozenset(state.voters_outgoing),
            learners=frozenset(state.learners),
            learners_next=frozenset(state.learners_next),
            auto_leave=state.auto_leave,
        )


class Tracker:
    """The membership, the progress of every replica in it (oneself too), and the votes of the running election."""

    __slots__ = ("ids", "membership", "progress", "votes")

    def __init__(self, membership: Membership, progress: dict[int, Progress]) -> None:
        self.membership = membership
        self.progress = progress
        #: All replicas in order of id, the order in which messages are sent.
        self.ids = sorted(progress)
        self.votes: dict[int, bool] = {}

    def _acked(self, replica_id: int) -> int:
        progress = self.progress.get(replica_id)
        return progress.match if progress is not None else 0

    def committed(self) -> int:
        """Return the highest index that is on enough replicas."""
        return joint_committed(self.membership.incoming, self.membership.outgoing, self._acked)

    def quorum_active(self) -> bool:
        """Return whether a quorum was heard of since the last check."""
        active = {i: p.recent_active for i, p in self.progress.items() if not p.is_learner}
        return joint_vote(self.membership.incoming, self.membership.outgoing, active) is VoteResult.WON

    def has_quorum(self, replica_ids: set[int]) -> bool:
        """Return whether these replicas are a quorum."""
        votes = dict.fromkeys(replica_ids, True)
        return joint_vote(self.membership.incoming, self.membership.outgoing, votes) is VoteResult.WON

    def record_vote(self, replica_id: int, granted: bool) -> VoteResult:
        """Count a vote, the first of each replica, and return how the election stands."""
        self.votes.setdefault(replica_id, granted)
        return joint_vote(self.membership.incoming, self.membership.outgoing, self.votes)
