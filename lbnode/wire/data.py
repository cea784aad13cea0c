"""The bodies of the four data requests, checked against the table's schema, and the texts of their success.

Everything that can be wrong with a request without looking into the table is found here, before any shard is asked.
These functions run for every request, so they look a field up before they look for it in another case.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, decode_object, fields, need
from dbnode.schema import Schema, changes_from_object, key_from_json, rows_from_json
from dbnode.wire import (
    LINEARIZABLE,
    ON_CONFLICT_ERROR,
    ON_CONFLICT_IGNORE,
    ON_CONFLICT_REPLACE,
    STALE,
    Delete,
    IdempotencyKey,
    Row,
    Update,
    Write,
)
from lbnode.wire.lines import wanted_as_lines

#: The longest Idempotency-Key; long enough for a UUID with a prefix.
IDEMPOTENCY_KEY_CHARACTERS_MAX = 255

_ON_CONFLICT = {"error": ON_CONFLICT_ERROR, "ignore": ON_CONFLICT_IGNORE, "replace": ON_CONFLICT_REPLACE}
_CONSISTENCY = {"linearizable": LINEARIZABLE, "stale": STALE}

Change = TypeVar("Change", Write, Update, Delete)


class WriteRequest(msgspec.Struct, frozen=True):
    """Rows to store; `on_conflict` is one of dbnode.wire's."""

    rows: tuple[Row, ...]
    on_conflict: int


class ReadRequest(msgspec.Struct, frozen=True):
    """The rows low..high, both inclusive; at most `limit` of them, 0 for all; `consistency` is one of dbnode.wire's.

    `as_lines` asks for one row per line and nothing else.
    """

    low: int
    high: int
    limit: int
    consistency: int
    as_lines: bool = False


def parse_write(headers: Headers, body: bytes, schema: Schema, rows_max: int) -> WriteRequest:
    """Return the checked rows; an id that stands twice is refused here unless `on_conflict` says what to do."""
    present = fields(decode_object(headers, body), "data", "on_conflict")
    data = need(present, "data")
    if isinstance(data, list) and len(data) > rows_max:
        raise ApiError("too_many_rows", f"data has {len(data)} rows; at most {rows_max} are possible", status=413)
    rows = rows_from_json(schema, data)
    on_conflict = _choice(present, "on_conflict", _ON_CONFLICT, ON_CONFLICT_ERROR)
    if len(rows) > 1 and on_conflict == ON_CONFLICT_ERROR:
        _refuse_repeated(rows, schema)
    return WriteRequest(rows, on_conflict)


def parse_read(headers: Headers, body: bytes, schema: Schema) -> ReadRequest:
    """Return the checked range; raises ApiError `bad_range` if it is none or low > high."""
    present = fields(decode_object(headers, body), schema.key, "limit", "consistency")
    wanted = need(present, schema.key)
    if not isinstance(wanted, dict):
        raise ApiError("bad_range", f'{schema.key} must be an object such as {{"low": 0, "high": 99}}')
    ends = fields(wanted, "low", "high")
    low = key_from_json(need(ends, "low"), "low", schema.key)
    high = key_from_json(need(ends, "high"), "high", schema.key)
    if low > high:
        raise ApiError("bad_range", f"low {low} is greater than high {high}; both ends are inclusive")
    consistency = _choice(present, "consistency", _CONSISTENCY, LINEARIZABLE)
    return ReadRequest(low, high, _limit(present), consistency, wanted_as_lines(headers))


def parse_update(headers: Headers, body: bytes, schema: Schema) -> Update:
    """Return the change of one row."""
    present = fields(decode_object(headers, body), schema.key, "data")
    key = key_from_json(need(present, schema.key), schema.key)
    return Update(key, changes_from_object(schema, need(present, "data"), key))


def parse_delete(headers: Headers, body: bytes, schema: Schema) -> Delete:
    """Return which row is to go."""
    present = fields(decode_object(headers, body), schema.key)
    return Delete(key_from_json(need(present, schema.key), schema.key))


def on_conflict_of(headers: Headers) -> int:
    """Return what a /write of lines says about ids that exist already, in its header On-Conflict.

    Raises ApiError `bad_on_conflict`, or `bad_idempotency_key` since one key cannot stand for many changes.
    """
    if headers.get(b"idempotency-key") is not None:
        text = "an Idempotency-Key cannot go with lines of rows; send them again with On-Conflict: ignore"
        raise ApiError("bad_idempotency_key", text)
    given = headers.get(b"on-conflict")
    return _choice({"on_conflict": given and given.decode("latin-1")}, "on_conflict", _ON_CONFLICT, ON_CONFLICT_ERROR)


def keyed(headers: Headers, operation: Change) -> Change:
    """Return the operation with the client's Idempotency-Key and a digest of itself, if the request has one.

    The digest covers what one shard is asked to do, so that a retry is told from another request under the same key.
    """
    given = headers.get(b"idempotency-key")
    if given is None:
        return operation
    if not 1 <= len(given) <= IDEMPOTENCY_KEY_CHARACTERS_MAX or not given.isascii() or not given.decode().isprintable():
        raise ApiError(
            "bad_idempotency_key",
            f"the Idempotency-Key must have 1 to {IDEMPOTENCY_KEY_CHARACTERS_MAX} printable ASCII characters",
        )
    digest = blake2b(msgspec.msgpack.encode(operation), digest_size=16).digest()
    return msgspec.structs.replace(operation, idempotency=IdempotencyKey(given.decode(), digest))


def rows_added(count: int) -> bytes:
    """Return the answer of /write."""
    return b'{"message":"%d Data entries added","status":"success"}' % count


def row_updated(schema: Schema, key: int) -> bytes:
    """Return the answer of /update."""
    return _success(f"Data entry for {schema.key}: {key} updated")


def row_removed(schema: Schema, key: int) -> bytes:
    """Return the answer of /del."""
    return _success(f"Data entry with {schema.key}:{key} removed from all replicas")


def _success(message: str) -> bytes:
    return msgspec.json.encode({"message": message, "status": "success"})


def _refuse_repeated(rows: Iterable[Row], schema: Schema) -> None:
    seen: set[int] = set()
    twice = [row[0] for row in rows if row[0] in seen or seen.add(row[0])]  # type: ignore[func-returns-value]
    if twice:
        ids = sorted(set(twice))
        raise ApiError(
            "duplicate",
            f"{schema.key} {ids[0]} stands more than once in data; ids must differ",
            status=409,
            applied="no",
            extra={"ids": ids},
        )


def _limit(present: dict[str, Any]) -> int:
    limit = present.get("limit")
    if limit is None:
        return 0
    if type(limit) is not int or not 1 <= limit < 1 << 63:
        raise ApiError("bad_limit", "limit must be an integer of at least 1; leave it out for all rows")
    return limit


def _choice(present: dict[str, Any], name: str, choices: dict[str, int], default: int) -> int:
    value = present.get(name)
    if value is None:
        return default
    chosen = choices.get(value) if isinstance(value, str) else None
    if chosen is None:
        raise ApiError(f"bad_{name}", f"{name} must be one of {', '.join(choices)}")
    return chosen
