"""Cut a run of rows into pages."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dbnode.changes import Page
from dbnode.wire import Row

#: Rows fetched between two looks at the size of a page.
ROWS_PER_FETCH = 128

_encode = msgspec.msgpack.Encoder().encode


def take_page(fetch: Callable[[int], list[Row]], limit: int, bytes_max: int) -> Page:
    """Return the first page of the rows that `fetch(count)` hands out in order of id, as Store.scan promises.

    Bytes are counted as MessagePack, ROWS_PER_FETCH rows at a time.
    """
    rows: list[Row] = []
    size = 0
    while not limit or len(rows) <= limit:
        block = fetch(ROWS_PER_FETCH)
        rows += block
        if len(block) < ROWS_PER_FETCH:
            break
        size += len(_encode(block)) if bytes_max else 0
        if bytes_max and size >= bytes_max and (not limit or len(rows) <= limit):
            following = fetch(1)
            return Page(rows, following[0][0] if following else None)
    if limit and len(rows) > limit:
        return Page(rows[:limit], rows[limit][0])
    return Page(rows, None)
