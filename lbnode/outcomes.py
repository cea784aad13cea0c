"""From what the shards did with a change to what the client is told, and nothing else: values in, an answer out.

A write that not every shard stored is never a success (HTTP_API, "/write"): the answer says for each shard which ids
were stored, refused or unknown, and its status is that of the worst: 504 before 503 before 409.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from twisted.python.failure import Failure

from dbnode.client import OutcomeUnknown, RequestFailed
from dbnode.errors import ApiError
from dbnode.jsonhttp import Response
from dbnode.schema import Schema
from dbnode.wire import Done, Duplicate, KeyReused, Result, Stored, Write
from lbnode import wire
from lbnode.refusals import change_failed, some_ids

#: What became of one shard's part of a change.
Outcome: TypeAlias = Result | RequestFailed
#: A shard's name and what it was asked to store.
Part: TypeAlias = tuple[str, Write]


def outcome_of(result: Result | Failure) -> Outcome:
    """Return what a change's Deferred ended with as an outcome; raises what is none."""
    if not isinstance(result, Failure):
        return result
    error = result.value
    if not isinstance(error, RequestFailed):
        result.raiseException()
    return error


def write_answer(schema: Schema, parts: Sequence[Part], outcomes: Sequence[Outcome]) -> Response:
    """Return the success of a /write; raises ApiError unless every shard stored its part."""
    stored = [outcome.count for outcome in outcomes if isinstance(outcome, Stored)]
    if len(stored) < len(parts):
        raise _write_failed(schema, parts, outcomes)
    return Response(200, wire.rows_added(sum(stored)))


def update_answer(schema: Schema, shard: str, key: int, outcome: Outcome) -> Response:
    """Return the success of an /update; raises ApiError if the row is as it was, or nobody knows."""
    _check_row_changed(schema, shard, key, outcome)
    return Response(200, wire.row_updated(schema, key))


def delete_answer(schema: Schema, shard: str, key: int, outcome: Outcome) -> Response:
    """Return the success of a /del; raises ApiError if the row is still there, or nobody knows."""
    _check_row_changed(schema, shard, key, outcome)
    return Response(200, wire.row_removed(schema, key))


def _check_row_changed(schema: Schema, shard: str, key: int, outcome: Outcome) -> None:
    if isinstance(outcome, Done):
        return
    if isinstance(outcome, RequestFailed):
        raise change_failed(shard, outcome)
    if isinstance(outcome, KeyReused):
        raise _key_reused(shard)
    raise ApiError("not_found", f"there is no row with {schema.key} {key}", status=404, applied="no")


def _write_failed(schema: Schema, parts: Sequence[Part], outcomes: Sequence[Outcome]) -> ApiError:
    failures = [part_failed(schema, part[0], outcome) for part, outcome in zip(parts, outcomes, strict=True)]
    worst = max((failure for failure in failures if failure is not None), key=lambda failure: failure.status)
    if worst.applied == "no" and None in failures:
        worst.applied = "partial"
    if len(parts) > 1:
        worst.text += f"; of {len(parts)} shards {failures.count(None)} stored their part, see 'shards'"
    ids = sorted(id_ for outcome in outcomes if isinstance(outcome, Duplicate) for id_ in outcome.ids)
    if ids:
        worst.extra["ids"] = ids
    worst.extra["shards"] = dict(map(_report, parts, outcomes))
    return worst


def part_failed(schema: Schema, shard: str, outcome: Outcome) -> ApiError | None:
    """Return why one shard's part of a /write is not stored, or not known to be; None if it is."""
    if isinstance(outcome, Stored):
        return None
    if isinstance(outcome, RequestFailed):
        return change_failed(shard, outcome)
    if isinstance(outcome, KeyReused):
        return _key_reused(shard)
    assert isinstance(outcome, Duplicate), outcome
    named = some_ids(outcome.ids)
    text = f"{schema.key} {named} exists already; shard {shard} stored nothing: use free ids, or say on_conflict"
    return ApiError("duplicate", text, status=409, applied="no", extra={"ids": sorted(outcome.ids)})


def _report(part: Part, outcome: Outcome) -> tuple[str, dict[str, Any]]:
    shard, write = part
    ids = [row[0] for row in write.rows]
    if isinstance(outcome, Stored):
        return shard, {"stored": ids} if outcome.count == len(ids) else {"stored": ids, "count": outcome.count}
    return shard, {"unknown" if isinstance(outcome, OutcomeUnknown) else "refused": ids}


def _key_reused(shard: str) -> ApiError:
    text = f"this Idempotency-Key came with another request for shard {shard} before; use a new key for a new request"
    return ApiError("idempotency_key_reused", text, status=409, applied="no")
