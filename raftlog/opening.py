"""Taking up a replica after a restart: what its log holds beside what its state machine has applied."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.errors import LostData
from raftlog.messages import HardState
from raftlog.options import Limits, Times
from raftlog.state import Config
from raftlog.storage import MemoryLog
from raftlog.wal import Record, RecoveredGroup, SnapshotInstalled


def open_log(found: RecoveredGroup, applied_index: int, write: Callable[[Record], None]) -> MemoryLog:
    """Return the log of a replica that was found on the disk and whose state machine is at `applied_index`.

    `write` puts a record into the write-ahead log that nothing waits for. Raises LostData if the log does not hold
    what the state machine has applied, or not all that comes after it.
    """
    incoming = found.incoming
    # An installation that was given up leaves its intention behind. If the log itself came to that entry since,
    # it is the log that the state machine follows, and what comes after the entry must stay.
    if incoming is not None and applied_index == incoming.index and not found.holds(incoming.index, incoming.term):
        found = _finish_installation(found, write)
    log = MemoryLog.recovered(found.hard_state, found.snapshot, found.entries, applied_index)
    if applied_index > log.last_index():
        raise LostData(
            f"replica {found.replica_id} of group {found.group_id} has applied entry {applied_index} "
            f"but its log ends at {log.last_index()}"
        )
    if applied_index < found.snapshot.index:
        raise LostData(
            f"replica {found.replica_id} of group {found.group_id} has applied entry {applied_index} "
            f"but its log begins behind entry {found.snapshot.index}"
        )
    return log


def _finish_installation(found: RecoveredGroup, write: Callable[[Record], None]) -> RecoveredGroup:
    """Take note in the log of a snapshot that the state machine already holds; we died in between."""
    assert found.incoming is not None
    snapshot, hard = found.incoming, found.hard_state
    hard_state = HardState(
        max(hard.term, snapshot.term), hard.vote if hard.term >= snapshot.term else 0, snapshot.index
    )
    write(SnapshotInstalled(found.group_id, snapshot, hard_state))
    return RecoveredGroup(found.group_id, found.replica_id, hard_state, snapshot, [])


def core_config(replica_id: int, applied_index: int, times: Times, limits: Limits) -> Config:
    """Return what a replica's core is configured with by its driver."""
    return Config(
        replica_id=replica_id,
        election_ticks=times.election_ticks,
        heartbeat_ticks=times.heartbeat_ticks,
        applied=applied_index,
        max_size_per_message=limits.message_bytes_max,
        max_committed_size_per_ready=limits.apply_bytes_max,
        max_uncommitted_size=limits.uncommitted_bytes_max,
        max_inflight_messages=limits.inflight_messages_max,
        max_inflight_bytes=limits.inflight_bytes_max,
        check_quorum=True,
        pre_vote=True,
        step_down_on_removal=True,
        async_storage_writes=True,
    )
