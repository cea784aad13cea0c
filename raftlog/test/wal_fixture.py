"""A log over a disk in memory, as the tests of raftlog.wal use it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from raftlog.messages import ConfState, Entry, HardState
from raftlog.testing.disk import MemoryDisk
from raftlog.wal import (
    Appended,
    Created,
    Options,
    Record,
    RecoveredGroup,
    Wal,
    WalError,
    open_on,
)

VOTERS = ConfState((1, 2, 3))


def small_options(segment_bytes: int = 16_384, **others: int) -> Options:
    """Return options with which little data makes many segments, and space is not scarce."""
    return Options(segment_bytes=segment_bytes, free_bytes_min=others.pop("free_bytes_min", 0), **others)


def entries(first: int, count: int, term: int = 1, size: int = 20) -> tuple[Entry, ...]:
    """Return entries in a row, each with data that tells its index and term."""
    return tuple(Entry(term, index, b"%d.%d." % (term, index) + b"x" * size) for index in range(first, first + count))


def born(group_id: int, replica_id: int | None = None) -> list[Record]:
    """Return the records of a group's first round."""
    replica_id = group_id * 10 if replica_id is None else replica_id
    return [Created(group_id, replica_id, VOTERS), Appended(group_id, HardState(1, 0, 0))]


class SteppedLog:
    """A process with a log: opened on a disk, written when `step` is called, reopened when the process is gone.

    With `in_turns` it has turns, at the end of which it writes itself what it may; `step` ends one.
    `acknowledged` counts the submits that were acknowledged, and `fatal` holds what on_fatal was told.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        options: Options | None = None,
        deliver: Callable[[Callable[[], None]], None] = lambda call: call(),
        *,
        in_turns: bool = False,
    ) -> None:
        self.rng = random.Random(1)
        self.deliver = deliver
        self.disk = disk or MemoryDisk(self.rng)
        self.options = options or small_options()
        self.now = 0.0
        self.acknowledged = 0
        self.fatal: list[WalError] = []
        self.in_turns = in_turns
        #: What is to be done at the end of this turn.
        self.turn: list[Callable[[], None]] = []
        self.wal: Wal
        self.groups: dict[int, RecoveredGroup]
        self.open()

    def open(self) -> None:
        """Open the log, as a new process does."""
        self.wal, self.groups = open_on(
            self.disk,
            call_from_thread=self.deliver,
            on_fatal=self.fatal.append,
            options=self.options,
            clock=lambda: self.now,
            rng=self.rng,
            at_end_of_turn=self.turn.append if self.in_turns else None,
        )

    def submit(self, records: Sequence[Record]) -> None:
        """Submit without writing."""
        self.wal.submit(records, self._acknowledge)

    def write(self, records: Sequence[Record]) -> None:
        """Submit, and write one round."""
        self.submit(records)
        self.step()

    def step(self) -> None:
        """End the turn, and let the thread write a round."""
        self.end_turn()
        self.wal.commit.step(0)

    def end_turn(self) -> None:
        """Do what is to be done at the end of a turn."""
        due, self.turn[:] = list(self.turn), []
        for call in due:
            call()

    def reopen(self, power_off: bool = True) -> None:
        """End the process without ceremony, with or without a power cut, and start another one."""
        self.disk.restart(power_off)
        self.turn.clear()
        self.open()

    def segments(self) -> list[str]:
        """Return the names of the segments on disk."""
        return [name for name in self.disk.names() if name.endswith(".wal")]

    def _acknowledge(self) -> None:
        self.acknowledged += 1
