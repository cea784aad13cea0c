"""Rows that follow from their ids alone, so that a million of them can be checked without being remembered."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from benchmarks.workloads import Record

#: Odd, for a permutation; see Knuth, TAOCP 6.4, on the golden section.
_SPREAD, _64_BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1
#: The rows of an answer to /read, wherever a part of it is cut: they hold no braces but their own.
_ROW = re.compile(rb"\{\"Stud_id\":[^{}]*\}")
_ROWS = msgspec.json.Decoder(list[Record])


class WrongRowsError(Exception):
    """What was read back is not what was acknowledged."""


def row_at(row_id: int) -> Record:
    """Return the row of an id: a name of 16 bytes and a mark below 101."""
    mixed = row_id * _SPREAD & _64_BITS
    return Record(row_id, f"{mixed:016x}", mixed % 101)


def csv(row_ids: Iterable[int]) -> bytes:
    """Return rows as PostgreSQL's COPY reads them."""
    rows = map(row_at, row_ids)
    return "".join(f"{row.Stud_id},{row.Stud_name},{row.Stud_marks}\n" for row in rows).encode()


class RowReader:
    """Takes the body of a streamed read in pieces and checks that ids 0, 1, 2 … come back, each as it was written.

    Between pieces it keeps the beginning of one row.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Check the rows that this piece completes. Raises WrongRowsError."""
        self.bytes += len(piece)
        data = self._rest + piece
        end = data.rfind(b"}") + 1
        self._rest = data[end:]
        for row in _ROWS.decode(b"[" + b",".join(_ROW.findall(data, 0, end)) + b"]"):
            if row != row_at(self.rows):
                raise WrongRowsError(f"row {self.rows} came back as {row}")
            self.rows += 1

    def close(self, rows: int) -> None:
        """Check that there were so many rows, and that the answer had its end. Raises WrongRowsError."""
        if self.rows != rows:
            raise WrongRowsError(f"{self.rows} rows came back of {rows}")
