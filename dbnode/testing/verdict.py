"""What must be so after a run of clients and writers against servers that have stopped: nothing lost, one order.

See dbnode.testing.clients for what clients saw of keys that they share, and dbnode.testing.writer for rows of their
own. Anything else than what they are sure of is a Violation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, execute

from dbnode.digest import rows_digest
from dbnode.schema import INT64_MAX, INT64_MIN
from dbnode.snapshot import RowsDigest
from dbnode.sqlite import SqliteStore
from dbnode.testing.clients import KEYS, History
from dbnode.testing.process_cluster import SCHEMA
from dbnode.testing.writer import Violation, Writer
from dbnode.wire import Row
from raftlog.testing.linearizability import check


def judge_history(what: str, history: History) -> None:
    """Raise Violation unless there is an order in which all of this could have happened."""
    wrong = check(history)
    if wrong:
        raise Violation(f"{what}: not linearizable, or undecided: {wrong}")


def judge_rows(what: str, files: Sequence[Path], writers: Iterable[Writer]) -> int:
    """Raise Violation unless all stores hold the same, which is what the writers know; return how many rows."""
    contents = [_content(path) for path in files]
    if len({(digest.row_count, digest.digest) for digest, _ in contents}) != 1:
        raise Violation(f"{what}: replicas differ: {[digest for digest, _ in contents]}")
    found = {row[0]: row[1] for row in contents[0][1] if row[0] not in KEYS}
    for writer in writers:
        for id_, value in writer.certain.items():
            if found.pop(id_, None) != value:
                raise Violation(f"{what}: row {id_} must be {value!r}")
        for id_, values in writer.doubtful.items():
            if found.pop(id_, None) not in values:
                raise Violation(f"{what}: row {id_} must be one of {values!r}")
    if found:
        raise Violation(f"{what}: rows that nobody wrote: {found}")
    return contents[0][0].row_count


def _content(path: Path) -> tuple[RowsDigest, list[Row]]:
    """Return what a stopped server's store holds."""
    store = SqliteStore(path, SCHEMA, execute)
    store.open()
    digests: list[RowsDigest] = []
    _ = Deferred.fromCoroutine(rows_digest(store)).addCallback(digests.append)
    page = store.scan(INT64_MIN, INT64_MAX, 0, 0)
    rows: list[Row] = []
    if isinstance(page, Deferred):
        _ = page.addCallback(lambda page: rows.extend(page.rows))
    else:
        rows.extend(page.rows)
    _ = store.close()
    return digests[0], rows
