"""A walk through every endpoint of a balancer with the table A-1 and no rows: what is asked, and what must come back.

The answers are those of the HTTP contract. Where one depends on chance or on who leads, only what does not is compared.
The walk leaves a table with other servers and no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.door import Door, UnreachableError
from benchmarks.workloads import A_1

_ROW = {"Stud_id": 4095, "Stud_name": 'G|"ö', "Stud_marks": 27}
_OTHER = {"Stud_id": 4096, "Stud_name": "Ada", "Stud_marks": "27"}
_ALL = {"Stud_id": {"low": 0, "high": 16383}}
_SHARDS = ["sh1", "sh2", "sh3", "sh4"]
_NEW_SHARD = {"Stud_id_low": 16384, "Shard_id": "sh5", "Shard_size": 4096}
_LENGTH_MAX = 300


@dataclass(frozen=True, slots=True)
class Probe:
    """One request, and what its answer must have: a status, and these fields. None stands for any value."""

    method: str
    path: str
    body: object = None
    status: int = 200
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe: `problem` is empty if the answer was right."""

    request: str
    problem: str


def probes() -> Iterator[Probe]:
    """Yield all probes in the order in which they must be made."""
    success = {"status": "success"}
    yield Probe("GET", "/healthz", fields=success)
    yield Probe("GET", "/readyz", fields=success)
    yield Probe("GET", "/metrics")
    yield Probe("POST", "/init", A_1.init_request(), fields={"message": "Configured Database", **success})
    yield Probe("POST", "/init", {"N": 1}, 400, {"status": "failure", "code": "missing_field"})
    yield Probe("GET", "/status", fields={"N": 6, "servers": None, "shards": None, "schema": None})
    names = list(A_1.servers)
    yield Probe("GET", "/rep", fields={"message": {"N": 6, "replicas": names}, "status": "successful"})
    yield Probe("GET", "/primary_elect", fields=dict.fromkeys(_SHARDS) | success)
    yield Probe("POST", "/write", {"data": [_ROW, _OTHER]}, fields={"message": "2 Data entries added", **success})
    yield Probe("POST", "/write", {"data": [_ROW]}, 409, {"code": "duplicate", "ids": [4095], "applied": "no"})
    yield Probe("POST", "/write", {"data": [{"Stud_id": 1}]}, 400, {"code": "missing_column"})
    yield Probe("POST", "/read", _ALL, fields={"shards_queried": _SHARDS, "data": [_ROW, _OTHER], **success})
    yield Probe("GET", "/read", {**_ALL, "consistency": "stale"}, fields={"shards_queried": _SHARDS})
    changed = {**_ROW, "Stud_marks": 28}
    updated = "Data entry for Stud_id: 4095 updated"
    yield Probe("PUT", "/update", {"Stud_id": 4095, "data": {"Stud_marks": 28}}, fields={"message": updated})
    yield Probe("GET", "/read/Server0", fields={"sh1": [changed], "sh2": [_OTHER], **success})
    yield Probe("GET", "/read/Nobody", None, 404, {"code": "unknown_server"})
    new = {"Server7": ["sh1", "sh5"], "Server8": []}
    added = {"N": 8, "message": "Add Server:7 and Server:8", "status": "successful"}
    yield Probe("POST", "/add", {"n": 2, "new_shards": [_NEW_SHARD], "servers": new}, fields=added)
    yield Probe("POST", "/add", {"n": 9, "servers": new}, 400, {"code": "bad_count"})
    removed = {"message": {"N": 7, "servers": ["Server0"]}, "status": "successful"}
    yield Probe("DELETE", "/rm", {"n": 1, "servers": ["Server0"]}, fields=removed)
    yield Probe("DELETE", "/rm", {"n": 1, "servers": ["Server0"]}, 400, {"code": "unknown_server"})
    yield Probe("POST", "/read", _ALL, fields={"data": [changed, _OTHER]})
    for row_id in (4095, 4096):
        message = f"Data entry with Stud_id:{row_id} removed from all replicas"
        yield Probe("DELETE", "/del", {"Stud_id": row_id}, fields={"message": message, **success})
    yield Probe("DELETE", "/del", {"Stud_id": 4095}, 404, {"code": "not_found", "applied": "no"})
    yield Probe("GET", "/write", None, 405, {"code": "method_not_allowed"})
    yield Probe("GET", "/nowhere", None, 404, {"code": "unknown_path"})


async def walk(door: Door, deadline_seconds: float) -> list[Probed]:
    """Make all probes, one after the other, and judge the answers."""
    return [await _probe(door, probe, deadline_seconds) for probe in probes()]


async def _probe(door: Door, probe: Probe, deadline_seconds: float) -> Probed:
    request = f"{probe.method} {probe.path}"
    try:
        response = await door.ask(probe.method, probe.path, probe.body, deadline_seconds=deadline_seconds)
    except UnreachableError as reason:
        return Probed(request, str(reason))
    return Probed(request, judge(probe, response.status, response.body))


def judge(probe: Probe, status: int, body: bytes) -> str:
    """Return what is wrong with an answer, "" if nothing is."""
    said = body[:_LENGTH_MAX].decode(errors="replace")
    if status != probe.status:
        return f"answered {status} instead of {probe.status}: {said}"
    if probe.fields is None:
        return ""
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return f"is no JSON object: {said}"
    for name, value in probe.fields.items():
        if name not in answer or (value is not None and answer[name] != value):
            return f"has not {name} = {msgspec.json.encode(value).decode()}: {said}"
    return ""
