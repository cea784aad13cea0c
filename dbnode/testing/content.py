"""What a server that has stopped holds, whatever it keeps its shards in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, execute

from dbnode.changes import Page
from dbnode.datadir import DataDirectory
from dbnode.digest import rows_digest
from dbnode.schema import INT64_MAX, INT64_MIN, Schema
from dbnode.snapshot import RowsDigest
from dbnode.storage import storage_of
from dbnode.store import SnapshotStore
from dbnode.wire import Row


class Content(msgspec.Struct, frozen=True):
    """The rows of a replica, and their digest."""

    digest: RowsDigest
    rows: list[Row]


async def contents_of(reactor: Any, directory: Path, replicas: Mapping[int, int], schema: Schema) -> dict[int, Content]:
    """Return what the server in `directory` holds of each group; `replicas` are its replica ids by group."""
    data = DataDirectory(directory)
    identity = data.identify(None, None, "")
    storage = storage_of(data.storage(None), reactor, data, identity, execute, None)
    await storage.start()
    try:
        return {
            group_id: await _content(storage.store(group_id, replica_id, schema))
            for group_id, replica_id in replicas.items()
        }
    finally:
        await storage.stop()


async def _content(store: SnapshotStore) -> Content:
    opened = store.open()
    if isinstance(opened, Deferred):
        await opened
    try:
        digest = await rows_digest(store)
        found = store.scan(INT64_MIN, INT64_MAX, 0, 0)
        page: Page = await found if isinstance(found, Deferred) else found
        return Content(digest, page.rows)
    finally:
        await store.close()
