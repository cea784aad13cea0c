"""What a leader does about a disk of its own that is stuck or full (RAFT_RULES 14, 16), or a stuck state machine.

Its followers' disks can carry the group without it, so it hands over: if its writes wait longer than an election
takes while entries are committed without it, and if its disk is nearly full. Where everybody is stuck alike, since
all share one disk, nothing is committed without anybody and nobody hands over; a server that is full itself is never
handed anything. Handing over is not repeated at once, and a disk that stays stuck ends the process. While the log is
written in the reactor's own thread (raftlog.wal.pace) a disk that gets stuck stops that too: the others elect another
leader, and the log's thread ends the process.

A state machine that has been at the same entries for long, since its database is away or its disk is full, keeps its
leader from answering anybody. Others may be better off; whether they are, nobody knows before they have tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from raftlog.group import Group
from raftlog.options import Times
from raftlog.wal.commit import HUNG_SECONDS

#: Between two attempts to hand over a group.
PAUSE_SECONDS = 5.0
#: A state machine that is at the same entries for so long is stuck; the longest take a second or two.
MACHINE_STUCK_SECONDS = 3.0
#: Between two looks at state machines.
MACHINE_LOOK_SECONDS = 0.5


class Disk(Protocol):
    """What is looked at of the write-ahead log."""

    @property
    def free_bytes_low(self) -> bool:
        """Whether the disk is nearly full."""

    def oldest_unsynced_seconds(self) -> float:
        """How long the oldest write has been waiting."""


class DiskWatch:
    """Looks at the disk of a Node. `may_take` tells whether a server is alive and its disk is not full itself."""

    def __init__(
        self,
        disk: Disk,
        groups: Mapping[int, Group],
        times: Times,
        *,
        may_take: Callable[[str], bool],
        wake: Callable[[Group], None],
        give_up: Callable[[str], None],
    ) -> None:
        self._disk = disk
        self._groups = groups
        self._stuck_after_seconds = times.election_ticks * times.tick_seconds
        self._may_take = may_take
        self._wake = wake
        self._give_up = give_up
        self._next_seconds = 0.0
        self._next_machines_seconds = 0.0
        #: State machines at work, by group: the index from which they are, and since when that was seen.
        self._at_work: dict[int, tuple[int, float]] = {}
        #: Groups handed over so far.
        self.handovers = 0

    def look(self, now_seconds: float) -> None:
        """Hand over what this server leads and should not, if it is time."""
        waiting_seconds = self._disk.oldest_unsynced_seconds()
        if waiting_seconds > HUNG_SECONDS:
            self._give_up(f"the disk has not taken a write for {waiting_seconds:.0f} seconds")
            return
        self._look_at_machines(now_seconds)
        stuck, full = waiting_seconds > self._stuck_after_seconds, self._disk.free_bytes_low
        if (not stuck and not full) or now_seconds < self._next_seconds:
            return
        self._next_seconds = now_seconds + PAUSE_SECONDS
        for group in self._groups.values():
            if group.is_leader and (full or group.commits_without_own_disk):
                self._hand_over(group)

    def _look_at_machines(self, now_seconds: float) -> None:
        if now_seconds < self._next_machines_seconds:
            return
        self._next_machines_seconds = now_seconds + MACHINE_LOOK_SECONDS
        before, self._at_work = self._at_work, {}
        for group_id, group in self._groups.items():
            index = group.applying_from
            if index is None or not group.is_leader:
                continue
            seen_index, since_seconds = before.get(group_id, (index, now_seconds))
            if seen_index != index:
                since_seconds = now_seconds
            if now_seconds - since_seconds > MACHINE_STUCK_SECONDS:
                self._hand_over(group)
                since_seconds = now_seconds
            self._at_work[group_id] = (index, since_seconds)

    def _hand_over(self, group: Group) -> None:
        for replica_id in group.successors():
            if self._may_take(group.peers.get(replica_id, "")):
                self.handovers += 1
                group.raw.transfer_leader(replica_id)
                self._wake(group)
                return
