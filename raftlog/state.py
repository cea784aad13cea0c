"""How a core is configured, and the small values that it shows to its driver."""

from __future__ import annotations

from enum import Enum

import msgspec

#: Context of the vote requests of an election that the old leader asked for; it may disturb a live leader.
TRANSFER = b"transfer"


class ProposalDropped(Exception):
    """The proposal was not taken into the log: not leader, handing over, or too much uncommitted. Try later."""


class Role(Enum):
    """What a replica is at present (Raft §5.1; pre-candidate: thesis §9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class SoftState(msgspec.Struct, frozen=True):
    """What is worth knowing of a replica and need not be stored."""

    leader_id: int
    role: Role


class ReadState(msgspec.Struct, frozen=True):
    """A read with this context may be served once `index` is applied."""

    index: int
    context: bytes


class Config(msgspec.Struct, frozen=True):
    """How a core behaves; times in ticks, sizes in bytes.

    `applied` is what the state machine has applied at the start. `election_ticks` is the minimum of the election
    timeout, which is random below twice that. `lease_read_only`, `disable_conf_change_validation` and switching off
    pre-vote, check-quorum or step-down exist for the data-driven cases; the driver never sets them.
    """

    replica_id: int
    election_ticks: int
    heartbeat_ticks: int
    max_size_per_message: int
    max_committed_size_per_ready: int
    max_uncommitted_size: int
    max_inflight_messages: int
    max_inflight_bytes: int = 0
    applied: int = 0
    check_quorum: bool = True
    pre_vote: bool = True
    step_down_on_removal: bool = True
    async_storage_writes: bool = True
    lease_read_only: bool = False
    disable_conf_change_validation: bool = False
