"""What only a leader does: proposals, replication, commitment, heartbeats, reads, transfer (Raft §5.3, §5.4, §8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftlog.confchange import decode_change
from raftlog.messages import ConfChangeTransition, Entry, EntryType, Message, MessageType
from raftlog.progress import Progress, ProgressState
from raftlog.relays import RELAYS_MAX
from raftlog.state import ProposalDropped, ReadState
from raftlog.storage import LogError, SnapshotTemporarilyUnavailable, entry_size

if TYPE_CHECKING:
    from raftlog.core import Raft

#: A read asked in this tick or the one before waits for nothing but its answers.
READ_TICKS = 2


def step(raft: Raft, message: Message) -> None:
    """Take a message as the leader; one from a replica outside the configuration is ignored."""
    own = _STEP.get(message.type)
    if own is not None:
        own(raft, message)
        return
    from_follower = _STEP_FROM_FOLLOWER.get(message.type)
    progress = raft.tracker.progress.get(message.from_)
    if from_follower is not None and progress is not None:
        from_follower(raft, message, progress)


# ---- proposals ------------------------------------------------------------------------------------------------


def propose(raft: Raft, message: Message) -> None:
    """Append proposals to the log and send them to everybody. Raises ProposalDropped."""
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped("this replica was removed from the group")
    if raft.transferee:
        raise ProposalDropped(f"leadership is being handed over to replica {raft.transferee}")
    pending_before = raft.pending_conf_index
    entries = [_checked(raft, entry, place) for place, entry in enumerate(message.entries, start=1)]
    if not raft.append(entries):
        raft.pending_conf_index = pending_before
        raise ProposalDropped(f"{raft.uncommitted_size} bytes of proposals are not committed yet")
    bcast_append(raft)


def _checked(raft: Raft, entry: Entry, place: int) -> Entry:
    """Return the entry, or an empty one instead of a change of membership that may not be proposed now."""
    if entry.type is EntryType.NORMAL:
        return entry
    change = decode_change(entry)
    is_joint = raft.tracker.membership.is_joint
    leaves_joint = not change.changes and change.transition is ConfChangeTransition.AUTO
    refused = raft.pending_conf_index > raft.log.applied or is_joint != leaves_joint
    if refused and not raft.config.disable_conf_change_validation:
        return Entry(0, 0)
    raft.pending_conf_index = raft.log.last_index() + place
    return entry


def propose_leave_joint(raft: Raft) -> None:
    """Propose to leave the joint configuration, always by a newly committed entry (RAFT_RULES 34)."""
    try:
        propose(raft, Message(MessageType.PROPOSE, entries=(Entry(0, 0, b"", EntryType.CONF_CHANGE_V2),)))
    except ProposalDropped:
        # Handing over: the next leader leaves the joint configuration once it has applied its no-op; if there is none,
        # this one does when it gives the transfer up.
        return


# ---- replication ----------------------------------------------------------------------------------------------


def bcast_append(raft: Raft) -> None:
    """Send to every follower what it lacks, at least an empty append with the commit index."""
    for replica_id in raft.tracker.ids:
        if replica_id != raft.id:
            maybe_send_append(raft, replica_id, raft.tracker.progress[replica_id], send_if_empty=True)


def maybe_send_append(raft: Raft, to: int, progress: Progress, *, send_if_empty: bool) -> bool:
    """Send the next append, or a snapshot where the log does not reach back; say whether anything was sent."""
    if progress.is_paused:
        return False
    log = raft.log
    previous = progress.next - 1
    try:
        previous_term = log.term(previous)
        # With a full window only an empty append passes, after a sign of life: it finds out what was lost.
        full = progress.state is ProgressState.REPLICATE and progress.inflights.full
        entries = () if full else tuple(log.entries(progress.next, raft.config.max_size_per_message))
    except LogError:
        return _maybe_send_snapshot(raft, to, progress)
    if not entries and not send_if_empty:
        return False
    raft.send(MessageType.APPEND, to, index=previous, log_term=previous_term, entries=entries, commit=log.committed)
    if entries:
        progress.sent_tick = raft.ticks
    progress.sent_entries(len(entries), sum(map(entry_size, entries)))
    progress.sent_commit = log.committed
    return True


def _maybe_send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    progress.become_snapshot(snapshot.index)
    raft.send(MessageType.SNAPSHOT, to, snapshot=snapshot)
    return True


def _take_append_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    if message.reject:
        _take_rejection(raft, message, progress)
        return
    progress.heard_tick = raft.ticks
    is_self = message.from_ == raft.id
    news = progress.maybe_update(message.index)
    if not news and not (progress.match == message.index and progress.state is ProgressState.PROBE):
        return
    _advance_state(raft, message, progress)
    # What is committed already can't be committed anew by hearing of it once more.
    if progress.match > raft.log.committed and maybe_commit(raft):
        release_waiting_reads(raft)
        bcast_append(raft)
    elif not is_self and progress.can_bump_commit(raft.log.committed):
        maybe_send_append(raft, message.from_, progress, send_if_empty=True)
    if is_self:
        return
    while maybe_send_append(raft, message.from_, progress, send_if_empty=False):
        pass
    if message.from_ == raft.transferee and progress.match == raft.log.last_index():
        raft.send(MessageType.TIMEOUT_NOW, message.from_)


def _take_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    """Go back to where both logs may agree, skipping whole terms on our side too (RAFT_RULES 39)."""
    hint = message.reject_hint
    if message.log_term:
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    if progress.maybe_decrease(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        maybe_send_append(raft, message.from_, progress, send_if_empty=True)


def _advance_state(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_to(message.index)
    elif progress.match + 1 >= raft.log.first_index():
        # The snapshot arrived, or the log reaches back to what the follower has: stream again.
        progress.become_probe()
        progress.become_replicate()


def maybe_commit(raft: Raft) -> bool:
    """Advance the commit index to what a quorum has, if that is of this term (Raft §5.4.2)."""
    return raft.log.maybe_commit(raft.tracker.committed(), raft.term)


def _take_unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    # What was in flight is probably lost: probe for where to go on.
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def _take_snapshot_status(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is not ProgressState.SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    # Wait for the acknowledgement, or a heartbeat's answer, before sending anything more.
    progress.paused = True


def membership_changed(raft: Raft) -> None:
    """Commit what the new quorum has already, and send to those who joined."""
    if maybe_commit(raft):
        bcast_append(raft)
    else:
        for replica_id in raft.tracker.ids:
            if replica_id != raft.id:
                maybe_send_append(raft, replica_id, raft.tracker.progress[replica_id], send_if_empty=False)
    if raft.transferee and raft.transferee not in raft.tracker.membership.voters:
        raft.transferee = 0


# ---- heartbeats and reads -------------------------------------------------------------------------------------


def bcast_heartbeat(raft: Raft) -> None:
    """Send a heartbeat to every follower, with the newest read context that waits for a quorum."""
    _send_heartbeats(raft, raft.read_only.last_context(), raft.tracker.ids)


def send_due_heartbeats(raft: Raft) -> None:
    """Send a heartbeat to the followers that need one, or to all if a read has waited for a whole tick.

    One that was sent entries and took some since the last heartbeats were due needs none (Raft figure 2: they are for
    idle periods). So no follower hears nothing for two intervals, half of the shortest election timeout. A read that
    takes so long may have asked somebody who is dead.
    """
    if raft.read_only.waits_since(raft.ticks - min(READ_TICKS, raft.config.heartbeat_ticks)):
        bcast_heartbeat(raft)
        return
    since = raft.ticks - raft.config.heartbeat_ticks
    progress = raft.tracker.progress
    idle = [id_ for id_ in raft.tracker.ids if not progress[id_].is_in_touch(since)]
    _send_heartbeats(raft, raft.read_only.last_context(), idle)


def _send_heartbeats(raft: Raft, context: bytes, replica_ids: list[int]) -> None:
    for replica_id in replica_ids:
        if replica_id == raft.id:
            continue
        progress = raft.tracker.progress[replica_id]
        # A follower may lack the newest entries: it must not take them for committed.
        commit = min(progress.match, raft.log.committed)
        raft.send(MessageType.HEARTBEAT, replica_id, commit=commit, context=context)
        progress.sent_commit = commit
        progress.sent_tick = raft.ticks
        progress.asked(raft.ticks)


def _take_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.heard_tick = raft.ticks
    progress.paused = False
    progress.answered(raft.ticks)
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        maybe_send_append(raft, message.from_, progress, send_if_empty=True)
    if message.context and not raft.config.lease_read_only:
        for request, index in raft.read_only.acknowledge(message.from_, message.context, raft.tracker.has_quorum):
            _answer_read(raft, request, index)


def check_quorum(raft: Raft) -> None:
    """Step down unless a quorum was heard of since the last check (thesis §6.2)."""
    if not raft.tracker.quorum_active():
        raft.become_follower(raft.term, 0)
    for replica_id, progress in raft.tracker.progress.items():
        if replica_id != raft.id:
            progress.recent_active = False


def read_index(raft: Raft, message: Message) -> None:
    """Begin a read: answered with the commit index once a quorum confirms that we lead (thesis §6.4).

    Before anything of its own term is committed a leader does not know the commit index (RAFT_RULES 25).
    """
    if raft.log.term_or_zero(raft.log.committed) != raft.term:
        raft.waiting_reads.append(message)
        return
    confirmed = _confirmed_by(raft, message)
    if raft.config.lease_read_only or raft.tracker.has_quorum(confirmed):
        _answer_read(raft, message, raft.log.committed)
    else:
        raft.read_only.add(message, raft.log.committed, confirmed, raft.ticks)
        _send_heartbeats(raft, message.context, _whom_to_ask(raft, message.from_, confirmed))


def _confirmed_by(raft: Raft, message: Message) -> set[int]:
    """Return who confirms a question when it arrives: we, the follower that asks, and those who passed it on.

    They were in our term when they did, which was after its reads began: what a heartbeat would have found out. So
    nobody was elected before those began without one of us. That says nothing about reads that began after it asked,
    and nothing if the question is of another term, or of none.
    """
    return {raft.id, message.from_, *message.confirmed} if message.term == raft.term else {raft.id}


def _whom_to_ask(raft: Raft, asker: int, confirmed: set[int], *, later: bool = False) -> list[int]:
    """Return followers that are a quorum with those who confirmed already, as few as that takes unless it is joint.

    Those first that owe no answer, were heard of lately and are fast: who just died, was paused or became slow
    holds up one round, until the next heartbeats, which ask everybody for the newest round if one takes so long.
    Among equals those whose ids follow the asker's, so that all are asked alike. For a later question others come
    first, whose ids are before the asker's, and what is owed since this tick will have been answered.
    """
    progress = raft.tracker.progress
    sign = -1 if later else 1

    def reluctance(voter: int) -> tuple[bool, bool, int, bool, int]:
        known = progress[voter]
        owes_answer = known.owes_answer and not (later and known.asked_tick == raft.ticks)
        return owes_answer, not known.recent_active, known.slowness, sign * voter < sign * asker, sign * voter

    asked: list[int] = []
    for voter in sorted(raft.tracker.membership.voters - confirmed, key=reluctance):
        asked.append(voter)
        if raft.tracker.has_quorum(confirmed.union(asked)):
            break
    return asked


def release_waiting_reads(raft: Raft) -> None:
    """Begin the reads that waited for this term's first commit."""
    if raft.waiting_reads and raft.log.term_or_zero(raft.log.committed) == raft.term:
        waiting, raft.waiting_reads = raft.waiting_reads, []
        for message in waiting:
            read_index(raft, message)


