"""The door to a core for its driver: requests in, Readies out.

The contract. `ready` hands out what changed since the last one, and the core counts it as handed out. With
asynchronous storage (what the driver uses) all work on the disk is among the messages: a STORAGE_APPEND holds hard
state, entries and snapshot to write, a STORAGE_APPLY entries to apply; each lists `responses` to be delivered once
it is done, some of them to this core itself. Writes must become durable in the order handed out. All other messages
may leave at once.

With synchronous storage (used by the data-driven cases) the driver writes `hard_state`, `entries` and `snapshot`, sends
`messages`, applies `committed_entries`, and then calls `advance` before the next `ready`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from raftlog import relays
from raftlog.confchange import Changer, decode_change, encode_change
from raftlog.core import Raft
from raftlog.messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from raftlog.progress import NEVER
from raftlog.state import Config, ProposalDropped, ReadState, Role, SoftState
from raftlog.storage import LogStorage
from raftlog.testimony import Position, Testimony, testify

_LOCAL = frozenset(
    (
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAPSHOT_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.FORGET_LEADER,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPLY,
    )
)


class Ready:
    """What a core wants done. `must_sync`: the write must be durable, not only the commit index moved."""

    __slots__ = (
        "committed_entries",
        "entries",
        "hard_state",
        "messages",
        "must_sync",
        "read_states",
        "snapshot",
        "soft_state",
    )

    def __init__(self) -> None:
        self.soft_state: SoftState | None = None
        self.hard_state: HardState | None = None
        self.read_states: Sequence[ReadState] = ()
        self.entries: Sequence[Entry] = ()
        self.snapshot: Snapshot | None = None
        self.committed_entries: Sequence[Entry] = ()
        self.messages: list[Message] = []
        self.must_sync = False


class RawNode:
    """One replica. Not safe for threads; nothing here blocks."""

    __slots__ = ("_async", "_steps_on_advance", "_was_hard", "_was_soft", "raft")

    def __init__(self, config: Config, storage: LogStorage, rng: random.Random) -> None:
        self.raft = Raft(config, storage, rng)
        self._async = config.async_storage_writes
        self._was_soft = self.raft.soft_state()
        self._was_hard = self.raft.hard_state()
        self._steps_on_advance: list[Message] = []

    # ---- requests ---------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick pass."""
        self.raft.tick()

    def resume_time(self) -> None:
        """Take note that ticks stood still for nobody knows how long; a leader's next one sends heartbeats."""
        raft = self.raft
        raft.election_elapsed = 0
        raft.heartbeat_elapsed = raft.config.heartbeat_ticks
        # What was sent and heard, or who was named for questions, may be from yesterday.
        for progress in raft.tracker.progress.values():
            progress.sent_tick = progress.heard_tick = NEVER
        raft.relays = relays.Relays()

    def step(self, message: Message) -> None:
        """Take a message from another replica, or a response of the storage."""
        if message.type in _LOCAL:
            raise ValueError(f"{message.type.name} is a local message")
        self.raft.step(message)

    def campaign(self) -> None:
        """Start an election now."""
        self.raft.step(Message(MessageType.HUP))

    def propose(self, data: bytes) -> tuple[int, int]:
        """Append `data` to the leader's log; return its (term, index). Raises ProposalDropped."""
        return self._propose(Entry(0, 0, data))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> tuple[int, int]:
        """Propose a change of membership; return its (term, index).

        Raises ProposalDropped, also while another change is pending, and ConfChangeError if it can't be applied.
        """
        raft = self.raft
        type_, data = encode_change(change)
        entry = Entry(0, 0, data, type_)
        if not raft.config.disable_conf_change_validation and raft.role is Role.LEADER:
            if raft.log.term_or_zero(raft.log.committed) != raft.term:
                raise ProposalDropped("this leader has not committed anything in its term yet")
            if raft.pending_conf_index > raft.log.applied:
                raise ProposalDropped("another change of membership is not applied yet")
            Changer(raft.tracker, raft.log.last_index(), raft.new_window).check(decode_change(entry))
        return self._propose(entry)

    def _propose(self, entry: Entry) -> tuple[int, int]:
        self.raft.step(Message(MessageType.PROPOSE, from_=self.raft.id, entries=(entry,)))
        return self.raft.term, self.raft.log.last_index()

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Put a committed change into effect; call it when its entry is applied, before that is confirmed."""
        raft = self.raft
        type_, data = encode_change(change)
        changer = Changer(raft.tracker, raft.log.last_index(), raft.new_window)
        return raft.switch_to(changer.change(decode_change(Entry(0, 0, data, type_))))

    def read_index(self, context: bytes) -> None:
        """Ask for a ReadState with this context; there is no answer without a leader or a quorum."""
        self.raft.step(Message(MessageType.READ_INDEX, from_=self.raft.id, context=context))

    def learn_committed(self, position: Position) -> None:
        """Take note of a committed entry that somebody else than the leader told of."""
        self.raft.learn_committed(position)

    def testify(self) -> Testimony:
        """Say what this replica knows by itself; see raftlog.testimony."""
        return testify(self.raft)

    def question_dropped(self, question: Message) -> None:
        """Take note that a READ_INDEX could not be sent to a follower that was to pass it on."""
        relays.pass_by(self.raft, question)

    def transfer_leader(self, to: int) -> None:
        """Ask the leader to hand over to replica `to`."""
        self.raft.step(Message(MessageType.TRANSFER_LEADER, from_=to))

    def forget_leader(self) -> None:
        """Follow nobody until somebody is heard of, so that votes can be granted."""
        self.raft.step(Message(MessageType.FORGET_LEADER))

    def report_unreachable(self, replica_id: int) -> None:
        """Take note that a message to this replica was probably lost."""
        self.raft.step(Message(MessageType.UNREACHABLE, from_=replica_id))

    def report_snapshot(self, replica_id: int, ok: bool) -> None:
        """Take note that this replica has received its snapshot, or has not."""
        self.raft.step(Message(MessageType.SNAPSHOT_STATUS, from_=replica_id, reject=not ok))

    def conf_state(self) -> ConfState:
        """Return the configuration in effect."""
        return self.raft.tracker.membership.conf_state()

    # ---- Ready ------------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Return whether `ready` has anything to say."""
        raft, log = self.raft, self.raft.log
        unstable = log.unstable
        return bool(
            raft.messages
            or raft.after_append
            or raft.read_states
            or unstable.offset_in_progress < unstable.offset + len(unstable.entries)
            or log.has_next_committed(allow_unstable=not self._async)
            or log.committed != self._was_hard.commit
            or raft.term != self._was_hard.term
            or raft.vote != self._was_hard.vote
            or raft.leader_id != self._was_soft.leader_id
            or raft.role is not self._was_soft.role
            or unstable.next_snapshot() is not None
        )

    def ready(self) -> Ready:
        """Hand out what changed."""
        raft, log = self.raft, self.raft.log
        ready = Ready()
        ready.entries = log.unstable.next_entries()
        ready.snapshot = log.unstable.next_snapshot()
        ready.committed_entries = log.next_committed(allow_unstable=not self._async)
        ready.messages, raft.messages = raft.messages, []
        if raft.read_states:
            ready.read_states, raft.read_states = raft.read_states, []
        self._note_states(ready)
        after_append, raft.after_append = raft.after_append, []
        if self._async:
            self._add_storage_messages(ready, after_append)
        else:
            ready.messages.extend(m for m in after_append if m.to != raft.id)
            self._plan_advance(ready, after_append)
        log.unstable.accept_in_progress()
        if ready.committed_entries:
            log.accept_applying(ready.committed_entries, allow_unstable=not self._async)
        return ready

    def _note_states(self, ready: Ready) -> None:
        raft, was_soft, was = self.raft, self._was_soft, self._was_hard
        if raft.leader_id != was_soft.leader_id or raft.role is not was_soft.role:
            ready.soft_state = self._was_soft = raft.soft_state()
        promised = raft.term != was.term or raft.vote != was.vote
        if promised or raft.log.committed != was.commit:
            ready.hard_state = self._was_hard = raft.hard_state()
        ready.must_sync = promised or bool(ready.entries)

    def _add_storage_messages(self, ready: Ready, after_append: list[Message]) -> None:
        raft = self.raft
        if ready.entries or ready.hard_state is not None or ready.snapshot is not None or after_append:
            responses = [*after_append, *self._append_response(ready)]
            hard = ready.hard_state or HardState()
            ready.messages.append(
                Message(
                    MessageType.STORAGE_APPEND,
                    APPEND_THREAD,
                    raft.id,
                    hard.term,
                    vote=hard.vote,
                    commit=hard.commit,
                    entries=tuple(ready.entries),
                    snapshot=ready.snapshot,
                    responses=tuple(responses),
                )
            )
        if ready.committed_entries:
            entries = tuple(ready.committed_entries)
            response = Message(MessageType.STORAGE_APPLY_RESPONSE, raft.id, APPLY_THREAD, entries=entries)
            ready.messages.append(
                Message(MessageType.STORAGE_APPLY, APPLY_THREAD, raft.id, entries=entries, responses=(response,))
            )

    def _append_response(self, ready: Ready) -> list[Message]:
        """Return the confirmation that lets the core forget what the write covers.

        It names the last entry of the whole unstable log, not only of this write, and the term it was submitted in: a
        confirmation that comes late, after another term wrote over the entries, is ignored (RAFT_RULES 3).
        """
        raft = self.raft
        unstable = raft.log.unstable
        if not unstable.entries and unstable.snapshot is None:
            return []
        index, term = (raft.log.last_index(), raft.log.last_term()) if unstable.entries else (0, 0)
        return [
            Message(
                MessageType.STORAGE_APPEND_RESPONSE,
                raft.id,
                APPEND_THREAD,
                raft.term,
                term,
                index,
                snapshot=ready.snapshot,
            )
        ]

    def _plan_advance(self, ready: Ready, after_append: list[Message]) -> None:
        steps = [message for message in after_append if message.to == self.raft.id]
        steps.extend(self._append_response(ready))
        if ready.committed_entries:
            entries = tuple(ready.committed_entries)
            steps.append(Message(MessageType.STORAGE_APPLY_RESPONSE, self.raft.id, APPLY_THREAD, entries=entries))
        self._steps_on_advance = steps

    def advance(self) -> None:
        """Confirm that the last Ready was written and applied (synchronous storage only)."""
        steps, self._steps_on_advance = self._steps_on_advance, []
        for message in steps:
            self.raft.step(message)
