"""The records of the log: what a group's durable state is made of.

A group's log on disk is the fold of its records in order; `raftlog.wal.image` says what each one does to the state.
The first six are submitted by the driver. The other two open every segment and are written by the log itself, so that
any suffix of the segments tells everything that is still alive (see `raftlog.wal.stage`).

Records are MessagePack arrays led by their tag. Fields may be added at the end, with defaults; tags are never reused.
"""

from __future__ import annotations

import msgspec

from raftlog.messages import ConfState, Entry, HardState, Snapshot


class Created(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A replica came into being.

    Submitted together with its first hard state, both are one round and so exist together or not at all.
    """

    group_id: int
    replica_id: int
    conf_state: ConfState


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Entries were appended, or the hard state changed, or both.

    Entries whose first index is not beyond the last one replace everything from there on: the record is the
    truncation.
    """

    group_id: int
    hard_state: HardState | None
    entries: tuple[Entry, ...] = ()


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Entries up to and including `index` are no longer needed; `conf_state` is the configuration there."""

    group_id: int
    index: int
    term: int
    conf_state: ConfState


class SnapshotInstalled(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The log was replaced by a snapshot: all entries go, the snapshot's index is the new beginning."""

    group_id: int
    snapshot: Snapshot
    hard_state: HardState


class Removed(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The replica was destroyed. Its id is never used again (a tombstone that outlives every segment)."""

    group_id: int
    replica_id: int


class SnapshotIncoming(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The state machine is about to be replaced by this snapshot's content; SnapshotInstalled follows once it is.

    A restart in between finds the state machine either as it was, and the log with it, or at the snapshot's index,
    which the log alone could not explain.
    """

    group_id: int
    snapshot: Snapshot


class SegmentOpened(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Begins every segment: as many GroupRestated follow as there are groups, so that none can go missing."""

    groups: int
    tombstones: tuple[int, ...]


class GroupRestated(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A group's whole state but for its entries, as of the beginning of this segment.

    `entries`, if there are any, are all that are alive (from `snapshot.index + 1` to `last_index`): a rewrite, after
    which earlier segments hold nothing of this group.
    """

    group_id: int
    replica_id: int
    hard_state: HardState
    snapshot: Snapshot
    last_index: int
    entries: tuple[Entry, ...] = ()
    incoming: Snapshot | None = None


Record = Created | Appended | Compacted | SnapshotInstalled | Removed | SnapshotIncoming
AnyRecord = Record | SegmentOpened | GroupRestated

encode_record = msgspec.msgpack.Encoder().encode
#: Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError on anything that is not a record.
decode_record = msgspec.msgpack.Decoder(AnyRecord).decode
