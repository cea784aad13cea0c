"""The tables of one shard's replica in PostgreSQL, and the statements that read and write them.

    rows       the table itself, by its key (dbnode.postgres.values says how values become columns)
    position   one row: the last log entry in it, the shard's clock, the number of rows
    state      sessions (sequence 0) and their results, as JSON
    keys       idempotency keys, as JSON
    about      one row: the format, and the columns as they were declared

All tables of a replica are in one schema. Statements are prepared once per connection; values come in as parameters,
names as quoted identifiers. Several statements in one message are one transaction (PostgreSQL, "Multiple Statements in
a Simple Query"), which saves a round trip for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from dbnode.changes import Changes, Image, KeyRecord, Position, Results, SessionMark
from dbnode.postgres.values import Columns, quoted
from dbnode.schema import Schema
from dbnode.store import WrongFileError

#: A release reads its own format; it refuses a newer one.
FORMAT: Final = 1
#: Expired idempotency keys removed per new one; more than 1, so that removal keeps up.
EXPIRED_PER_KEY = 4
#: Rows that a page has at most: their kinds are restored in a few milliseconds.
PAGE_ROWS_MAX: Final = 8192

#: A message for PostgreSQL: statements, and their parameters where %s stands; a percent sign is written %%.
Query: TypeAlias = tuple[str, tuple[Any, ...]]

_encode = msgspec.json.Encoder().encode
_decode_mark = msgspec.json.Decoder(SessionMark).decode
_decode_results = msgspec.json.Decoder(Results).decode
_decode_record = msgspec.json.Decoder(KeyRecord).decode


class Statements:
    """The statements for a table with these columns, kept in the schema `namespace`."""

    def __init__(self, schema: Schema, namespace: str) -> None:
        self._schema = schema
        self.namespace = namespace
        self.columns = Columns(schema)
        self._key = quoted(self.columns.names[0])
        self._rows, self._position, self._state, self._keys, self._about = (
            f"{quoted(namespace)}.{quoted(table)}" for table in ("rows", "position", "state", "keys", "about")
        )

    # ---- the tables -------------------------------------------------------------------------------------------

    def create(self) -> Query:
        """Return what makes an empty replica's tables in their schema."""
        columns = self.columns
        declared = [f"{quoted(n)} {t}" for n, t in zip(columns.names_in_table, columns.types, strict=True)]
        declared[0] += " PRIMARY KEY"
        declared.append(f"{quoted(columns.exact)} json")
        # What changes all the time keeps room on its page, so that a change writes no index.
        return (
            f"CREATE SCHEMA IF NOT EXISTS {quoted(self.namespace)};"
            f"CREATE TABLE {self._rows} ({', '.join(declared)});"
            f"CREATE TABLE {self._position} (applied_index bigint NOT NULL, clock_ms bigint NOT NULL,"
            " row_count bigint NOT NULL) WITH (fillfactor = 10);"
            f"CREATE TABLE {self._state} (session text, sequence bigint, data json NOT NULL,"
            " PRIMARY KEY (session, sequence)) WITH (fillfactor = 50);"
            f"CREATE TABLE {self._keys} (key text PRIMARY KEY, record json NOT NULL, expires_ms bigint NOT NULL);"
            f"CREATE INDEX ON {self._keys} (expires_ms);"
            f"CREATE TABLE {self._about} (format int NOT NULL, columns json NOT NULL);"
            f"INSERT INTO {self._position} VALUES (0, 0, 0);"
            f"INSERT INTO {self._about} VALUES (%s, %s)",
            (FORMAT, self._columns_text()),
        )

    def exists(self) -> Query:
        """Return a question whether the tables are there: one row with a boolean."""
        return "SELECT to_regclass(%s) IS NOT NULL", (self._about,)

    def about(self) -> Query:
        """Return a question whose answer `check` takes."""
        return f"SELECT format, columns::text FROM {self._about}", ()

    def check(self, format_: int, columns: str) -> None:
        """Raise WrongFileError unless the tables are ours to use."""
        if format_ != FORMAT:
            raise WrongFileError(f"schema {self.namespace} has format {format_}; this release reads {FORMAT}")
        if columns != self._columns_text():
            raise WrongFileError(f"schema {self.namespace} holds a table of {columns}, not of {self._columns_text()}")

    def _columns_text(self) -> str:
        return _encode(self._schema.to_json()).decode()

    # ---- preparing --------------------------------------------------------------------------------------------

    def prepare_reads(self) -> str:
        """Return what prepares a connection for what is read."""
        size, selected = self.columns.size(), self.columns.selected()
        in_range = f"FROM {self._rows} WHERE {self._key} BETWEEN $1 AND $2"
        in_order = f"ORDER BY {self._key} LIMIT $3"
        # A row is in the page if all before the one before it leave room: the last is the one that the page ends
        # before. The sum grows along the index, and only what is returned is read in full.
        before = "ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING"
        return (
            f"PREPARE rows_by_id (bigint[]) AS SELECT {selected} FROM {self._rows} WHERE {self._key} = ANY ($1);"
            f"PREPARE records (json) AS SELECT key, record::text FROM {self._keys}"
            " WHERE key IN (SELECT json_array_elements_text($1));"
            f"PREPARE few (bigint, bigint, bigint) AS SELECT {selected} {in_range} {in_order};"
            f"PREPARE whole (bigint, bigint, bigint, bigint) AS SELECT {selected} {in_range}"
            f" AND (SELECT sum(size_) FROM (SELECT {size} AS size_ {in_range} {in_order}) AS found) < $4 {in_order};"
            f"PREPARE page (bigint, bigint, bigint, bigint) AS SELECT {selected}, size_ FROM"
            f" (SELECT *, sum(size_) OVER (ORDER BY {self._key} {before}) AS before_ FROM"
            f" (SELECT *, {size} AS size_ {in_range} {in_order}) AS found) AS summed"
            f" WHERE before_ IS NULL OR before_ < $4 ORDER BY {self._key}"
        )

    def prepare_writes(self) -> str:
        """Return what prepares a connection for `write`."""
        columns = self.columns
        fields = ", ".join([f"c{place} {type_}" for place, type_ in enumerate(columns.types)] + ["exact json"])
        names = [quoted(name) for name in (*columns.names_in_table, columns.exact)]
        replaced = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        state = "session text, sequence bigint, data json"
        keys = "key text, record json, expires_ms bigint"
        return (
            f"PREPARE put_rows (json) AS INSERT INTO {self._rows} SELECT * FROM json_to_recordset($1) AS x ({fields})"
            f" ON CONFLICT ({self._key}) DO UPDATE SET {replaced};"
            f"PREPARE remove_rows (bigint[]) AS DELETE FROM {self._rows} WHERE {self._key} = ANY ($1);"
            f"PREPARE close_sessions (json) AS DELETE FROM {self._state}"
            " WHERE session IN (SELECT json_array_elements_text($1));"
            f"PREPARE forget (json) AS DELETE FROM {self._state} AS s"
            " USING json_to_recordset($1) AS x (session text, acknowledged bigint)"
            " WHERE s.session = x.session AND s.sequence BETWEEN 1 AND x.acknowledged;"
            f"PREPARE put_state (json) AS INSERT INTO {self._state} SELECT * FROM json_to_recordset($1) AS x ({state})"
            " ON CONFLICT (session, sequence) DO UPDATE SET data = excluded.data;"
            f"PREPARE put_keys (json) AS INSERT INTO {self._keys} SELECT * FROM json_to_recordset($1) AS x ({keys})"
            " ON CONFLICT (key) DO UPDATE SET record = excluded.record, expires_ms = excluded.expires_ms;"
            f"PREPARE expire_keys (bigint, bigint) AS DELETE FROM {self._keys} WHERE key IN"
            f" (SELECT key FROM {self._keys} WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2);"
            # NULL is refused, and the whole transaction with it: somebody else has written meanwhile.
            f"PREPARE move (bigint, bigint, bigint, bigint) AS UPDATE {self._position} SET"
            " applied_index = CASE WHEN applied_index = $1 THEN $2 END, clock_ms = $3, row_count = $4"
        )

    # ---- reading ----------------------------------------------------------------------------------------------

    def rows_by_id(self, ids: Iterable[int]) -> Query:
        """Return a question for rows, in any order, as `columns.from_sql` takes them."""
        return "EXECUTE rows_by_id (%s)", (_array(ids),)

    def records(self, keys: list[str]) -> Query:
        """Return a question for idempotency keys; `records_from_sql` takes the answer."""
        return "EXECUTE records (%s)", (_encode(keys).decode(),)

    def range(self, low: int, high: int, limit: int) -> Query:
        """Return a question for the first rows of a range, one more than `limit` if there are more; 0: no limit."""
        return "EXECUTE few (%s, %s, %s)", (low, high, limit + 1 if limit else None)

    def whole_page(self, low: int, high: int, limit: int, bytes_max: int) -> Query:
        """Return a question for the same with at most `page_rows_max` rows, if they are shorter than `bytes_max`.

        Else there is no answer, and `cut_page` has one.
        """
        return "EXECUTE whole (%s, %s, %s, %s)", (low, high, page_rows_max(limit) + 1, bytes_max)

    def cut_page(self, low: int, high: int, limit: int, bytes_max: int) -> Query:
        """Return a question for as many of them as bring a page to `bytes_max`, and one more; sizes stand last."""
        return "EXECUTE page (%s, %s, %s, %s)", (low, high, page_rows_max(limit) + 1, bytes_max)

    def position(self) -> Query:
        """Return a question for the three numbers of a Position."""
        return f"SELECT applied_index, clock_ms, row_count FROM {self._position}", ()

    def state(self) -> Query:
        """Return a question for sessions and results; `image` takes the answer."""
        return f"SELECT session, sequence, data::text FROM {self._state}", ()

    def cursors(self) -> str:
        """Return what declares cursors over everything, for a copy: rows with sizes beside them, state, keys."""
        by_key = f"FROM {self._rows} ORDER BY {self._key}"
        return (
            f"DECLARE rows NO SCROLL CURSOR FOR SELECT {self.columns.selected()} {by_key};"
            f"DECLARE sizes NO SCROLL CURSOR FOR SELECT {self.columns.size()} {by_key};"
            f"DECLARE sessions NO SCROLL CURSOR FOR SELECT session, data::text FROM {self._state}"
            ' WHERE sequence = 0 ORDER BY session COLLATE "C";'
            f"DECLARE results NO SCROLL CURSOR FOR SELECT session, sequence, data::text FROM {self._state}"
            ' WHERE sequence > 0 ORDER BY session COLLATE "C", sequence;'
            f"DECLARE keys NO SCROLL CURSOR FOR SELECT key, record::text FROM {self._keys}"
        )

    # ---- writing ----------------------------------------------------------------------------------------------

    def write(self, changes: Changes, applied_before: int, *, durably: bool = False) -> Query:
        """Return one transaction with all changes to a store that has applied `applied_before`."""
        statements = ["SET LOCAL synchronous_commit = on"] if durably else []
        parameters: list[Any] = []

        def add(statement: str, *values: Any) -> None:
            statements.append(statement)
            parameters.extend(values)

        if changes.upserts:
            add("EXECUTE put_rows (%s)", self.columns.to_json(changes.upserts))
        if changes.deletes:
            add("EXECUTE remove_rows (%s)", _array(changes.deletes))
        if changes.closed:
            add("EXECUTE close_sessions (%s)", _encode(sorted(changes.closed)).decode())
        if changes.sessions:
            marks = [_Forget(name, mark.acknowledged) for name, mark in changes.sessions.items()]
            add("EXECUTE forget (%s)", _encode(marks).decode())
        if changes.sessions or changes.results:
            add("EXECUTE put_state (%s)", _state_text(changes))
        if changes.keys:
            keys = [_Key(key, record, record.expires_ms) for key, record in changes.keys.items()]
            add("EXECUTE put_keys (%s)", _encode(keys).decode())
            add("EXECUTE expire_keys (%s, %s)", changes.position.clock_ms, EXPIRED_PER_KEY * len(keys))
        position = changes.position
        add("EXECUTE move (%s, %s, %s, %s)", applied_before, *msgspec.structs.astuple(position))
        return "; ".join(statements), tuple(parameters)

    def make_durable(self) -> Query:
        """Return a transaction that changes nothing, and is on the disk with all that were before it once it ends."""
        # A commit without a change would not be waited for.
        return f"SET LOCAL synchronous_commit = on; UPDATE {self._position} SET row_count = row_count", ()

    def replace_with(self, imported: str) -> Query:
        """Return a transaction that puts the tables of another schema in the place of these, durably."""
        live, other = quoted(self.namespace), quoted(imported)
        return (
            "SET LOCAL synchronous_commit = on;"
            f"DROP SCHEMA IF EXISTS {live} CASCADE; ALTER SCHEMA {other} RENAME TO {live}",
            (),
        )

    def drop(self, imported: str) -> Query:
        """Return what removes the tables of an import."""
        return f"DROP SCHEMA IF EXISTS {quoted(imported)} CASCADE", ()


