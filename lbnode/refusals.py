"""What a client is told when shards or servers fail: 503 it was not done, 504 nobody can say (RAFT_RULES 41)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbnode.client import OutcomeUnknown, RequestFailed
from dbnode.errors import ApiError
from dbnode.wire import OVERLOADED, TOO_LARGE

#: A shard without a leader has one again after an election or two, which take less than this.
RETRY_AFTER_SECONDS = 1

#: How many ids a text names; the field `ids` of the answer has all of them.
_IDS_IN_TEXT_MAX = 5


def not_initialised() -> ApiError:
    """Return what everybody is told who wants something of a table before there is one."""
    return ApiError("not_initialised", "there is no table yet; POST /init makes one", status=409)


def some_ids(ids: Sequence[int]) -> str:
    """Return a few of the ids, for a text that must stay readable."""
    return ", ".join(map(str, ids[:_IDS_IN_TEXT_MAX])) + ("…" if len(ids) > _IDS_IN_TEXT_MAX else "")


def read_failed(shard: str, error: RequestFailed) -> ApiError:
    """Return why a read has no answer: too much waits, or no replica could answer in time."""
    if error.code == OVERLOADED:
        code, text = "overloaded", f"shard {shard}: {error.text}; try again later"
    else:
        code, text = "no_quorum", f"shard {shard} has no majority that answers in time ({error.text}); try again later"
    return ApiError(code, text, status=503, retry_after_seconds=RETRY_AFTER_SECONDS)


def change_failed(shard: str, error: RequestFailed) -> ApiError:
    """Return what is known of a change that has no result; the answer's `applied` is `no` or `unknown`."""
    if error.code == TOO_LARGE and not isinstance(error, OutcomeUnknown):
        return ApiError("too_large", f"shard {shard}: {error.text}; send it in parts", status=413, applied="no")
    if not isinstance(error, OutcomeUnknown):
        refusal = read_failed(shard, error)
        refusal.applied = "no"
        return refusal
    return ApiError(
        "outcome_unknown",
        f"shard {shard} did not say in time whether it made the change ({error.text}); "
        "sent again with the same Idempotency-Key it is made once, and its outcome told",
        status=504,
        applied="unknown",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def launch_failed(what: str, failures: Mapping[str, str]) -> ApiError:
    """Return what a client is told when servers fail to do `what`; `failures` says why, by name."""
    server, reason = min(failures.items())
    others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return ApiError("start_failed", f"{server}{others} {what}: {reason}", status=503, retry_after_seconds=1)
