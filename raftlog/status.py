"""What the driver tells of a replica."""

from __future__ import annotations

import msgspec

from raftlog.group import Group
from raftlog.messages import ConfState
from raftlog.state import Role


class RoleChange(msgspec.Struct, frozen=True):
    """A replica changed its role or learned of another leader."""

    group_id: int
    replica_id: int
    role: str
    term: int
    leader_id: int


class GroupStatus(msgspec.Struct, frozen=True):
    """Where a replica stands; indexes are positions in its group's log.

    `matched` is what a leader knows of each replica's log, itself included; nobody else knows.
    """

    group_id: int
    replica_id: int
    role: str
    term: int
    leader_id: int
    last_index: int
    commit_index: int
    applied_index: int
    conf_state: ConfState
    matched: dict[int, int]


def role_name(group: Group) -> str:
    """Return the role in the API's words: leader, follower, candidate, pre-candidate or learner."""
    raft = group.raw.raft
    if raft.role is Role.FOLLOWER and raft.is_learner:
        return "learner"
    return raft.role.name.lower().replace("_", "-")


def status_of(group: Group) -> GroupStatus:
    """Return where a replica stands."""
    raft = group.raw.raft
    return GroupStatus(
        group_id=group.group_id,
        replica_id=group.replica_id,
        role=role_name(group),
        term=raft.term,
        leader_id=raft.leader_id,
        last_index=raft.log.last_index(),
        commit_index=raft.log.committed,
        applied_index=group.machine.applied_index,
        conf_state=group.raw.conf_state(),
        matched={id_: one.match for id_, one in raft.tracker.progress.items()} if group.is_leader else {},
    )
