"""The limits and times of links, and what is counted about them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

_MIB = 1 << 20


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times; the defaults suit processes on one machine or in one data centre."""

    #: A larger frame is a protocol error; ours are split before they get there.
    frame_bytes_max: int = 64 * _MIB
    #: Encoded bytes waiting per connection while it cannot be written; above it `send` drops.
    queue_bytes_max: int = 64 * _MIB
    #: TCP connect, and separately the handshake after it, may take so long.
    dial_seconds: float = 2.0
    handshake_seconds: float = 5.0
    #: If a peer's name stands for several addresses, the next is tried so long after the one before (RFC 8305 §5), and
    #: it takes as long to see that the last one failed.
    next_address_seconds: float = 0.1
    #: An empty frame is sent on a connection that sent nothing for so long, ...
    ping_seconds: float = 0.5
    #: ... and one that heard nothing for so long is closed. Several pings, since a busy peer may miss one.
    silence_seconds: float = 3.0
    #: The same if another connection with that peer is heard: then it is this connection that is broken, not the peer.
    lane_silence_seconds: float = 1.0
    #: A frame that has begun must be complete within this; whoever is slower holds memory for nothing.
    frame_seconds: float = 60.0
    #: Redialling waits between these, doubling, with jitter; the first attempt is immediate.
    backoff_seconds_min: float = 0.05
    backoff_seconds_max: float = 1.0
    #: Connections that have not proved themselves yet; above it the oldest of the host that has most is cut off.
    strangers_max: int = 64
    #: Closing waits so long for what is queued to be written.
    goodbye_seconds: float = 1.0


@dataclass(slots=True)
class LinkCounters:
    """Totals since the start of the process; only grow."""

    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    #: Items refused by `send` or lost with a connection before they were written.
    items_dropped: int = 0
    handshakes_failed: int = 0
    #: Dialled connections that were up and ended without our wish.
    connections_lost: int = 0
