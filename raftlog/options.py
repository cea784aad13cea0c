"""What the driver can be told: how time is counted, and its bounds."""

from __future__ import annotations

import msgspec


class Times(msgspec.Struct, frozen=True):
    """How time is counted (DESIGN §3). An election timeout is random in [election_ticks, 2 * election_ticks)."""

    tick_seconds: float = 0.025
    heartbeat_ticks: int = 3
    election_ticks: int = 12
    #: For so long a follower gathers what is committed before it applies it, unless somebody waits for it there; the
    #: fewer transactions of its state machine, the less they cost. It may hear of commits so much later, too; while
    #: there are many, the next entries tell it. 0: it applies at once, and hears of them with the next tick.
    gathering_ticks: int = 0


class Limits(msgspec.Struct, frozen=True):
    """Bounds of every group: message and apply sizes in bytes, the window of appends in flight per follower."""

    #: A larger proposal is refused. Half of a frame of the links: what could not be sent must never be in a log.
    entry_bytes_max: int = 32 << 20
    message_bytes_max: int = 1 << 20
    apply_bytes_max: int = 512 << 10
    uncommitted_bytes_max: int = 64 << 20
    inflight_messages_max: int = 64
    inflight_bytes_max: int = 16 << 20
    #: Of the log that is kept for slow followers; beyond it they get a snapshot (RAFT_RULES 17).
    log_bytes_max: int = 16 << 20
    #: The same while a follower is getting a snapshot, after which it needs what was written meanwhile.
    held_bytes_max: int = 64 << 20
