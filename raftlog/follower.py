"""What followers and candidates do with a leader's messages (Raft §5.3, AppendEntries and InstallSnapshot RPCs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog import campaign, relays
from raftlog.confchange import restore
from raftlog.messages import Message, MessageType, Snapshot
from raftlog.state import ProposalDropped, ReadState, Role

if TYPE_CHECKING:
    from raftlog.core import Raft


def step_follower(raft: Raft, message: Message) -> None:
    """Take a message as a follower (or learner)."""
    type_ = message.type
    if type_ in _FROM_LEADER:
        raft.election_elapsed = 0
        raft.leader_id = message.from_
        _FROM_LEADER[type_](raft, message)
    elif type_ is MessageType.PROPOSE:
        raise ProposalDropped("only the leader takes proposals")
    elif type_ is MessageType.READ_INDEX:
        relays.pass_on(raft, message)
    elif type_ is MessageType.TRANSFER_LEADER:
        if raft.leader_id:
            # As the request's `from_` stays, the leader's attention goes to whom it concerns.
            raft.messages.append(Message(type_, raft.leader_id, message.from_ or raft.id, raft.term))
    elif type_ is MessageType.READ_INDEX_RESPONSE:
        raft.relays.name(message.relays, message.context, raft.ticks)
        raft.read_states.append(ReadState(message.index, message.context))
    elif type_ is MessageType.TIMEOUT_NOW:
        campaign.start(raft, transfer=True)
    elif type_ is MessageType.FORGET_LEADER and not raft.config.lease_read_only:
        raft.leader_id = 0


def step_candidate(raft: Raft, message: Message) -> None:
    """Take a message as a candidate or pre-candidate."""
    type_ = message.type
    if type_ in _FROM_LEADER:
        # Somebody won this term (Raft §5.2).
        raft.become_follower(message.term, message.from_)
        _FROM_LEADER[type_](raft, message)
    elif type_ is MessageType.PROPOSE:
        raise ProposalDropped("an election is running")
    elif (type_ is MessageType.VOTE_RESPONSE and raft.role is Role.CANDIDATE) or (
        type_ is MessageType.PRE_VOTE_RESPONSE and raft.role is Role.PRE_CANDIDATE
    ):
        campaign.count_vote(raft, message)


def take_append(raft: Raft, message: Message) -> None:
    """Append what fits; otherwise help the leader to find the last common entry term by term (RAFT_RULES 39)."""
    log = raft.log
    if message.index < log.committed:
        raft.send(MessageType.APPEND_RESPONSE, message.from_, index=log.committed)
        return
    last = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last is not None:
        if raft.known_committed.index > log.committed:
            log.maybe_commit(raft.known_committed.index, raft.known_committed.term)
        raft.send(MessageType.APPEND_RESPONSE, message.from_, index=last)
        return
    hint, hint_term = log.find_conflict_by_term(min(message.index, log.last_index()), message.log_term)
    raft.send(
        MessageType.APPEND_RESPONSE,
        message.from_,
        index=message.index,
        reject=True,
        reject_hint=hint,
        log_term=hint_term,
    )


def take_heartbeat(raft: Raft, message: Message) -> None:
    """Advance the commit index, which the leader caps at what it knows of our log, and answer."""
    raft.log.commit_to(message.commit)
    raft.send(MessageType.HEARTBEAT_RESPONSE, message.from_, context=message.context)


def take_snapshot(raft: Raft, message: Message) -> None:
    """Begin anew from a snapshot if it is news, and say where the log stands."""
    assert message.snapshot is not None
    if _restore(raft, message.snapshot):
        raft.send(MessageType.APPEND_RESPONSE, message.from_, index=raft.log.last_index())
    else:
        raft.send(MessageType.APPEND_RESPONSE, message.from_, index=raft.log.committed)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Reset log and membership to `snapshot`; False if it is at or below the commit index (RAFT_RULES 9)."""
    state = snapshot.conf_state
    if snapshot.index <= raft.log.committed:
        return False
    if raft.id not in {*state.voters, *state.learners, *state.voters_outgoing}:
        return False
    if raft.log.matches(snapshot.index, snapshot.term):
        # The log reaches there already; only the commit index was behind.
        raft.log.commit_to(snapshot.index)
        return False
    raft.log.restore(snapshot)
    raft.switch_to(restore(state, raft.log.last_index(), raft.new_window))
    return True


_FROM_LEADER = {
    MessageType.APPEND: take_append,
    MessageType.HEARTBEAT: take_heartbeat,
    MessageType.SNAPSHOT: take_snapshot,
}
