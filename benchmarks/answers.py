"""Judges a balancer's answers by what HTTP_API promises, and says what a failed request may have changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from benchmarks.client import Check
from benchmarks.measure import Failed
from benchmarks.workloads import Record


class _Message(msgspec.Struct):
    """The answer to a change."""

    message: str
    status: str


class _Status(msgspec.Struct):
    """What all answers of a success have."""

    status: str


class _Rows(msgspec.Struct):
    """The answer to a read."""

    data: list[Record]
    status: str


class _Error(msgspec.Struct):
    """The answer to what failed."""

    code: str
    applied: str | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_STATUS = msgspec.json.Decoder(_Status)
_ROWS = msgspec.json.Decoder(_Rows)
_ERROR = msgspec.json.Decoder(_Error)

#: A 200 with another body than promised: nobody can say what happened.
_WRONG = Failed("wrong answer", "unknown")


def rows_stored(rows: int) -> Check:
    """Return the check of writes of so many rows."""
    promised = _Message(f"{rows} Data entries added", "success")

    def check(index: int, status: int, body: bytes) -> Failed | None:
        if status != 200:
            return refusal(status, body)
        return None if _message(body) == promised else _WRONG

    return check


def row_changed(index: int, status: int, body: bytes) -> Failed | None:
    """Judge the answer to an update or a delete of a row that exists."""
    if status != 200:
        return refusal(status, body)
    message = _message(body)
    return None if message is not None and message.status == "success" else _WRONG


def constant(index: int, status: int, body: bytes) -> Failed | None:
    """Judge the answer of a server that answers the same to everything; costs what judging a write costs."""
    if status != 200:
        return refusal(status, body)
    return None if _STATUS.decode(body) == _Status("success") else _WRONG


def reads_of(records: Sequence[Record], written: Collection[int], unknown: Collection[int]) -> Check:
    """Return the check of one read per record.

    A row whose id is in `written` must come back as it is; one in `unknown` may; no other may.
    """

    def check(index: int, status: int, body: bytes) -> Failed | None:
        if status != 200:
            return refusal(status, body)
        record = records[index]
        rows = rows_of(body)
        if rows == [record]:
            right = record.Stud_id in written or record.Stud_id in unknown
        else:
            right = rows == [] and record.Stud_id not in written
        return None if right else _WRONG

    return check


def refusal(status: int, body: bytes) -> Failed:
    """Describe an answer that is not 200. What says nothing of being applied may have been, unless it is a 4xx."""
    try:
        error = _ERROR.decode(body)
    except msgspec.DecodeError:
        return Failed(f"{status} without a JSON error", "unknown")
    applied = error.applied or ("no" if 400 <= status < 500 else "unknown")
    return Failed(f"{status} {error.code}", "no" if applied == "no" else "unknown")


def _message(body: bytes) -> _Message | None:
    try:
        return _MESSAGE.decode(body)
    except msgspec.DecodeError:
        return None


def rows_of(body: bytes) -> list[Record] | None:
    """Return the rows of the answer to a read, None if it is none."""
    try:
        answer = _ROWS.decode(body)
    except msgspec.DecodeError:
        return None
    return answer.data if answer.status == "success" else None
