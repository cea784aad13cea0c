"""Who the two ends of a connection are, and which lanes may run between them."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["server", "balancer"]
#: Names travel before the peer is trusted, so their length is bounded where they are decoded.
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Lane(IntEnum):
    """Separate connections, so that nothing big delays a heartbeat (RAFT_RULES 36)."""

    #: Heartbeats and votes; only between processes of one role, which may share groups.
    CONTROL = 0
    #: Appends, requests and replies.
    DATA = 1
    #: Snapshots; opened when first used.
    BULK = 2


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """A process: `name` is unique in its role and survives restarts, `incarnation` is born with its data directory."""

    cluster_id: Name
    role: Role
    name: Name
    incarnation: Name


class Endpoint(msgspec.Struct, frozen=True):
    """Where something listens."""

    host: str
    port: int


#: The lanes of members of one group.
GROUP_LANES = (Lane.CONTROL, Lane.DATA)
#: The lanes that a process of each role opens as soon as it knows a peer's address; others open when first used.
EAGER_LANES: dict[Role, tuple[Lane, ...]] = {"server": GROUP_LANES, "balancer": (Lane.DATA,)}


def lane_allowed(lane: Lane, dialling: Role, listening: Role) -> bool:
    """Return whether a `dialling` process may open this lane to a `listening` one."""
    return lane is not Lane.CONTROL or dialling == listening
