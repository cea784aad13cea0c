"""The real log over a simulated disk, without its thread: rounds are written when the disk gets to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from raftlog.testing.simulation.clock import ProcessClock
from raftlog.wal import Appended, Record, RecoveredGroup, Wal

#: How often a log that found no room for its next segment tries again.
RETRY_SECONDS = 0.5


class SimulatedWal:
    """A WriteAheadLog. `delay_seconds` says how long the disk takes for the next round.

    `happened` counts the kinds of records, and truncations.
    """

    def __init__(
        self,
        wal: Wal,
        recovered: dict[int, RecoveredGroup],
        clock: ProcessClock,
        delay_seconds: Callable[[], float],
        happened: Counter[str],
    ) -> None:
        self._wal = wal
        self._clock = clock
        self._delay_seconds = delay_seconds
        self._happened = happened
        self._due = False
        self._last = {
            group_id: found.snapshot.index + len(found.entries) for group_id, found in sorted(recovered.items())
        }

    def submit(self, records: Sequence[Record], done: Callable[[], None]) -> None:
        """See WriteAheadLog."""
        for record in records:
            self._count(record)
        self._wal.submit(records, done)
        self._write_after(self._delay_seconds())

    def end_turn(self, write: Callable[[], None]) -> None:
        """Let the log write at the end of a turn; what it leaves to its thread is written when the disk gets to it."""
        rounds = self._wal.stats.rounds
        write()
        if self._wal.stats.rounds > rounds:
            self._happened["log: written in turn"] += 1
        self._write_after(self._delay_seconds())

    def _count(self, record: Record) -> None:
        self._happened[f"log: {type(record).__name__}"] += 1
        if isinstance(record, Appended) and record.entries:
            if record.entries[0].index <= self._last.get(record.group_id, 0):
                self._happened["log: truncated"] += 1
            self._last[record.group_id] = record.entries[-1].index

    def _write_after(self, seconds: float) -> None:
        if not self._due:
            self._due = True
            self._clock.callLater(seconds, self._write)

    def _write(self) -> None:
        self._due = False
        rounds = self._wal.stats.rounds
        goes_on = self._wal.commit.step(0)
        if not goes_on or not self._wal.oldest_unsynced_seconds():
            return
        if self._wal.stats.rounds > rounds:
            # What is left begins another segment.
            self._write_after(self._delay_seconds())
        else:
            self._happened["disk: no space"] += 1
            self._write_after(RETRY_SECONDS)

    @property
    def overloaded(self) -> bool:
        """See WriteAheadLog."""
        return self._wal.overloaded

    @property
    def free_bytes_low(self) -> bool:
        """See WriteAheadLog."""
        return self._wal.free_bytes_low

    def pinning_groups(self) -> list[int]:
        """See WriteAheadLog."""
        return self._wal.pinning_groups()

    def group_bytes(self, group_id: int) -> int:
        """See WriteAheadLog."""
        return self._wal.group_bytes(group_id)

    def oldest_unsynced_seconds(self) -> float:
        """See WriteAheadLog."""
        return self._wal.oldest_unsynced_seconds()

    def close(self) -> None:
        """See WriteAheadLog."""
        self._wal.close()
