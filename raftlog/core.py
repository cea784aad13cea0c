"""One replica of Raft as a pure machine: messages and ticks in, messages out (Ongaro & Ousterhout; thesis).

No I/O, no clock, no randomness of its own. This file holds the state and its transitions (become_x), time, and what
every role does alike; elections are in campaign.py, what only a leader does in leader.py, what a follower or
candidate does in follower.py. All of them change state only through the methods here.

Messages that promise something about this replica's disk (votes, acknowledgements, also to itself) are kept apart in
`after_append`: they are handed out with the write that covers them and must not leave before it is durable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from raftlog import campaign, follower, leader, relays
from raftlog.confchange import restore
from raftlog.log import RaftLog
from raftlog.messages import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from raftlog.progress import Inflights, Progress, ProgressState
from raftlog.readonly import ReadOnly
from raftlog.relays import Relays
from raftlog.state import TRANSFER, Config, ReadState, Role, SoftState
from raftlog.storage import LogStorage, entry_size
from raftlog.testimony import NOWHERE, Position
from raftlog.tracker import Tracker

_RESPONSES_AFTER_APPEND = frozenset(
    (MessageType.APPEND_RESPONSE, MessageType.VOTE_RESPONSE, MessageType.PRE_VOTE_RESPONSE)
)
_FROM_LEADER = frozenset((MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT))
_VOTES = frozenset((MessageType.VOTE, MessageType.PRE_VOTE))


class Raft:
    """The state of one replica (Raft figure 2).

    `ticks`: how many have passed; what happened when is told by it.
    `pending_conf_index`: no membership change is proposed until everything up to here is applied.
    `uncommitted_size`: bytes of the leader's proposals that are not committed yet.
    `known_committed`: the last committed entry that others than the leader told of, which may not be here yet.
    `waiting_reads`: reads that came before the leader committed anything in its term (RAFT_RULES 25).
    """

    def __init__(self, config: Config, storage: LogStorage, rng: random.Random) -> None:
        self.config = config
        self.id = config.replica_id
        self._rng = rng
        self.log = RaftLog(storage, config.max_committed_size_per_ready)
        self.term = 0
        self.vote = 0
        self.leader_id = 0
        self.role = Role.FOLLOWER
        self.transferee = 0
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()
        self.waiting_reads: list[Message] = []
        self.relays = Relays()
        self.read_states: list[ReadState] = []
        self.known_committed = NOWHERE
        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.ticks = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_ticks = config.election_ticks
        hard_state, conf_state = storage.initial_state()
        self.tracker: Tracker = restore(conf_state, self.log.last_index(), self.new_window)
        self.term, self.vote = hard_state.term, hard_state.vote
        if hard_state.commit:
            self.log.commit_to(hard_state.commit)
        if config.applied:
            self.log.applied_to(config.applied, 0)
        self.become_follower(self.term, 0)

    # ---- what others ask --------------------------------------------------------------------------------------

    @property
    def is_learner(self) -> bool:
        """Whether this replica is in the configuration without a vote."""
        return self.id in self.tracker.membership.learners

    @property
    def promotable(self) -> bool:
        """Whether this replica could lead: a voter, and not waiting for a snapshot to be installed."""
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.unstable.snapshot is None

    def everybody_has_everything(self) -> bool:
        """Return whether this leader has nothing to send to anybody but heartbeats, now and until somebody asks.

        Nor may a heartbeat wait for its answer, which would wake the leader.
        """
        if self.role is not Role.LEADER or self.transferee or self.tracker.membership.is_joint:
            return False
        last = self.log.last_index()
        return all(
            progress.match == last
            and progress.sent_commit == last
            and progress.state is ProgressState.REPLICATE
            and not progress.owes_answer
            for replica_id, progress in self.tracker.progress.items()
            if replica_id != self.id
        )

    def hard_state(self) -> HardState:
        """Return what must be durable."""
        return HardState(self.term, self.vote, self.log.committed)

    def soft_state(self) -> SoftState:
        """Return role and leader."""
        return SoftState(self.leader_id, self.role)

    def new_window(self) -> Inflights:
        """Return an empty window for a follower."""
        return Inflights(self.config.max_inflight_messages, self.config.max_inflight_bytes)

    def learn_committed(self, position: Position) -> None:
        """Take note that an entry is committed, from whoever knows (raftlog.testimony).

        If it is in our log, all before it is what the leader has (Raft §5.3, Log Matching), so that this much is
        committed here as well; otherwise as soon as it is. A candidate commits nothing: its election is under the
        configuration that it began with (RAFT_RULES 30).
        """
        if position.index > self.known_committed.index:
            self.known_committed = position
        if self.role is Role.FOLLOWER:
            self.log.maybe_commit(position.index, position.term)

    # ---- sending ----------------------------------------------------------------------------------------------

    def send(
        self,
        type: MessageType,
        to: int,
        *,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        commit: int = 0,
        entries: tuple[Entry, ...] = (),
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
        snapshot: Snapshot | None = None,
        relays: tuple[int, ...] = (),
    ) -> None:
        """Queue a message from this replica in its term, or in `term` for the answers and requests of votes."""
        # By position, as naming so many fields takes longer than making the message.
        message = Message(
            type,
            to,
            self.id,
            term or self.term,
            log_term,
            index,
            commit,
            entries,
            0,
            reject,
            reject_hint,
            context,
            snapshot,
            relays=relays,
        )
        (self.after_append if type in _RESPONSES_AFTER_APPEND else self.messages).append(message)

    # ---- transitions ------------------------------------------------------------------------------------------

    def _reset(self, term: int) -> None:
        if self.term != term:
            self.term = term
            self.vote = 0
        self.leader_id = 0
        self.election_elapsed = self.heartbeat_elapsed = 0
        self.reset_election_timeout()
        self.transferee = 0
        self.tracker.votes = {}
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()
        self.waiting_reads = []
        self.relays = Relays()

    def reset_election_timeout(self) -> None:
        """Draw a new random election timeout (Raft §5.2)."""
        ticks = self.config.election_ticks
        self.randomized_election_ticks = ticks + self._rng.randrange(ticks)

    def become_follower(self, term: int, leader_id: int) -> None:
        """Follow `leader_id` (0: nobody known) in `term`."""
        self._reset(term)
        self.leader_id = leader_id
        self.role = Role.FOLLOWER

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without disturbing anybody's term (thesis §9.6)."""
        self.tracker.votes = {}
        self.leader_id = 0
        self.role = Role.PRE_CANDIDATE

    def become_candidate(self) -> None:
        """Begin an election in a new term, voting for oneself (Raft §5.2)."""
        self._reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE

    def become_leader(self) -> None:
        """Lead: everybody is to be probed, and a no-op is appended to commit what earlier terms left (Raft §8)."""
        self._reset(self.term)
        self.leader_id = self.id
        self.role = Role.LEADER
        last = self.log.last_index()
        progress = self.tracker.progress
        for replica_id in self.tracker.ids:
            is_learner = progress[replica_id].is_learner
            progress[replica_id] = Progress(0, last + 1, self.new_window(), is_learner=is_learner, recent_active=False)
        own = progress[self.id]
        own.match = last
        own.recent_active = True
        own.become_replicate()
        # Changes of membership that older leaders left in the log count as pending until all of it is applied.
        self.pending_conf_index = last
        self.append((Entry(0, 0),))

    def append(self, entries: Sequence[Entry]) -> bool:
        """Append a leader's new entries, numbering them; False if that is too much uncommitted.

        Empty entries (the no-op, leaving a joint configuration) are always taken.
        """
        if not self._grow_uncommitted(sum(len(entry.data) for entry in entries)):
            return False
        index = self.log.last_index()
        numbered = [
            Entry(self.term, index + place, entry.data, entry.type) for place, entry in enumerate(entries, start=1)
        ]
        last = self.log.append(numbered)
        # The leader's own acknowledgement counts only once its disk has the entries, like everybody's.
        self.send(MessageType.APPEND_RESPONSE, self.id, index=last)
        return True

    def _grow_uncommitted(self, size: int) -> bool:
        if self.uncommitted_size and size and self.uncommitted_size + size > self.config.max_uncommitted_size:
            return False
        self.uncommitted_size += size
        return True

    # ---- time -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick pass."""
        self.ticks += 1
        self.election_elapsed += 1
        if self.role is Role.LEADER:
            self._tick_leader()
        elif self.election_elapsed >= self.randomized_election_ticks and self.promotable:
            self.election_elapsed = 0
            campaign.start(self)
        else:
            relays.tick(self)

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        if self.election_elapsed >= self.config.election_ticks:
            self.election_elapsed = 0
            if self.config.check_quorum:
                leader.check_quorum(self)
            self.give_up_transfer()
        if self.role is Role.LEADER and self.heartbeat_elapsed >= self.config.heartbeat_ticks:
            self.heartbeat_elapsed = 0
            leader.send_due_heartbeats(self)

    # ---- messages ---------------------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Take one message. Raises ProposalDropped, and CommitBeyondLog if this replica lost its log."""
        if message.term > self.term:
            if not self._take_higher_term(message):
                return
        elif 0 < message.term < self.term:
            self._answer_lower_term(message)
            return
        step = _STEP_ALIKE.get(message.type)
        if step is not None:
            step(self, message)
        elif self.role is Role.LEADER:
            leader.step(self, message)
        elif self.role is Role.FOLLOWER:
            follower.step_follower(self, message)
        else:
            follower.step_candidate(self, message)

    def _take_higher_term(self, message: Message) -> bool:
        """Adopt a higher term where the message asks for it; False if the message is to be ignored."""
        type_ = message.type
        if type_ in _VOTES and self._has_live_leader() and message.context != TRANSFER:
            # Whoever hears from a leader does not help to depose it (thesis §4.2.3).
            return False
        if type_ is MessageType.PRE_VOTE or (type_ is MessageType.PRE_VOTE_RESPONSE and not message.reject):
            # The term of a pre-vote is one that may never come to be.
            return True
        self.become_follower(message.term, message.from_ if type_ in _FROM_LEADER else 0)
        return True

    def _has_live_leader(self) -> bool:
        return self.config.check_quorum and self.leader_id != 0 and self.election_elapsed < self.config.election_ticks

    def _answer_lower_term(self, message: Message) -> None:
        """Tell an outdated leader or candidate of our term; take a late confirmation of our own disk with care."""
        type_ = message.type
        if type_ in (MessageType.HEARTBEAT, MessageType.APPEND):
            # With pre-vote or check-quorum nobody disturbs the sender by a higher term, so it must be told:
            # otherwise a replica that came back with a higher term could never join again (RAFT_RULES 19).
            if self.config.check_quorum or self.config.pre_vote:
                self.send(MessageType.APPEND_RESPONSE, message.from_)
        elif type_ is MessageType.PRE_VOTE:
            self.send(MessageType.PRE_VOTE_RESPONSE, message.from_, reject=True)
        elif type_ is MessageType.STORAGE_APPEND_RESPONSE and message.snapshot is not None:
            # Entries written in an older term may have been replaced since (RAFT_RULES 3); a snapshot may not.
            self._snapshot_stored(message.snapshot)

    # ---- storage ----------------------------------------------------------------------------------------------

    def _append_stored(self, message: Message) -> None:
        if message.index:
            self.log.unstable.stable_to(message.index, message.log_term)
        if message.snapshot is not None:
            self._snapshot_stored(message.snapshot)

    def _snapshot_stored(self, snapshot: Snapshot) -> None:
        self.log.unstable.stable_snapshot_to(snapshot.index)
        self.applied_to(snapshot.index, 0)

    def _entries_applied(self, message: Message) -> None:
        if message.entries:
            self.applied_to(message.entries[-1].index, sum(map(entry_size, message.entries)))
            if self.uncommitted_size:
                payload = sum(len(entry.data) for entry in message.entries)
                self.uncommitted_size = max(0, self.uncommitted_size - payload)

    def applied_to(self, index: int, size: int) -> None:
        """Take note that entries up to `index` are applied; a leader then leaves a joint configuration by itself."""
        self.log.applied_to(max(index, self.log.applied), size)
        self._maybe_leave_joint()

    def give_up_transfer(self) -> None:
        """Let proposals resume: a transfer did not succeed within an election timeout, or is not wanted any more."""
        if self.transferee:
            self.transferee = 0
            self._maybe_leave_joint()

    def _maybe_leave_joint(self) -> None:
        if (
            self.role is Role.LEADER
            and self.tracker.membership.auto_leave
            and self.log.applied >= self.pending_conf_index
        ):
            leader.propose_leave_joint(self)

    # ---- membership -------------------------------------------------------------------------------------------

    def switch_to(self, tracker: Tracker) -> ConfState:
        """Take up a changed configuration, which takes effect at once (Raft §6), and return it as data."""
        tracker.votes = self.tracker.votes
        self.tracker = tracker
        conf_state = tracker.membership.conf_state()
        if self.role is Role.LEADER:
            own = tracker.progress.get(self.id)
            if own is None or own.is_learner:
                if self.config.step_down_on_removal:
                    self.become_follower(self.term, 0)
            elif conf_state.voters:
                leader.membership_changed(self)
        return conf_state


#: What every role does alike.
_STEP_ALIKE: dict[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.HUP: lambda raft, message: campaign.start(raft),
    MessageType.VOTE: campaign.answer_vote,
    MessageType.PRE_VOTE: campaign.answer_vote,
    MessageType.STORAGE_APPEND_RESPONSE: Raft._append_stored,
    MessageType.STORAGE_APPLY_RESPONSE: Raft._entries_applied,
}
