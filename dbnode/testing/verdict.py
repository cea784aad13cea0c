"""What must be so after a run of clients and writers against servers that have stopped: nothing lost, one order.

See dbnode.testing.clients for what clients saw of keys that they share, and dbnode.testing.writer for rows of their
own. Anything else than what they are sure of is a Violation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbnode.testing.clients import KEYS, History
from dbnode.testing.content import Content
from dbnode.testing.writer import Violation, Writer
from raftlog.testing.linearizability import check


def judge_history(what: str, history: History) -> None:
    """Raise Violation unless there is an order in which all of this could have happened."""
    wrong = check(history)
    if wrong:
        raise Violation(f"{what}: not linearizable, or undecided: {wrong}")


def judge_rows(what: str, contents: Sequence[Content], writers: Iterable[Writer]) -> int:
    """Raise Violation unless all replicas hold the same, which is what the writers know; return how many rows."""
    if len({(content.digest.row_count, content.digest.digest) for content in contents}) != 1:
        raise Violation(f"{what}: replicas differ: {[content.digest for content in contents]}")
    found = {row[0]: row[1] for row in contents[0].rows if row[0] not in KEYS}
    for writer in writers:
        for id_, value in writer.certain.items():
            if found.pop(id_, None) != value:
                raise Violation(f"{what}: row {id_} must be {value!r}")
        for id_, values in writer.doubtful.items():
            if found.pop(id_, None) not in values:
                raise Violation(f"{what}: row {id_} must be one of {values!r}")
    if found:
        raise Violation(f"{what}: rows that nobody wrote: {found}")
    return contents[0].digest.row_count
