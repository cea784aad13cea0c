"""A process that writes to a log as fast as it can until it is killed: python -m raftlog.test.wal_child DIR.

It says on standard output what was acknowledged, an 8-byte index at a time, and nothing before it was.
"""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable
from functools import partial

from raftlog.messages import HardState
from raftlog.test.wal_fixture import VOTERS, born, entries, small_options
from raftlog.wal import Appended, Compacted, Record, WalError, open_wal

#: How many submits are on their way at a time, and how many live entries are kept.
WINDOW = 8
KEEP = 50


def main(directory: str) -> None:
    """Go on where the last process was killed."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    wal, groups = open_wal(
        directory,
        call_from_thread=calls.put,
        on_fatal=die,
        options=small_options(segment_bytes=16_384),
    )
    if not groups:
        wal.submit(born(1), lambda: None)
    index = groups[1].entries[-1].index if groups else 0
    acknowledged = index
    while True:
        while index < acknowledged + WINDOW:
            index += 1
            records: list[Record] = [Appended(1, HardState(1, 0, index), entries(index, 1, size=index % 300))]
            if index > KEEP and index % 10 == 0:
                records.append(Compacted(1, index - KEEP, 1, VOTERS))
            wal.submit(records, partial(tell, index))
        calls.get()()
        acknowledged += 1


def tell(index: int) -> None:
    """Tell the parent that an entry is acknowledged."""
    os.write(1, index.to_bytes(8, "big"))


def die(error: WalError) -> None:
    """End the process at once, as on_fatal must."""
    sys.stderr.write(f"{error}\n")
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