def _answer_read(raft: Raft, request: Message, index: int) -> None:
    asker = request.from_
    if asker in (0, raft.id):
        raft.read_states.append(ReadState(index, request.context))
        return
    relays = _relays_for(raft, asker)
    raft.send(MessageType.READ_INDEX_RESPONSE, asker, index=index, context=request.context, relays=relays)


def _relays_for(raft: Raft, asker: int) -> tuple[int, ...]:
    """Return whom a follower's next question may go through, nobody if it needs none or too many.

    If it gets lost with them it is sent to us, and then others had better be asked.
    """
    confirmed = {raft.id, asker}
    if raft.tracker.has_quorum(confirmed):
        return ()
    relays = _whom_to_ask(raft, asker, confirmed, later=True)
    return tuple(relays) if len(relays) <= RELAYS_MAX else ()


# ---- transfer -------------------------------------------------------------------------------------------------


def _transfer(raft: Raft, message: Message, progress: Progress) -> None:
    """Hand over to the sender once it has everything (thesis §3.10); given up after an election timeout."""
    target = message.from_
    if progress.is_learner or target == raft.transferee:
        return
    if target == raft.id:
        # Asked to stay.
        raft.give_up_transfer()
        return
    raft.election_elapsed = 0
    raft.transferee = target
    if progress.match == raft.log.last_index():
        raft.send(MessageType.TIMEOUT_NOW, target)
    else:
        maybe_send_append(raft, target, progress, send_if_empty=True)


_STEP: dict[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.PROPOSE: propose,
    MessageType.READ_INDEX: read_index,
    MessageType.BEAT: lambda raft, message: bcast_heartbeat(raft),
    MessageType.CHECK_QUORUM: lambda raft, message: check_quorum(raft),
}
_STEP_FROM_FOLLOWER: dict[MessageType, Callable[[Raft, Message, Progress], None]] = {
    MessageType.APPEND_RESPONSE: _take_append_response,
    MessageType.HEARTBEAT_RESPONSE: _take_heartbeat_response,
    MessageType.UNREACHABLE: _take_unreachable,
    MessageType.SNAPSHOT_STATUS: _take_snapshot_status,
    MessageType.TRANSFER_LEADER: _transfer,
}
