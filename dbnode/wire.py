"""The messages that a database server understands over its links, and the signed part of its /config.

A frame on a link is a list of items of one tagged union: Raft's own messages between servers, and requests and
replies between a client (a balancer, or another server) and a server. A reply travels back on the connection that
brought its request and carries the request's number; requests may be answered in any order. Every request says how
long it may wait; every refusal says whether anything was applied.

A change travels as a `Batch`: one Raft entry, applied exactly once under (session, sequence).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from raftlog.link.identity import Endpoint as Endpoint  # part of the messages, so it is had from here too
from raftlog.messages import ConfChangeV2, ConfState, RaftItem
from raftlog.testimony import NOWHERE, Position, Testimony

#: A value of a column: the JSON scalars. Integers are 64-bit signed.
Value: TypeAlias = str | int | float | bool | None
#: A row in the schema's column order; the first value is the key, an int.
Row: TypeAlias = tuple[Any, ...]

# ---- changes --------------------------------------------------------------------------------------------------

ON_CONFLICT_ERROR, ON_CONFLICT_IGNORE, ON_CONFLICT_REPLACE = range(3)


class IdempotencyKey(msgspec.Struct, frozen=True, array_like=True):
    """A client's Idempotency-Key header and a digest of the request's part for this shard."""

    key: str
    digest: bytes


class Write(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Store all rows or none; result Stored or Duplicate."""

    rows: tuple[Row, ...]
    on_conflict: int = ON_CONFLICT_ERROR
    idempotency: IdempotencyKey | None = None


