"""Opening a log: lock, read, copy the tail to a fresh segment, and only then let anyone use it.

The copy is what makes a restart after a failed sync safe. The bytes of the last round can be read although they never
reached the disk; the kernel reported that to the process that died of it, and will not report it again (PostgreSQL's
"fsyncgate"). Written to a new file and synced there, they are durable, and the new file's header says how far the old
one counts.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from raftlog.messages import Entry, HardState, Snapshot
from raftlog.wal.commit import HUNG_SECONDS
from raftlog.wal.directory import (
    NEXT_NAME,
    SPARE_NAME,
    Directory,
    OsDirectory,
    lock_directory,
    make_directory,
    segment_name,
)
from raftlog.wal.errors import InvalidRecord, WalDamaged, WalError
from raftlog.wal.image import GroupImage
from raftlog.wal.options import Options
from raftlog.wal.recovery import Recovered, recover
from raftlog.wal.rounds import NoSpace, RoundWriter
from raftlog.wal.space import Space
from raftlog.wal.stage import Stage
from raftlog.wal.wal import Wal

#: What part of a segment makes do on a full disk, for a first few compactions.
SMALL_SEGMENT_PART = 64


@dataclass(slots=True)
class RecoveredGroup:
    """What the log holds of one group. `snapshot` is where its entries begin; they are the caller's to keep.

    `incoming` is a snapshot whose installation was begun (SnapshotIncoming) and not confirmed.
    """

    group_id: int
    replica_id: int
    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry]
    incoming: Snapshot | None = None

    def holds(self, index: int, term: int) -> bool:
        """Return whether the entry at `index` is of `term`, be it here or the last one before these entries."""
        if index == self.snapshot.index:
            return term == self.snapshot.term
        place = index - self.snapshot.index - 1
        return 0 <= place < len(self.entries) and self.entries[place].term == term


"""
open_src="""


def open_wal(
    directory: Path | str,
    *,
    call_from_thread: Callable[[Callable[[], None]], None],
    on_fatal: Callable[[WalError], None],
    options: Options | None = None,
    at_end_of_turn: Callable[[Callable[[], None]], object] | None = None,
) -> tuple[Wal, dict[int, RecoveredGroup]]:
    """Open the log in a directory, creating it if need be, and start its thread. Blocks while it is read.

    `call_from_thread` is reactor.callFromThread. `on_fatal` is called in the reactor's thread at most once; the
    process must then end. With `at_end_of_turn` small writes to a fast disk are done in the reactor's thread (see Wal);
    the process is ended if one of them hangs. Raises WalError if the log is damaged (WalDamaged, with file and offset),
    open in another process (WalLocked), of another version, or if the disk does not take it.
    """
    path = Path(directory)
    make_directory(path)
    release = lock_directory(path)
    try:
        wal, groups = open_on(
            OsDirectory(path),
            call_from_thread=call_from_thread,
            on_fatal=on_fatal,
            options=options or Options(),
            clock=time.monotonic,
            rng=random.SystemRandom(),
            release=release,
            at_end_of_turn=at_end_of_turn,
        )
    except BaseException:
        release()
        raise
    wal.start_thread()
    return wal, groups


def open_on(
    directory: Directory,
    *,
    call_from_thread: Callable[[Callable[[], None]], None],
    on_fatal: Callable[[WalError], None],
    options: Options,
    clock: Callable[[], float],
    rng: random.Random,
    release: Callable[[], None] = lambda: None,
    at_end_of_turn: Callable[[Callable[[], None]], object] | None = None,
) -> tuple[Wal, dict[int, RecoveredGroup]]:
    """Open the log in any Directory, without a thread: `wal.commit.step(0)` then writes one round. See open_wal."""
    try:
        recovered = recover(directory)
        space = Space(directory, options.segment_bytes, options.free_bytes_min)
        space.start()
        _discard_leftovers(directory)
        stage, writer = _continue(directory, space, recovered, options, clock(), rng)
        space.check()
    except OSError as error:
        raise WalError(f"the log cannot be opened: {error}") from error
    wal = Wal(
        stage,
        writer,
        space,
        call_from_thread=call_from_thread,
        on_fatal=on_fatal,
        clock=clock,
        queue_bytes_max=options.queue_bytes_max,
        release=release,
        at_end_of_turn=at_end_of_turn,
        hung=_end_hung_process,
    )
    return wal, {group.group_id: copy_group(group) for group in stage.images.groups.values()}


def _end_hung_process() -> None:
    """End the process from the log's thread; the reactor's is in a system call, and may never come back from it."""
    text = f"the disk has not taken a write for {HUNG_SECONDS} seconds: this process ends\n"
    # Where that goes to the same disk it may hang as well.
    signal.alarm(1)
    with suppress(OSError):
        os.write(2, text.encode())
    os._exit(1)


def copy_group(group: GroupImage) -> RecoveredGroup:
    """Return a group as its owner gets it."""
    return RecoveredGroup(
        group.group_id, group.replica_id, group.hard_state, group.snapshot, list(group.entries), group.incoming
    )


def _continue(
    directory: Directory, space: Space, recovered: Recovered, options: Options, now: float, rng: random.Random
) -> tuple[Stage, RoundWriter]:
    """Begin a fresh segment with everything of the last round in it, and drop what that makes superfluous."""
    last = recovered.segments[-1] if recovered.segments else 0
    stage = Stage(recovered.images, last, options, rng, _affordable_bytes(directory, options))
    writer = RoundWriter(directory, space, recovered.segments, recovered.end, recovered.next_round)
    try:
        chunk = stage.chunk(recovered.tail, lambda: None, now)
        recovered.images.check_complete()
    except InvalidRecord as error:
        raise WalDamaged(segment_name(last), recovered.end, str(error)) from error
    try:
        writer.write([chunk])
    except NoSpace:
        raise WalError("the disk is full: there is no room for another segment of the log") from None
    if last:
        _cut(directory, segment_name(last), recovered.end)
    writer.delete_before(chunk.needed_from)
    return stage, writer


def _affordable_bytes(directory: Directory, options: Options) -> int:
    """Return the length of the first segment: a small one if the disk is full, so that the reserve may last."""
    if directory.free_bytes() >= options.segment_bytes:
        return options.segment_bytes
    return options.segment_bytes // SMALL_SEGMENT_PART


def _cut(directory: Directory, name: str, end: int) -> None:
    """Give back the room after the end of a segment that will not be written again."""
    file = directory.open(name)
    try:
        file.truncate(end)
    finally:
        file.close()


def _discard_leftovers(directory: Directory) -> None:
    """Remove what a crash may have left: files that were to become segments."""
    for name in (NEXT_NAME, SPARE_NAME):
        with suppress(FileNotFoundError):
            directory.remove(name)
