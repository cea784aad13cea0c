"""What passes between the state machine and a store: plain values, the same for every engine.

A store keeps four things that change in one transaction (RAFT_RULES 8): rows, sessions with their results,
idempotency keys, and the position. The machine says what changes; the store knows nothing of why.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from dbnode.wire import Result, Row

#: The results of one Batch, one for each of its operations.
Results: TypeAlias = tuple[Result, ...]


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a shard's state stands.

    `applied_index` is the last log entry in it; `clock_ms` the shard's own clock, which counts from the first command
    and only grows; `row_count` the number of rows.
    """

    applied_index: int = 0
    clock_ms: int = 0
    row_count: int = 0


class SessionMark(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a session besides its results.

    `last_index` is the last log entry that used it; results up to sequence `acknowledged` are forgotten; its
    proposer's wall clock less `clock_offset_ms` is the shard's clock.
    """

    last_index: int
    acknowledged: int
    clock_offset_ms: int


class KeyRecord(msgspec.Struct, frozen=True, array_like=True):
    """The first outcome under an idempotency key. Counts as absent once the shard's clock reaches `expires_ms`."""

    digest: bytes
    result: Result
    expires_ms: int


class Touched(msgspec.Struct, frozen=True):
    """What commands may look at: ids of rows, and idempotency keys."""

    ids: list[int]
    keys: list[str]


class Loaded(msgspec.Struct, frozen=True):
    """What of it a store has."""

    rows: dict[int, Row]
    keys: dict[str, KeyRecord]


class Changes(msgspec.Struct, frozen=True):
    """One transaction of a store, to be carried out in the order of the fields.

    A session in `closed` goes with its results; then the sessions in `sessions` are stored and their results up to
    `acknowledged` go; then `results`, by session and sequence, are stored. Keys that have expired by
    `position.clock_ms` may be removed, a few at a time.
    """

    position: Position
    upserts: list[Row] = []
    deletes: list[int] = []
    closed: set[str] = set()
    sessions: dict[str, SessionMark] = {}
    results: dict[tuple[str, int], Results] = {}
    keys: dict[str, KeyRecord] = {}


class Image(msgspec.Struct, frozen=True):
    """What a machine keeps in memory of a store: everything but rows and keys."""

    position: Position = Position()
    sessions: dict[str, SessionMark] = {}
    results: dict[tuple[str, int], Results] = {}


class Page(msgspec.Struct, frozen=True):
    """Rows by id, and the id to go on from: None at the end of the range."""

    rows: list[Row]
    next: int | None
