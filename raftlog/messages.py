"""The values that Raft cores exchange with each other and with their driver.

Everything here is frozen data, encodable as MessagePack arrays; nothing here decides anything. The vocabulary is
that of the Raft paper and thesis (Ongaro) with etcd's extension that writes to storage are messages too: a core
hands out STORAGE_APPEND and STORAGE_APPLY with the responses that may be delivered once the write is durable.

Terms and indexes start at 1; 0 means "none" throughout.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec

#: The log writer and the applier, as addressees of storage messages. Real replica ids are small positive integers.
APPEND_THREAD = (1 << 64) - 1
APPLY_THREAD = (1 << 64) - 2
LOCAL_TARGETS = frozenset((APPEND_THREAD, APPLY_THREAD))


class EntryType(IntEnum):
    """What an entry's data means."""

    NORMAL = 0
    #: Data is an encoded ConfChange (one simple change).
    CONF_CHANGE = 1
    #: Data is an encoded ConfChangeV2 (simple or joint).
    CONF_CHANGE_V2 = 2


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One place in a replicated log (Raft §5.3)."""

    term: int
    index: int
    data: bytes = b""
    type: EntryType = EntryType.NORMAL


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must be durable before messages that depend on it leave (Raft figure 2, "persistent state")."""

    term: int = 0
    vote: int = 0
    commit: int = 0


EMPTY_HARD_STATE = HardState()


class ConfState(msgspec.Struct, frozen=True, array_like=True):
    """A configuration: the voters, the outgoing voters of a joint configuration, and the learners. Sorted ids."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    #: Voters of the outgoing half that become learners when the joint configuration is left.
    learners_next: tuple[int, ...] = ()
    #: The leader proposes to leave the joint configuration by itself.
    auto_leave: bool = False


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's place in the log, and what the state machine needs to find or fetch its rows."""

    index: int = 0
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""


class ConfChangeType(IntEnum):
    """What happens to one replica in a configuration change."""

    ADD_VOTER = 0
    REMOVE = 1
    #: Addresses live in a directory beside the configuration, so an update changes nothing here.
    UPDATE = 2
    ADD_LEARNER = 3


class ConfChangeSingle(msgspec.Struct, frozen=True, array_like=True):
    """One step of a configuration change."""

    type: ConfChangeType
    replica_id: int


class ConfChangeTransition(IntEnum):
    """How a ConfChangeV2 of several steps goes through its joint configuration."""

    #: Simple if one step suffices, else joint and left automatically.
    AUTO = 0
    #: Joint, left automatically.
    IMPLICIT = 1
    #: Joint, left only by an explicit empty ConfChangeV2.
    EXPLICIT = 2


class ConfChange(msgspec.Struct, frozen=True, array_like=True):
    """A configuration change of one step (thesis §4.1); `context` is the proposer's own."""

    type: ConfChangeType = ConfChangeType.ADD_VOTER
    replica_id: int = 0
    context: bytes = b""


class ConfChangeV2(msgspec.Struct, frozen=True, array_like=True):
    """A configuration change of any number of steps; empty means "leave the joint configuration"."""

    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""


class MessageType(IntEnum):
    """Kinds of messages; the local ones never leave the process."""

    HUP = 0  # local: start an election
    BEAT = 1  # local: send heartbeats
    PROPOSE = 2
    APPEND = 3
    APPEND_RESPONSE = 4
    VOTE = 5
    VOTE_RESPONSE = 6
    SNAPSHOT = 7
    HEARTBEAT = 8
    HEARTBEAT_RESPONSE = 9
    UNREACHABLE = 10  # local: the last message to `from_` was probably lost
    SNAPSHOT_STATUS = 11  # local: `from_` received its snapshot, or (reject) did not
    CHECK_QUORUM = 12  # local
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESPONSE = 16
    PRE_VOTE = 17
    PRE_VOTE_RESPONSE = 18
    STORAGE_APPEND = 19  # local: to APPEND_THREAD
    STORAGE_APPEND_RESPONSE = 20
    STORAGE_APPLY = 21  # local: to APPLY_THREAD
    STORAGE_APPLY_RESPONSE = 22
    FORGET_LEADER = 23  # local


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One message of a group. Which fields mean something depends on the type (Raft figure 2).

    `index` and `log_term` name the entry before `entries` in an APPEND and the last entry of a candidate in a VOTE;
    in a rejected APPEND_RESPONSE `index` is the refused one, `reject_hint`/`log_term` the sender's best guess at the
    last common entry. `context` carries the read context of READ_INDEX and heartbeats, and marks a vote that belongs
    to a leadership transfer. `responses` are only in storage messages. `confirmed` are those who passed a READ_INDEX
    on in its term, `relays` those who are to do so yet; in a READ_INDEX_RESPONSE, those who may for the next question.
    """

    type: MessageType
    to: int = 0
    from_: int = 0
    term: int = 0
    log_term: int = 0
    index: int = 0
    commit: int = 0
    entries: tuple[Entry, ...] = ()
    vote: int = 0
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    snapshot: Snapshot | None = None
    responses: tuple[Message, ...] = ()
    confirmed: tuple[int, ...] = ()
    relays: tuple[int, ...] = ()


#: A replica passes these on for another one, in that one's name.
_PASSED_ON = frozenset((MessageType.READ_INDEX, MessageType.TRANSFER_LEADER))


def sender(message: Message) -> int:
    """Return the replica whose process sent a message, 0 if that can't be told."""
    if message.type not in _PASSED_ON:
        return message.from_
    if message.confirmed:
        return message.confirmed[-1]
    # Only the asker itself says which term it is in.
    return message.from_ if message.type is MessageType.READ_INDEX and message.term else 0


class GroupMessage(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A core's message on its way between processes: the group's number and the message (see raftlog.link)."""

    group_id: int
    message: Message


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A piece of a snapshot's content on its way from the leader to another replica, numbered from 0.

    The first one brings the SNAPSHOT message, which is delivered to the core once the last one has arrived. `crc` is
    the CRC-32 of `data`.
    """

    group_id: int
    from_: int
    to: int
    transfer_id: int
    number: int
    data: bytes
    crc: int
    last: bool = False
    message: Message | None = None


class SnapshotAck(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The receiver took chunks up to and including `number`, or refuses the transfer, with a reason."""

    group_id: int
    from_: int
    to: int
    transfer_id: int
    number: int
    refusal: str = ""


class Quiesce(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A leader with nothing to do asks a follower that has everything to sleep until something happens."""

    group_id: int
    from_: int
    to: int
    term: int
    commit: int


class Alive(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A server's greeting, a heartbeat for all groups that sleep. `boot` tells one process of it from the next.

    `full`: its disk is nearly full, so it should not be handed any group.
    """

    server: str
    boot: int
    full: bool = False


#: What drivers send each other.
RaftItem: TypeAlias = GroupMessage | SnapshotChunk | SnapshotAck | Quiesce | Alive
