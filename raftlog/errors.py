"""Why a driver cannot do what was asked of a group, and whether the proposal may still be applied."""

from __future__ import annotations


class GroupError(Exception):
    """A request to a group failed. `maybe_applied`: the proposed entry may still commit (RAFT_RULES 41)."""

    maybe_applied = False


class UnknownGroup(GroupError):
    """No replica of the group is in this process."""


class NotLeader(GroupError):
    """Only the leader takes proposals. `leader_id` is the replica believed to lead, 0 if none is known."""

    def __init__(self, leader_id: int) -> None:
        super().__init__(f"replica {leader_id} leads" if leader_id else "no leader is known")
        self.leader_id = leader_id


class Overloaded(GroupError):
    """The group's bounded queue of uncommitted entries is full, or leadership is being transferred: retry soon."""


class InvalidChange(GroupError):
    """The change of membership can't be applied to the configuration there is."""


class TooLarge(GroupError):
    """The proposal is larger than an entry may be; it was not taken into the log and never will be."""


class Superseded(GroupError):
    """Another leader's entry was committed in the proposal's place: it was not and never will be applied."""


class LeadershipLost(GroupError):
    """The replica stopped leading while the proposal was in flight; a later leader may still commit it."""

    maybe_applied = True


class Stopped(GroupError):
    """The replica stops or was removed while the request was in flight."""

    maybe_applied = True


class Unavailable(GroupError):
    """No leader with a quorum answered in time."""


class LostData(Exception):
    """A replica's store or leader knows more than its log: acknowledged data is gone here (RAFT_RULES 10).

    The replica must be replaced under a new id; starting it as it is could break what others rely on.
    """


class DiskStuck(Exception):
    """The disk takes no writes; the process must end, so that others notice and take over."""
