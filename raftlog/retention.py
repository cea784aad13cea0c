"""What of a leader's log is kept for followers that are getting a copy of its state machine.

A copy takes a while, and what is written meanwhile is needed after it. If the log were cut as usual, a follower whose
copy takes longer than it takes to fill the log would need another copy, and another one, and never catch up.
"""

from __future__ import annotations

from raftlog.core import Raft
from raftlog.state import Role
from raftlog.storage import MemoryLog


class Holds:
    """The copies of one group that are on their way.

    Beyond `bytes_max` the log is cut all the same: a follower that died must not fill the disk (RAFT_RULES 17).
    """

    def __init__(self, raft: Raft, log: MemoryLog, bytes_max: int) -> None:
        self._raft = raft
        self._log = log
        self._bytes_max = bytes_max
        self._index_for: dict[int, int] = {}

    def hold(self, replica_id: int, index: int) -> None:
        """Keep the log behind `index` until this replica, which gets a copy of all up to there, has that."""
        self._index_for[replica_id] = index

    def release(self, replica_id: int) -> None:
        """Keep nothing for this replica any more: it did not get its copy, or is gone."""
        self._index_for.pop(replica_id, None)

    def in_effect(self) -> bool:
        """Return whether the log must not be cut now."""
        if self._raft.role is not Role.LEADER or self._log.size_bytes > self._bytes_max:
            self._index_for.clear()
        progress = self._raft.tracker.progress
        for replica_id, index in list(self._index_for.items()):
            if replica_id not in progress or progress[replica_id].match >= index:
                del self._index_for[replica_id]
        return bool(self._index_for)
