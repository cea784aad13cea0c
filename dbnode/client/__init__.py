"""The client that a database server publishes for those who talk to it: balancers and other servers.

requests   one request, one reply, over links
proposals  getting commands of a group committed, wherever its leader is
session    exactly-once changes of one shard, batched and pipelined
reads      rows of one shard, from any replica
batches    small reads of one shard, many in a frame
tours      small reads of several shards, confirmed together
departures batches of different shards that leave together
control    the control plane over HTTP: heartbeat, signed configuration, copies
outcome    what can go wrong, and whether a change was applied
"""

from __future__ import annotations

from dbnode.client.batches import ReadBatches
from dbnode.client.departures import Departures
from dbnode.client.outcome import NotApplied, OutcomeUnknown, RequestFailed, Unanswered, Unavailable
from dbnode.client.reads import ReadChannel
from dbnode.client.requests import Requests
from dbnode.client.session import SessionOptions, ShardSession
from dbnode.client.tours import ReadTours

__all__ = [
    "Departures",
    "NotApplied",
    "OutcomeUnknown",
    "ReadBatches",
    "ReadChannel",
    "ReadTours",
    "RequestFailed",
    "Requests",
    "SessionOptions",
    "ShardSession",
    "Unanswered",
    "Unavailable",
]
