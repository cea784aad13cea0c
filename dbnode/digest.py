"""The digest by which replicas are compared."""

from __future__ import annotations

from dbnode.snapshot import RowsDigest, summary
from dbnode.store import SnapshotStore

CHUNK_BYTES = 256 << 10


async def rows_digest(store: SnapshotStore) -> RowsDigest:
    """Return a digest of all rows at one position; every row is read once, a chunk at a time."""
    export = await store.export(CHUNK_BYTES)
    try:
        first = last = await export.next_chunk()
        while (chunk := await export.next_chunk()) is not None:
            last = chunk
    finally:
        await export.close()
    assert first is not None and last is not None
    return summary(first, last)
