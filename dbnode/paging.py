"""Cut a run of rows into pages."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dbnode.changes import Page
from dbnode.wire import Row

_encode = msgspec.msgpack.Encoder().encode


def take_page(rows: Iterator[Row], limit: int, bytes_max: int) -> Page:
    """Return the first page of rows that come in order of id, as Store.scan promises.

    Rows are taken and measured, as MessagePack, one by one: a few of them may be longer than all others together.
    """
    taken: list[Row] = []
    size = 0
    for row in rows:
        taken.append(row)
        size += len(_encode(row)) if bytes_max else 0
        if len(taken) == limit or (bytes_max and size >= bytes_max):
            following = next(rows, None)
            return Page(taken, following[0] if following else None)
    return Page(taken, None)
