"""Whether one replica sleeps: its part of what raftlog.sleep does for all of a process.

A leader whose group did nothing for a while asks its followers to sleep, and stops its own time. A follower may still
have something to do when it is asked, and then sleeps once that is done; its leader sends no heartbeats any more, so
that meanwhile the life of the leader's server stands for them.
"""

from __future__ import annotations

from collections.abc import Callable

from raftlog.messages import Quiesce
from raftlog.rawnode import RawNode
from raftlog.state import Role

#: A leader whose group did nothing for so many ticks lets it sleep. To stay awake costs two messages per follower and
#: heartbeat, to fall asleep one for each, to wake up none; but followers should have applied what they gathered.
QUIET_TICKS = 20


class Quiet:
    """How quiet one replica is, and whether it sleeps.

    `is_busy` tells whether its driver has anything to do that the core does not know of.
    """

    __slots__ = ("_group_id", "_mark", "_raw", "_request", "_ticks", "asleep")

    def __init__(self, group_id: int, raw: RawNode) -> None:
        self._group_id = group_id
        self._raw = raw
        #: Whether time stands still here because nothing happens.
        self.asleep = False
        self._ticks = 0
        self._mark = (0, 0, 0, 0)
        #: The leader's request to sleep, if something was still to be done here; void once anything says that it is
        #: awake, or was missed.
        self._request: Quiesce | None = None

    def before_tick(self, is_busy: Callable[[], bool]) -> None:
        """Take the leader's request up, if there is one that waits."""
        if self._request is not None:
            self.take_request(self._request, is_busy)
        if self._is_told_to_sleep():
            # Its leader sends no heartbeats any more; whether that one lives is seen by its server (raftlog.sleep).
            self._raw.raft.election_elapsed = 0

    def count(self) -> None:
        """Count a tick in which nothing was asked of this replica; it starts over if anything happened to the log."""
        raft = self._raw.raft
        log = raft.log
        mark = (raft.term, log.committed, log.last_index(), log.applied)
        self._ticks = self._ticks + 1 if mark == self._mark else 0
        self._mark = mark

    def count_anew(self) -> None:
        """Start over: something is asked of this replica."""
        self._ticks = 0

    def may_sleep(self, is_busy: Callable[[], bool]) -> bool:
        """Return whether this replica leads and nobody in its group has had anything to do for a while."""
        if self._ticks < QUIET_TICKS or self._raw.has_ready():
            return False
        return self._is_settled(is_busy) and self._raw.raft.everybody_has_everything()

    def _is_settled(self, is_busy: Callable[[], bool]) -> bool:
        log = self._raw.raft.log
        return not is_busy() and log.applied == log.committed == log.last_index()

    def _is_told_to_sleep(self) -> bool:
        log = self._raw.raft.log
        return self._request is not None and log.committed == log.last_index()

    def fall_asleep(self) -> list[Quiesce]:
        """Stop the time of this leader; return what the followers are told."""
        raft = self._raw.raft
        self.asleep = True
        return [
            Quiesce(self._group_id, raft.id, replica_id, raft.term, raft.log.committed)
            for replica_id in raft.tracker.ids
            if replica_id != raft.id
        ]

    def take_request(self, item: Quiesce, is_busy: Callable[[], bool]) -> None:
        """Sleep if the leader may think so, as soon as nothing is left to be done here.

        If this replica does not know that all it has is committed, it misses heartbeats, which wakes the leader.
        """
        raft = self._raw.raft
        follows = (raft.role, raft.leader_id, raft.term) == (Role.FOLLOWER, item.from_, item.term)
        if not follows or item.commit != raft.log.last_index():
            self._request = None
        elif self._is_settled(is_busy):
            self._request = None
            self.asleep = True
        else:
            self._request = item

    def stay_awake(self) -> None:
        """Sleep only when asked anew."""
        self._request = None

    def wake_up(self) -> None:
        """Let time go on."""
        self.asleep = False
        self._ticks = 0
        self._raw.resume_time()
