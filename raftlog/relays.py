"""Questions of followers that other followers confirm on their way to the leader (ReadIndex, thesis §6.4).

A follower's question needs a quorum: itself, the leader, and from four voters on somebody else. If the leader asks the
others, that is a heartbeat and an answer for each. But a question that passes through their hands needs one message
each: whoever passes it on and is in its term confirms what a heartbeat would have found out, and after the question was
asked, so that it counts for the same reads. With five voters it takes three messages instead of four, with seven four
instead of six, and no more of them one after the other.

Which followers to go through is the leader's choice, who knows who is alive and fast; its answer names them for the
next question, and for no other. A question that can't be sent on, or is not answered in the time between two
heartbeats, goes to the leader. It does not know of the ways between its followers: after a question that got lost there
those of some time go to the leader, whomever it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.messages import Message, MessageType
from raftlog.progress import NEVER
from raftlog.state import Role

if TYPE_CHECKING:
    from raftlog.core import Raft

#: Through so many hands a question goes at most. With three, as eight and nine voters need, it takes one message more,
#: one after the other, than if the leader asks.
RELAYS_MAX = 3


class Relays:
    """Whom a follower's next question goes through, and the question that is on such a way."""

    __slots__ = ("_asked_tick", "_context", "_lost_tick", "_named_tick", "_relays")

    def __init__(self) -> None:
        self._relays: tuple[int, ...] = ()
        self._named_tick = 0
        #: Empty if no question is on its way through others.
        self._context = b""
        self._asked_tick = 0
        #: When it was last found out that one got lost.
        self._lost_tick = NEVER

    def name(self, relays: tuple[int, ...], context: bytes, tick: int) -> None:
        """Take note of an answer to the question with `context`, and of those it names."""
        self._relays, self._named_tick = relays, tick
        if context == self._context:
            self._context = b""

    def take(self, context: bytes, tick: int, since_tick: int) -> tuple[int, ...]:
        """Return whom a question goes through, nobody if since a tick none were named or one got lost."""
        relays, self._relays = self._relays, ()
        if self._context:
            self._lost_tick = tick
        if self._named_tick < since_tick or self._lost_tick >= since_tick:
            relays = ()
        self._context, self._asked_tick = context if relays else b"", tick
        return relays

    def overdue(self, tick: int, since_tick: int) -> bytes:
        """Return the context of the question that is on its way since `since_tick`, once; empty if there is none."""
        if not self._context or self._asked_tick > since_tick:
            return b""
        context, self._context = self._context, b""
        self._lost_tick = tick
        return context


def pass_on(raft: Raft, message: Message) -> None:
    """Send a question on its way: our own, or one of another replica, which we confirm if we are in its term.

    Whatever asked is in the term that a message names, and so are we once we have taken it (`Raft.step`). A question
    without a term is confirmed by nobody.
    """
    if message.from_ in (0, raft.id):
        relays = raft.relays.take(message.context, raft.ticks, raft.ticks - raft.config.election_ticks)
        _send(raft, raft.id, raft.term, message.context, (), relays)
    else:
        _send(raft, message.from_, message.term, message.context, (*message.confirmed, raft.id), message.relays)


def pass_by(raft: Raft, message: Message) -> None:
    """Send a question that could not be sent on to the leader, with those who have confirmed it."""
    if raft.role is Role.FOLLOWER and message.to != raft.leader_id:
        _send(raft, message.from_, message.term, message.context, message.confirmed, ())


def tick(raft: Raft) -> None:
    """Ask the leader itself if a question has been on its way through others for the time between two heartbeats."""
    context = raft.relays.overdue(raft.ticks, raft.ticks - raft.config.heartbeat_ticks)
    if context:
        _send(raft, raft.id, raft.term, context, (), ())


def _send(
    raft: Raft, asker: int, term: int, context: bytes, confirmed: tuple[int, ...], relays: tuple[int, ...]
) -> None:
    to = relays[0] if relays else raft.leader_id
    if to:
        raft.messages.append(
            Message(MessageType.READ_INDEX, to, asker, term, context=context, confirmed=confirmed, relays=relays[1:])
        )