class Update(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Change the given columns (by their place in the schema, never 0) of one row; result Done or NotFound."""

    id: int
    changes: dict[int, Any]
    idempotency: IdempotencyKey | None = None


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Remove one row; result Done or NotFound."""

    id: int
    idempotency: IdempotencyKey | None = None


Operation: TypeAlias = Write | Update | Delete

#: The longest operation, encoded: with what a batch puts around it it fits into an entry (raftlog.options.Limits).
OPERATION_BYTES_MAX = 31 << 20
#: No body of a request may be allowed to be longer. MessagePack takes at most nine bytes for eight of JSON, so a body
#: that is taken always becomes an operation that is taken.
BODY_BYTES_LIMIT = 24 << 20


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The unit of exactly-once: operations applied in order, in one entry.

    `session` was opened by OpenSession; `sequence` counts from 1 within it; results of sequences up to `acknowledged`
    may be forgotten; `now_ms` is the proposer's wall clock (Unix milliseconds), by which idempotency keys age.
    """

    session: str
    sequence: int
    acknowledged: int
    now_ms: int
    operations: tuple[Operation, ...]


class OpenSession(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Begin a session under a name never used before (incarnation of the client, shard, generation)."""

    session: str
    now_ms: int


Command: TypeAlias = Batch | OpenSession


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """So many rows were stored."""

    count: int


class Duplicate(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Nothing was stored: these ids exist, or stand twice in the request."""

    ids: tuple[int, ...]


class Done(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The row was changed or removed."""


class NotFound(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """No such row; nothing changed."""


class KeyReused(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The idempotency key was used with another body; nothing changed."""


Result: TypeAlias = Stored | Duplicate | Done | NotFound | KeyReused

# ---- requests and replies -------------------------------------------------------------------------------------

LINEARIZABLE, STALE = range(2)


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What a Tour has found out of one group: what its replicas testify, and who leads it, as the newest term has it.

    `leader` is the name of a server, "" if none is known, and `term` the term of who said so.
    """

    group_id: int
    testimonies: tuple[Testimony, ...] = ()
    leader: str = ""
    term: int = 0


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What a reader of a group has to wait for, NOWHERE if that was not found out, and the server that leads."""

    group_id: int
    position: Position
    leader: str = ""


class Tour(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Go on to the servers of `route`, one after the other, and have their replicas testify (raftlog.testimony).

    A server that cannot be sent to is passed over. Answered by ReadPositions or Refused. The server that is asked first
    puts its name into `entry` and its own number into `request_id`; whoever is last sends the answer there. `sender` is
    the server that it comes from, "" if from the asker.
    """

    request_id: int
    route: tuple[str, ...]
    questions: tuple[Question, ...]
    entry: str = ""
    sender: str = ""


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Replicate one encoded Command in a group; only the leader takes it. Answered by Applied or Refused.

    A server that knows `relay` to lead passes the command on to it: for an asker whose own way there is broken.
    """

    request_id: int
    group_id: int
    command: bytes
    timeout_ms: int
    relay: str = ""


class Read(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Rows low..high (both inclusive) of a group, by id. Answered by Rows or Refused, on any replica.

    At most `limit` rows (0: no limit of rows) and about `bytes_max` bytes; the rest is fetched from Rows.next on.
    """

    request_id: int
    group_id: int
    low: int
    high: int
    limit: int
    bytes_max: int
    consistency: int
    timeout_ms: int
    #: Whether Rows.data is to be lines, instead of objects with commas between them.
    as_lines: bool = False
    #: What the replica must have applied, as a Tour that began after this read has found out. That makes the read
    #: linearizable, whatever `consistency` says.
    position: Position = NOWHERE


class Status(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Ask for ReplicaStatus of all replicas of this server. Answered by Statuses."""

    request_id: int


class Transfer(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Have this server's replica, which leads its group, hand over to another one.

    Answered by Applied without results once the transfer has begun (who leads then is seen in Statuses), or Refused.
    """

    request_id: int
    group_id: int
    replica_id: int


class Reconfigure(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Change who takes part in a group (Raft §6); only the leader takes it, and one change at a time.

    Answered by Applied without results once the change is in effect at the leader, or Refused.
    """

    request_id: int
    group_id: int
    change: ConfChangeV2


class WhoLeads(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Ask who leads a group, as far as this server knows. Answered by Leader, at once."""

    request_id: int
    group_id: int


class Applied(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The command was committed and applied: a result per operation (none for anything but Batch)."""

    request_id: int
    results: tuple[Result, ...]


class Rows(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Rows as JSON objects joined by commas, in order of id; `next` is the id to go on from, None at the end."""

    request_id: int
    count: int
    data: bytes
    next: int | None = None


class ReplicaStatus(msgspec.Struct, frozen=True, array_like=True):
    """What one replica says of itself.

    `role` is leader, follower, candidate, pre-candidate, learner, or lost (its log or its store is gone for the given
    `reason`; it takes no part and must be replaced). `conf_state` is the configuration in effect here. A leader tells
    in `matched` up to which index it knows each replica of the group to have its log.
    """

    group_id: int
    replica_id: int
    role: str
    term: int
    leader_id: int
    leader_server: str
    last_index: int
    commit_index: int
    applied_index: int
    row_count: int
    conf_state: ConfState = ConfState()
    matched: dict[int, int] = {}
    reason: str = ""


class Statuses(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """The replicas of a server, and apart from them those that are lost."""

    request_id: int
    replicas: tuple[ReplicaStatus, ...]
    lost: tuple[ReplicaStatus, ...] = ()


class ReadPositions(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """What a Tour has found out, one for each of its questions and in their order."""

    request_id: int
    answers: tuple[Answer, ...]


class Leader(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """The server that leads a group in this term; "" if none is known."""

    request_id: int
    server: str
    term: int


#: Codes of Refused. NOT_LEADER names the leader's server if known.
NOT_LEADER = "not_leader"
NO_REPLICA = "no_replica"
UNAVAILABLE = "unavailable"  # no leader, no quorum, or not caught up, within the timeout
OVERLOADED = "overloaded"
TOO_LARGE = "too_large"  # more bytes than an entry of the log may have
UNKNOWN_SESSION = "unknown_session"
STALE_SEQUENCE = "stale_sequence"  # at or below what the session acknowledged
LOST = "lost"  # the entry was proposed and its outcome is unknown here
INVALID = "invalid"


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Not done. `maybe_applied` tells a refusal that is certain from one where the entry may still commit."""

    request_id: int
    code: str
    message: str
    leader: str = ""
    maybe_applied: bool = False


Request: TypeAlias = Propose | Read | Tour | Status | Transfer | Reconfigure | WhoLeads
Reply: TypeAlias = Applied | Rows | ReadPositions | Statuses | Leader | Refused
LinkItem: TypeAlias = (
    RaftItem
    | Propose
    | Read
    | Tour
    | Status
    | Transfer
    | Reconfigure
    | WhoLeads
    | Applied
    | Rows
    | ReadPositions
    | Statuses
    | Leader
    | Refused
)

#: A frame's items, in one call each way.
encode_items = msgspec.msgpack.Encoder().encode
decode_items = msgspec.msgpack.Decoder(list[LinkItem]).decode
#: The data of a Raft entry.
encode_command = msgspec.msgpack.Encoder().encode
decode_command: Callable[[bytes], Command] = msgspec.msgpack.Decoder(Command).decode

# ---- the signed part of POST /config --------------------------------------------------------------------------


class GroupConfig(msgspec.Struct, frozen=True):
    """A shard's group: its number, its replicas (id as text -> server name) and its first voters.

    The replicas are a directory and change; the first voters, with which each replica's log begins, never do. What
    the group became since then a new replica learns from the log or a snapshot.
    """

    group_id: int
    shard: str
    replicas: dict[str, str]
    voters: list[int]


class ManagedConfig(msgspec.Struct, frozen=True):
    """What a balancer tells a server, under "cluster" in POST /config, signed with the cluster's secret.

    `version` grows with every change of the catalog; an older one is refused. `groups` are those of which this
    server holds a replica; `servers` is the directory of link endpoints. `incarnation`, unless empty, is the one that
    the server's replica ids were given to: with another one (its disk was lost) it must not vote under them.
    `catalog` is a copy of what the balancer knows, in its own words: kept for a balancer that lost its disk.
    """

    cluster_id: str
    version: int
    server: str
    groups: list[GroupConfig]
    servers: dict[str, Endpoint]
    incarnation: str = ""
    catalog: str = ""


class ServerFile(msgspec.Struct, frozen=True):
    """What a running server writes to endpoints.json in its data directory once it listens.

    `incarnation` is born with the data directory; `started_at` is the process's start time in clock ticks since boot
    (field 22 of /proc/PID/stat), which tells a reused pid from the process meant.
    """

    name: str
    incarnation: str
    cluster_id: str
    pid: int
    started_at: int
    http: Endpoint
    link: Endpoint | None
