"""Elections: asking for votes, and answering those who ask (Raft §5.2, §5.4.1; pre-vote: thesis §9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog import leader
from raftlog.messages import Message, MessageType
from raftlog.quorum import VoteResult
from raftlog.state import TRANSFER, Role

if TYPE_CHECKING:
    from raftlog.core import Raft


def start(raft: Raft, *, transfer: bool = False) -> None:
    """Begin an election if this replica may lead; at the old leader's request (`transfer`) without a pre-vote.

    A replica with a committed change of membership that is not applied does not campaign (RAFT_RULES 30).
    """
    if raft.role is Role.LEADER or not raft.promotable or raft.log.has_unapplied_conf_change():
        return
    if raft.config.pre_vote and not transfer:
        raft.become_pre_candidate()
        _ask(raft, MessageType.PRE_VOTE, raft.term + 1, b"")
    else:
        elect(raft, transfer=transfer)


def elect(raft: Raft, *, transfer: bool = False) -> None:
    """Begin the election proper in a new term."""
    raft.become_candidate()
    _ask(raft, MessageType.VOTE, raft.term, TRANSFER if transfer else b"")


def _ask(raft: Raft, request: MessageType, term: int, context: bytes) -> None:
    response = MessageType.VOTE_RESPONSE if request is MessageType.VOTE else MessageType.PRE_VOTE_RESPONSE
    last_index, last_term = raft.log.last_index(), raft.log.last_term()
    for replica_id in sorted(raft.tracker.membership.voters):
        if replica_id == raft.id:
            # The own vote counts once it is durable, like everybody's.
            raft.send(response, raft.id, term=term)
        else:
            raft.send(request, replica_id, term=term, index=last_index, log_term=last_term, context=context)


def answer_vote(raft: Raft, message: Message) -> None:
    """Grant or refuse a vote or pre-vote (Raft figure 2, RequestVote RPC; RAFT_RULES 5, 20)."""
    is_vote = message.type is MessageType.VOTE
    response = MessageType.VOTE_RESPONSE if is_vote else MessageType.PRE_VOTE_RESPONSE
    free = (
        raft.vote == message.from_
        or (raft.vote == 0 and raft.leader_id == 0)
        or (not is_vote and message.term > raft.term)
    )
    if not (free and raft.log.is_up_to_date(message.index, message.log_term)):
        raft.send(response, message.from_, reject=True)
        return
    # A pre-vote is answered in the term it asks about: in ours the candidate would take it for outdated.
    raft.send(response, message.from_, term=message.term)
    if is_vote:
        raft.election_elapsed = 0
        raft.vote = message.from_


def count_vote(raft: Raft, message: Message) -> None:
    """Take an answer to our own request, and go on if it decides the election."""
    result = raft.tracker.record_vote(message.from_, not message.reject)
    if result is VoteResult.LOST:
        # The term stays: a rejection in a higher one was adopted before it came here.
        raft.become_follower(raft.term, 0)
    elif result is VoteResult.WON and raft.role is Role.PRE_CANDIDATE:
        elect(raft)
    elif result is VoteResult.WON and raft.promotable:
        raft.become_leader()
        leader.bcast_append(raft)
