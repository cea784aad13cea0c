"""How a row is written and read over HTTP: with us, with etcd's JSON gateway, and with a server of constants.

A dialect makes request bytes and judges answers; it knows no sockets. In etcd a row is one key, its id in decimal,
and one value, the row's JSON: what we store in three columns of a row.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import msgspec

from benchmarks import answers
from benchmarks.client import Check
from benchmarks.measure import Failed
from benchmarks.workloads import Record, http_request


class Dialect(Protocol):
    """One server's way of saying it."""

    def write(self, rows: Sequence[Record]) -> bytes:
        """Return the request that stores rows. Only ours takes more than one."""
        ...

    def written(self, rows: int) -> Check:
        """Return the check of answers to writes of so many rows."""
        ...

    def read(self, row_id: int) -> bytes:
        """Return the request that reads one row."""
        ...

    def reads_of(self, records: Sequence[Record], unknown: Collection[int]) -> Check:
        """Return the check of one read per record; all were acknowledged but those whose ids are `unknown`."""
        ...


class TableDialect:
    """Ours; `consistency` is that of reads, "linearizable" or "stale"."""

    def __init__(self, host: str, consistency: str = "linearizable") -> None:
        self._host = host
        self._stale = {} if consistency == "linearizable" else {"consistency": consistency}

    def write(self, rows: Sequence[Record]) -> bytes:
        """Return a POST /write."""
        return http_request("POST", "/write", self._host, {"data": rows})

    def written(self, rows: int) -> Check:
        """Return the check that exactly so many rows were stored."""
        return answers.rows_stored(rows)

    def read(self, row_id: int) -> bytes:
        """Return a POST /read of one id; the default consistency goes without saying."""
        return http_request("POST", "/read", self._host, {"Stud_id": {"low": row_id, "high": row_id}, **self._stale})

    def reads_of(self, records: Sequence[Record], unknown: Collection[int]) -> Check:
        """Return the check that each row comes back as it is."""
        return answers.reads_of(records, {one.Stud_id for one in records} - set(unknown), unknown)


class ConstantDialect:
    """The same requests to a server that answers a constant."""

    def __init__(self, host: str) -> None:
        self._ours = TableDialect(host)
        self._host = host

    def write(self, rows: Sequence[Record]) -> bytes:
        """Return a POST /write."""
        return self._ours.write(rows)

    def written(self, rows: int) -> Check:
        """Return the check of the constant."""
        return answers.constant

    def read(self, row_id: int) -> bytes:
        """Return a POST /read."""
        return self._ours.read(row_id)

    def reads_of(self, records: Sequence[Record], unknown: Collection[int]) -> Check:
        """Return the check of the constant."""
        return answers.constant


class _KeyValue(msgspec.Struct):
    """One pair of a range's answer, in base64."""

    key: str
    value: str


class _Range(msgspec.Struct):
    """The answer to /v3/kv/range; without pairs if there are none."""

    kvs: list[_KeyValue] = []


class _Put(msgspec.Struct):
    """The answer to /v3/kv/put, which tells the revision."""

    header: dict[str, Any]


_RANGE = msgspec.json.Decoder(_Range)
_PUT = msgspec.json.Decoder(_Put)
_WRONG = Failed("wrong answer", "unknown")


class EtcdDialect:
    """The JSON gateway of etcd 3.4 and later; reads are linearizable, as they are by default."""

    def __init__(self, host: str) -> None:
        self._host = host

    def write(self, rows: Sequence[Record]) -> bytes:
        """Return a put of one row."""
        (row,) = rows
        return http_request("POST", "/v3/kv/put", self._host, {"key": _key(row.Stud_id), "value": _value(row)})

    def written(self, rows: int) -> Check:
        """Return the check that a put was done."""

        def check(index: int, status: int, body: bytes) -> Failed | None:
            if status != 200:
                return Failed(f"{status}", "unknown")
            try:
                return None if "revision" in _PUT.decode(body).header else _WRONG
            except msgspec.DecodeError:
                return _WRONG

        return check

    def read(self, row_id: int) -> bytes:
        """Return a range of one key."""
        return http_request("POST", "/v3/kv/range", self._host, {"key": _key(row_id)})

    def reads_of(self, records: Sequence[Record], unknown: Collection[int]) -> Check:
        """Return the check that each row comes back as it is."""

        def check(index: int, status: int, body: bytes) -> Failed | None:
            if status != 200:
                return Failed(f"{status}", "unknown")
            try:
                pairs = _RANGE.decode(body).kvs
            except msgspec.DecodeError:
                return _WRONG
            record = records[index]
            right = [b64decode(pair.value) for pair in pairs] == [msgspec.json.encode(record)]
            return None if right or (not pairs and record.Stud_id in unknown) else _WRONG

        return check


def _key(row_id: int) -> str:
    return b64encode(b"%d" % row_id).decode()


def _value(row: Record) -> str:
    return b64encode(msgspec.json.encode(row)).decode()


def bodies(requests: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the bodies of whole requests, for a client that makes the heads itself."""
    return tuple(request.partition(b"\r\n\r\n")[2] for request in requests)