class _Forget(msgspec.Struct):
    session: str
    acknowledged: int


class _State(msgspec.Struct):
    session: str
    sequence: int
    data: SessionMark | Results


class _Key(msgspec.Struct):
    key: str
    record: KeyRecord
    expires_ms: int


def _state_text(changes: Changes) -> str:
    state = [_State(name, 0, mark) for name, mark in changes.sessions.items()]
    state += [_State(name, sequence, found) for (name, sequence), found in changes.results.items()]
    return _encode(state).decode()


def page_rows_max(limit: int) -> int:
    """Return how many rows a page with a limit of bytes has at most; a `limit` of 0 is none."""
    return min(limit or PAGE_ROWS_MAX, PAGE_ROWS_MAX)


def _array(ids: Iterable[int]) -> str:
    return "{" + ",".join(map(str, ids)) + "}"


def image(position: tuple[int, int, int], state: Iterable[tuple[str, int, str]]) -> Image:
    """Return what a machine keeps in memory, from the answers to `position` and `state`."""
    sessions, results = {}, {}
    for name, sequence, data in state:
        if sequence:
            results[name, sequence] = _decode_results(data)
        else:
            sessions[name] = _decode_mark(data)
    return Image(Position(*position), sessions, results)


def sessions_from_sql(found: Iterable[tuple[str, str]]) -> list[tuple[str, SessionMark]]:
    """Return sessions from a copy's cursor."""
    return [(name, _decode_mark(data)) for name, data in found]


def results_from_sql(found: Iterable[tuple[str, int, str]]) -> list[tuple[str, int, Results]]:
    """Return results from a copy's cursor."""
    return [(name, sequence, _decode_results(data)) for name, sequence, data in found]


def records_from_sql(found: Iterable[tuple[str, str]]) -> list[tuple[str, KeyRecord]]:
    """Return idempotency keys, from `records` or from a copy's cursor."""
    return [(key, _decode_record(data)) for key, data in found]
