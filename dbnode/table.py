"""What operations do to rows, and what an idempotency key does to an operation.

A Write stores all of its rows or none. By its on_conflict an id that is already there, in the table or earlier in
the same Write,
    error    refuses the Write: Duplicate names every such id once, in the order of the rows;
    ignore   leaves the row that was there first; Stored counts the rows that were stored;
    replace  gives way to the row that comes last; Stored counts each id once.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbnode.changes import KeyRecord, Loaded
from dbnode.wire import (
    ON_CONFLICT_ERROR,
    ON_CONFLICT_REPLACE,
    Delete,
    Done,
    Duplicate,
    IdempotencyKey,
    KeyReused,
    NotFound,
    Operation,
    Result,
    Row,
    Stored,
    Update,
    Write,
)

#: How long the outcome under an idempotency key is kept, by the shard's own clock: 24 hours.
KEY_RETENTION_MS = 24 * 3600 * 1000

_DONE = Done()
_NOT_FOUND = NotFound()
_KEY_REUSED = KeyReused()


class TableLayer:
    """What a transaction does to rows and keys, laid over what was loaded of them."""

    def __init__(self, loaded: Loaded) -> None:
        self._before = loaded.rows
        self._rows = dict(loaded.rows)
        self._changed: set[int] = set()
        self._keys = loaded.keys
        #: The keys used for the first time, or again after they had expired.
        self.recorded: dict[str, KeyRecord] = {}

    @property
    def row_count_change(self) -> int:
        """How many rows the table has more than before."""
        return len(self._rows) - len(self._before)

    def changes(self) -> tuple[list[Row], list[int]]:
        """Return the rows to be stored and the ids of rows to be removed."""
        rows = self._rows
        upserts = [rows[id_] for id_ in self._changed if id_ in rows]
        deletes = [id_ for id_ in self._changed if id_ not in rows and id_ in self._before]
        return upserts, deletes

    def apply(self, operation: Operation, clock_ms: int) -> Result:
        """Carry out one operation, or return the first outcome under its idempotency key."""
        key = operation.idempotency
        if key is None:
            return self._carry_out(operation)
        known = self.recorded.get(key.key) or self._keys.get(key.key)
        if known is not None and known.expires_ms > clock_ms:
            return known.result if known.digest == key.digest else _KEY_REUSED
        return self._carry_out_first(operation, key, clock_ms)

    def _carry_out_first(self, operation: Operation, key: IdempotencyKey, clock_ms: int) -> Result:
        result = self._carry_out(operation)
        self.recorded[key.key] = KeyRecord(key.digest, result, clock_ms + KEY_RETENTION_MS)
        return result

    def _carry_out(self, operation: Operation) -> Result:
        if isinstance(operation, Write):
            return self._write(operation.rows, operation.on_conflict)
        if isinstance(operation, Update):
            return self._update(operation)
        return self._delete(operation)

    def _write(self, rows: Sequence[Row], on_conflict: int) -> Result:
        new = {row[0]: row for row in rows}
        if len(new) == len(rows) and self._rows.keys().isdisjoint(new):
            self._store(new)
            return Stored(len(new))
        if on_conflict == ON_CONFLICT_ERROR:
            return Duplicate(_duplicates(rows, self._rows))
        if on_conflict != ON_CONFLICT_REPLACE:
            new = {row[0]: row for row in reversed(rows) if row[0] not in self._rows}
        self._store(new)
        return Stored(len(new))

    def _update(self, operation: Update) -> Result:
        row = self._rows.get(operation.id)
        if row is None:
            return _NOT_FOUND
        values = list(row)
        for place, value in operation.changes.items():
            values[place] = value
        self._store({operation.id: tuple(values)})
        return _DONE

    def _delete(self, operation: Delete) -> Result:
        if self._rows.pop(operation.id, None) is None:
            return _NOT_FOUND
        self._changed.add(operation.id)
        return _DONE

    def _store(self, rows: dict[int, Row]) -> None:
        self._rows.update(rows)
        self._changed.update(rows)


def _duplicates(rows: Sequence[Row], present: dict[int, Row]) -> tuple[int, ...]:
    seen: set[int] = set()
    twice: dict[int, None] = {}
    for row in rows:
        if row[0] in present or row[0] in seen:
            twice[row[0]] = None
        seen.add(row[0])
    return tuple(twice)
