"""The deterministic state machine of a shard: what log entries do to its rows, sessions and idempotency keys.

No input but the log, no output but values: every replica and every storage engine comes to the same state and the
same results. `touched` says what to load, `execute` decides without changing anything, `absorb` takes a committed
decision over into memory. How entries are grouped into transactions makes no difference.

The numbers below are part of the log's meaning: replicas that disagree about one of them diverge, so a change of any
is a change of the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from dbnode.changes import Changes, Image, Loaded, Position, Results, Touched
from dbnode.schema import INT64_MAX, INT64_MIN, Schema, storable
from dbnode.sessions import Rejected, SessionLayer, SessionTable
from dbnode.table import TableLayer
from dbnode.wire import (
    INVALID,
    ON_CONFLICT_ERROR,
    ON_CONFLICT_REPLACE,
    Batch,
    Command,
    Operation,
    Update,
    Write,
)

#: What became of a command: the results of its operations (none for OpenSession), or why it was not applied.
Outcome: TypeAlias = Results | Rejected
#: A log entry: its index and its command. None: only the index moves (a new leader's no-op, a configuration change).
#: Rejected: the entry cannot be understood, on any replica.
Item: TypeAlias = tuple[int, Command | Rejected | None]

_decode_command = msgspec.msgpack.Decoder(Command).decode


def command_from_bytes(schema: Schema, data: bytes) -> Command | Rejected:
    """Return the command in an entry, or Rejected if it is none or does not fit the table.

    Requests are checked where they come in; this keeps what slipped through from stopping every replica.
    """
    try:
        command: Command = _decode_command(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(INVALID, f"the entry is not a command: {error}")
    if not 0 <= command.now_ms <= INT64_MAX:
        return Rejected(INVALID, f"the clock {command.now_ms} is no time")
    if isinstance(command, Batch):
        if not storable((command.sequence, command.acknowledged)):
            return Rejected(INVALID, "a sequence number has more than 64 bits")
        width = len(schema.columns)
        for operation in command.operations:
            if not _fits(operation, width):
                return Rejected(INVALID, f"an operation does not fit a table of {width} columns")
    return command


class Machine:
    """The state of one replica beside its rows and keys, and the rules by which all of it changes."""

    def __init__(self) -> None:
        self._position = Position()
        self._sessions = SessionTable()

    @property
    def position(self) -> Position:
        """Where the state stands: what the store holds once the last commit is in."""
        return self._position

    def restore(self, image: Image) -> None:
        """Begin from what a store holds."""
        self._position = image.position
        self._sessions = SessionTable(image.sessions, image.results)

    def image(self) -> Image:
        """Return what `restore` takes: what a store must hold by now."""
        return Image(self._position, self._sessions.marks(), self._sessions.results())

    def touched(self, items: Sequence[Item]) -> Touched:
        """Return what the commands may look at, for the store to load."""
        ids: set[int] = set()
        keys: set[str] = set()
        for _, command in items:
            if isinstance(command, Batch):
                for operation in command.operations:
                    if isinstance(operation, Write):
                        ids.update([row[0] for row in operation.rows])
                    else:
                        ids.add(operation.id)
                    if operation.idempotency is not None:
                        keys.add(operation.idempotency.key)
        return Touched(list(ids), list(keys))

    def execute(self, items: Sequence[Item], loaded: Loaded) -> tuple[list[Outcome], Changes]:
        """Return the outcome of each entry, and what must be committed for all of them to have happened.

        `items` follow the applied index without a gap; `loaded` is what the store has of `touched(items)`.
        """
        sessions = SessionLayer(self._sessions, self._position.clock_ms)
        table = TableLayer(loaded)
        outcomes = [_execute(index, command, sessions, table) for index, command in items]
        upserts, deletes = table.changes()
        row_count = self._position.row_count + table.row_count_change
        return outcomes, Changes(
            Position(items[-1][0], sessions.clock_ms, row_count),
            upserts,
            deletes,
            sessions.closed,
            sessions.marks(),
            sessions.results(),
            table.recorded,
        )

    def absorb(self, changes: Changes) -> None:
        """Take over what was committed."""
        self._position = changes.position
        self._sessions.absorb(changes)


def _execute(
    index: int, command: Command | Rejected | None, sessions: SessionLayer, table: TableLayer
) -> Results | Rejected:
    if isinstance(command, Batch):
        found = sessions.find(index, command)
        if found is None:
            found = tuple([table.apply(operation, sessions.clock_ms) for operation in command.operations])
            sessions.record(command, found)
        return found
    if command is None:
        return ()
    if isinstance(command, Rejected):
        return command
    sessions.open(index, command)
    return ()


def _fits(operation: Operation, width: int) -> bool:
    if isinstance(operation, Write):
        for row in operation.rows:
            if len(row) != width or type(row[0]) is not int or not storable(row):
                return False
        return ON_CONFLICT_ERROR <= operation.on_conflict <= ON_CONFLICT_REPLACE
    if not INT64_MIN <= operation.id <= INT64_MAX:
        return False
    if isinstance(operation, Update):
        return all(0 < place < width for place in operation.changes) and storable(operation.changes.values())
    return True
