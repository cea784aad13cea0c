"""Links: authenticated connections between processes that carry frames of items.

What users of links depend on is here; `links.Links` is the real thing over TCP and `memory.MemoryLinks` the one for
tests. Frames, handshake and outbox do no I/O. A frame is 4 bytes of length (big-endian) and a MessagePack array of
items; both ends of a connection prove by challenge and response that they know the cluster's secret before the first
frame. Nothing is encrypted or signed after that: who fears somebody on the path uses TLS around it (raftlog.tls).
"""

from raftlog.link.identity import Endpoint, Identity, Lane, Role
from raftlog.link.interface import Connection, LaneChange, PeerLinks, Receive

__all__ = ["Connection", "Endpoint", "Identity", "Lane", "LaneChange", "PeerLinks", "Receive", "Role"]
