"""One replica as its process sees it: the Raft core, its log's image, its state machine, and who waits for what.

This file decides what happens with each part of a Ready and in which order; it does no I/O of its own. Records for
the write-ahead log and messages for other servers are put into the Turn that the Node hands in, and come back as
`durable` once they are on disk. The order is what makes it safe:

- a message that depends on a write (any response; a candidate's own vote requests) leaves only after that write is
  durable (RAFT_RULES 1, 2); all other messages leave at once;
- the core's image of the log (`log`) holds only what is durable;
- entries are applied only once durable here, one batch at a time, and what waits for them is told after that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from raftlog.applying import ApplyQueue
from raftlog.confchange import ConfChangeError
from raftlog.errors import (
    GroupError,
    InvalidChange,
    LeadershipLost,
    NotLeader,
    Overloaded,
    Stopped,
    Superseded,
    Unavailable,
)
from raftlog.messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChange,
    ConfChangeV2,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Quiesce,
)
from raftlog.news import CommitNews
from raftlog.progress import NEVER
from raftlog.rawnode import RawNode
from raftlog.reads import ReadRounds
from raftlog.relays import Relays
from raftlog.retention import Holds
from raftlog.state import Config, ProposalDropped, Role
from raftlog.storage import MemoryLog
from raftlog.testimony import Position
from raftlog.transfer import Export, Import
from raftlog.wal import Appended, Compacted, Record

if TYPE_CHECKING:
    from raftlog.rawnode import Ready

#: A leader whose group did nothing for so many ticks lets it sleep. To stay awake costs two messages per follower and
#: heartbeat, to fall asleep one for each, to wake up none; but followers should have applied what they gathered.
QUIET_TICKS = 20
#: Readies of one group handled in one turn; a busier group goes on in the next turn (RAFT_RULES 40).
READIES_PER_TURN = 8
#: Entries that a compaction drops in one turn, in a few milliseconds; a log of short ones holds hundreds of thousands.
COMPACTED_PER_TURN_MAX = 4096

_DECODE_CHANGE = msgspec.msgpack.Decoder(ConfChange).decode
_DECODE_CHANGE_V2 = msgspec.msgpack.Decoder(ConfChangeV2).decode


class StateMachine(Protocol):
    """What a group replicates. It is owned by one Group and never called twice at a time."""

    @property
    def applied_index(self) -> int:
        """The index of the last entry in the state, as it would be found after a restart of the process."""

    def apply(self, entries: Sequence[Entry]) -> Sequence[Any] | Deferred[Sequence[Any]]:
        """Apply committed entries, which follow applied_index without a gap, and return a result for each.

        Entries without data (a new leader's no-op) and configuration changes change only the applied index; their
        results are ignored. Rows and applied index change together or not at all. An exception ends the process:
        a replica that cannot apply must not go on.
        """

    def make_durable(self) -> Deferred[int]:
        """Bring what was applied to the disk; fires with an index up to which all of it certainly is."""

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a consistent copy of everything applied, in chunks of about `chunk_bytes`."""

    def begin_import(self) -> Import:
        """Begin to take in another replica's copy; applying goes on until its `finish`."""


class Installation(NamedTuple):
    """A snapshot that the core took: the storage append that brings it, what waits for it, the hard state with it."""

    group: Group
    append: Message
    held: list[Message]
    hard_state: HardState


class Turn:
    """What the groups of a process have to write and to send after one reactor turn."""

    __slots__ = ("installations", "messages", "records", "written")

    def __init__(self) -> None:
        self.installations: list[Installation] = []
        self.records: list[Record] = []
        #: Whose storage append is among the records, with messages that wait for it besides its responses.
        self.written: list[tuple[Group, Message, list[Message]]] = []
        self.messages: list[tuple[Group, Message]] = []


class Group:
    """One replica. `peers` maps replica ids to names of servers: a directory, no part of any quorum.

    `wake` asks the Node for a turn soon; `fatal` ends the process; `role_changed` hears of each change of role or
    leader; `write` puts a record into the write-ahead log that nothing waits for. Beyond `log_bytes_max` the log is
    compacted to half of that: a follower further behind gets a snapshot (RAFT_RULES 17). While one is on its way the
    log may be as long as `held_bytes_max`. A follower gathers what it applies for `gathering_ticks`, and a leader the
    news of commits.
    """

    def __init__(
        self,
        group_id: int,
        config: Config,
        log: MemoryLog,
        machine: StateMachine,
        peers: dict[int, str],
        rng: random.Random,
        *,
        wake: Callable[[Group], None],
        fatal: Callable[[Failure], None],
        role_changed: Callable[[Group], None],
        write: Callable[[Record], None],
        log_bytes_max: int,
        held_bytes_max: int,
        gathering_ticks: int,
    ) -> None:
        self.group_id = group_id
        self.replica_id = config.replica_id
        self.peers = peers
        self.log = log
        self.machine = machine
        self.raw = RawNode(config, log, rng)
        self.reads = ReadRounds(config.replica_id, self.raw.read_index, rng)
        self._wake = wake
        self._fatal = fatal
        self._role_changed = role_changed
        self._waiters: dict[int, tuple[int, Deferred[Any]]] = {}
        self._to_apply = ApplyQueue(gathering_ticks)
        self._applying = False
        self._when_idle: Deferred[None] | None = None
        self._write = write
        self._log_bytes_max = log_bytes_max
        self.holds = Holds(self.raw.raft, log, held_bytes_max)
        self._compacting = False
        #: The content of a snapshot that has arrived, until it is installed or was not wanted.
        self.arrived: Import | None = None
        self._installing = False
        self._stopped = False
        #: Whether time stands still here because nothing happens (see raftlog.sleep).
        self.asleep = False
        self._quiet_ticks = 0
        self._quiet_mark = (0, 0, 0, 0)
        #: The leader's request to sleep, if something was still to be done here; void once anything says that it is
        #: awake, or was missed.
        self._quiesce: Quiesce | None = None
        self._news = CommitNews(max(1, gathering_ticks))
        #: What waits there goes with the next turn.
        self._tell_news = False

    # ---- what is asked of it ----------------------------------------------------------------------------------

    @property
    def leader_id(self) -> int:
        """The replica believed to lead, 0 if none is known."""
        return self.raw.raft.leader_id

    def has_stopped(self) -> bool:
        """Return whether nothing is handed out any more."""
        return self._stopped

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads its group, as far as it knows."""
        return self.raw.raft.role is Role.LEADER

    @property
    def applying_from(self) -> int | None:
        """The index up to which all is applied, if the state machine is at work on what follows."""
        return self.machine.applied_index if self._applying else None

    @property
    def commits_without_own_disk(self) -> bool:
        """Whether entries are committed that this replica's own disk has not confirmed yet."""
        log = self.raw.raft.log
        return log.committed >= log.unstable.offset

    def successors(self) -> list[int]:
        """Return the voters that have all that is committed, the one with the longest log first."""
        raft = self.raw.raft
        progress = raft.tracker.progress
        fit = [
            replica_id
            for replica_id in raft.tracker.membership.incoming
            if replica_id != raft.id and progress[replica_id].match >= raft.log.committed
        ]
        return sorted(fit, key=lambda replica_id: (-progress[replica_id].match, replica_id))

    def propose(self, data: bytes) -> Deferred[Any]:
        """Return a Deferred of the state machine's result for `data` once it is committed and applied here.

        Fails with NotLeader or Overloaded (not applied), Superseded (not applied), LeadershipLost or Stopped (may
        still be applied). Cancelling drops only the waiter.
        """
        return self._wait_for(lambda: self.raw.propose(data))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> Deferred[Any]:
        """Like propose, for a change of membership; fires once it is in effect here.

        Fails with InvalidChange if it can't be applied, with Overloaded while another one is pending.
        """
        return self._wait_for(lambda: self.raw.propose_conf_change(change))

    def _wait_for(self, propose: Callable[[], tuple[int, int]]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        if not self.is_leader:
            deferred.errback(NotLeader(self.leader_id))
            return deferred
        self._wake(self)
        try:
            term, index = propose()
        except ProposalDropped as dropped:
            deferred.errback(Overloaded(str(dropped)))
            return deferred
        except ConfChangeError as invalid:
            deferred.errback(InvalidChange(str(invalid)))
            return deferred
        self._waiters[index] = (term, deferred)
        return deferred

    def read_index(self, deadline_seconds: float) -> Deferred[None]:
        """Return a Deferred that fires when the local state holds all that was acknowledged before this call."""
        # The question will wake the leader; if it does not answer, it has to be replaced.
        self.stay_awake()
        self._wake(self)
        return self.reads.wait(deadline_seconds)

    def read_at(self, position: Position, deadline_seconds: float) -> Deferred[None]:
        """Return a Deferred that fires when the local state holds everything up to this committed entry."""
        if self.machine.applied_index >= position.index:
            return succeed(None)
        self._wake(self)
        self.raw.learn_committed(position)
        return self.reads.wait_for(position.index, deadline_seconds)

    def step(self, message: Message) -> None:
        """Take a message from another replica."""
        self.stay_awake()
        # First: to a group that slept nothing may look as if it had been a moment ago.
        self._wake(self)
        self.raw.step(message)

    def unreachable(self, message: Message) -> None:
        """Take the news that `message` was dropped on its way out.

        An append is probed for instead of streamed, a question goes to the leader instead of through others.
        """
        if self._stopped:
            return
        if message.type is MessageType.APPEND:
            self.raw.report_unreachable(message.to)
        elif message.type is MessageType.READ_INDEX:
            self.raw.question_dropped(message)
            self._wake(self)

    def tick(self, now_seconds: float, round_seconds_max: float) -> None:
        """Let one tick of time pass."""
        if self._quiesce is not None:
            self.take_quiesce(self._quiesce)
            if self.asleep:
                return
        if self._is_told_to_sleep():
            # Its leader sends no heartbeats any more; whether that one lives is seen by its server (raftlog.sleep).
            self.raw.raft.election_elapsed = 0
        self.raw.tick()
        if self._news.tick():
            self._tell_news_now()
        if self._to_apply.tick():
            self._wake(self)
        if self.reads:
            self.reads.sweep(now_seconds, round_seconds_max)
            self._quiet_ticks = 0
            self._wake(self)
            return
        if self.raw.has_ready():
            self._wake(self)
        self._count_quiet()

    def _tell_news_now(self) -> None:
        self._tell_news = True
        self._wake(self)

    # ---- sleep ------------------------------------------------------------------------------------------------

    def _count_quiet(self) -> None:
        raft = self.raw.raft
        log = raft.log
        mark = (raft.term, log.committed, log.last_index(), log.applied)
        self._quiet_ticks = self._quiet_ticks + 1 if mark == self._quiet_mark else 0
        self._quiet_mark = mark

    @property
    def may_sleep(self) -> bool:
        """Whether this replica leads and nobody in its group has had anything to do for a while."""
        if self._quiet_ticks < QUIET_TICKS or self.raw.has_ready():
            return False
        return self._is_settled() and self.raw.raft.everybody_has_everything()

    def _is_settled(self) -> bool:
        log = self.raw.raft.log
        busy = self.reads or self._waiters or self._applying or self._installing or self._stopped or self._news
        return not busy and log.applied == log.committed == log.last_index()

    def fall_asleep(self) -> list[Quiesce]:
        """Stop the time of this leader; return what the followers are told."""
        raft = self.raw.raft
        self.asleep = True
        return [
            Quiesce(self.group_id, self.replica_id, replica_id, raft.term, raft.log.committed)
            for replica_id in raft.tracker.ids
            if replica_id != self.replica_id
        ]

    def take_quiesce(self, item: Quiesce) -> None:
        """Sleep if the leader may think so, as soon as nothing is left to be done here.

        If this replica does not know that all it has is committed, it misses heartbeats, which wakes the leader.
        """
        raft = self.raw.raft
        follows = (raft.role, raft.leader_id, raft.term) == (Role.FOLLOWER, item.from_, item.term)
        if not follows or item.commit != raft.log.last_index():
            self._quiesce = None
        elif self._is_settled():
            self._quiesce = None
            self.asleep = True
        else:
            self._quiesce = item

    def _is_told_to_sleep(self) -> bool:
        log = self.raw.raft.log
        return self._quiesce is not None and log.committed == log.last_index()

    def stay_awake(self) -> None:
        """Sleep only when asked anew."""
        self._quiesce = None

    def wake_up(self) -> None:
        """Let time go on: a leader's next tick sends heartbeats."""
        self.asleep = False
        self._quiet_ticks = 0
        raft = self.raw.raft
        raft.election_elapsed = 0
        raft.heartbeat_elapsed = raft.config.heartbeat_ticks
        # Ticks stood still: what was sent and heard, or who was named for questions, may be from yesterday.
        for progress in raft.tracker.progress.values():
            progress.sent_tick = progress.heard_tick = NEVER
        raft.relays = Relays()

    def miss_leader(self) -> None:
        """Take note that the leader's server is gone: an election timeout has nearly passed already."""
        raft = self.raw.raft
        raft.election_elapsed = max(raft.election_elapsed, raft.config.election_ticks - 1)

    def stop(self) -> None:
        """Fail whatever waits; nothing is handed out any more."""
        self._stopped = True
        self._fail_waiters(Stopped("the replica stops"))
        self.reads.fail_all(Unavailable("the replica stops"))

    # ---- a turn -----------------------------------------------------------------------------------------------

    def collect(self, turn: Turn, now_seconds: float) -> None:
        """Put what this replica has to write and to send into `turn`, and apply what is ready to be applied."""
        if self._stopped or self._installing:
            return
        if self._tell_news:
            self._tell_news = False
            turn.messages.extend((self, message) for message in self._news.all())
        if self.leader_id:
            self.reads.start(now_seconds)
        self._apply_next()
        for _ in range(READIES_PER_TURN):
            if not self.raw.has_ready():
                return
            if not self._handle(self.raw.ready(), turn):
                return
        self._wake(self)

    def _handle(self, ready: Ready, turn: Turn) -> bool:
        """Do what a Ready asks for; False if the group stands still until a snapshot is installed."""
        if ready.soft_state is not None:
            self._soft_state_changed()
        for state in ready.read_states:
            self.reads.confirmed(state.context, state.index)
        if ready.read_states:
            self.reads.applied(self.machine.applied_index)
        append: Message | None = None
        held: list[Message] = []
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                append = message
            elif message.to == APPLY_THREAD:
                self._to_apply.put(message)
            elif message.type is MessageType.VOTE:
                held.append(message)
            else:
                self._send(message, turn)
        if append is not None and append.snapshot is not None:
            self._installing = True
            turn.installations.append(Installation(self, append, held, self.raw.raft.hard_state()))
        elif append is not None:
            # A commit index that moved alone is not worth a write: at a restart the leader tells it again.
            if ready.must_sync:
                turn.records.append(Appended(self.group_id, self.raw.raft.hard_state(), append.entries))
            turn.written.append((self, append, held))
        else:
            turn.messages.extend((self, message) for message in held)
        self._apply_next()
        return not self._installing

    def _send(self, message: Message, turn: Turn) -> None:
        news = self._news
        if message.type is MessageType.APPEND and news.keep(message, self.raw.raft.tracker.progress.get(message.to)):
            return
        if news and (first := news.before(message)) is not None:
            turn.messages.append((self, first))
        turn.messages.append((self, message))

    def installed(self, append: Message, held: list[Message], turn: Turn) -> None:
        """Take the news that a snapshot is installed, in the state machine and in the log."""
        assert append.snapshot is not None
        if self.machine.applied_index != append.snapshot.index:
            raise AssertionError(
                f"a snapshot of index {append.snapshot.index} was installed, "
                f"but the state machine is at {self.machine.applied_index}"
            )
        self._installing = False
        self.durable(append, held, turn)
        self.reads.applied(append.snapshot.index)

    def _soft_state_changed(self) -> None:
        if not self.is_leader:
            self._news.forget()
            self._fail_waiters(LeadershipLost("this replica stopped leading"))
        self.reads.give_up_round()
        self._role_changed(self)

    def durable(self, append: Message, held: list[Message], turn: Turn) -> None:
        """Take the news that a storage append is on disk: extend the log's image and let go of what waited."""
        if self._stopped:
            return
        self.log.store(append)
        for response in append.responses:
            if response.to == self.replica_id:
                self.raw.step(response)
            else:
                turn.messages.append((self, response))
        turn.messages.extend((self, message) for message in held)
        self._wake(self)

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when the state machine has nothing to do. One caller at a time."""
        idle: Deferred[None] = Deferred()
        self.apply_now()
        if self._applying:
            self._when_idle = idle
        else:
            idle.callback(None)
        return idle

    # ---- applying ---------------------------------------------------------------------------------------------

    def apply_now(self) -> None:
        """Begin to apply what is committed and durable here: somebody is about to look at the state machine."""
        if self._to_apply:
            self._to_apply.hurry()
            self._apply_next()
            self._wake(self)

    def _may_gather(self) -> bool:
        return not (self._to_apply.due or self.is_leader or self.reads.wait_for_apply)

    def _apply_next(self) -> None:
        while self._to_apply and not self._applying and not self._stopped and not self._may_gather():
            messages, entries = self._to_apply.take()
            try:
                results = self.machine.apply(entries)
            except Exception:  # noqa: BLE001 - whatever it is, this replica can't go on
                self._fatal(Failure())
                return
            if isinstance(results, Deferred):
                self._applying = True
                # Nobody waits for the chain: what goes wrong in it ends the process.
                _ = results.addCallback(self._applied_later, messages, entries).addErrback(self._machine_failed)
            else:
                self._applied(messages, entries, results)

    def _applied_later(self, results: Sequence[Any], messages: list[Message], entries: list[Entry]) -> None:
        self._applying = False
        self._applied(messages, entries, results)
        self._apply_next()
        if not self._applying and self._when_idle is not None:
            idle, self._when_idle = self._when_idle, None
            idle.callback(None)
        if not self._stopped:
            self._wake(self)

    def _machine_failed(self, failure: Failure) -> None:
        # Once stopped, the state machine may be closed before it has ended; what it was at is in the log.
        if not self._stopped:
            self._fatal(failure)

    def _applied(self, messages: list[Message], entries: list[Entry], results: Sequence[Any]) -> None:
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                self._apply_conf_change(entry)
        for message in messages:
            for response in message.responses:
                self.raw.step(response)
        waiters = self._waiters
        if waiters:
            for entry, result in zip(entries, results, strict=True):
                waiter = waiters.pop(entry.index, None)
                if waiter is not None:
                    _settle(waiter, entry.term, result)
        self.reads.applied(entries[-1].index)
        if self.log.size_bytes > self._log_bytes_max:
            self.compact(self._log_bytes_max // 2)

    def _apply_conf_change(self, entry: Entry) -> None:
        snapshot = self.raw.raft.log.unstable.snapshot
        if snapshot is not None and entry.index <= snapshot.index:
            # The core took a snapshot up, and its configuration with it, while the state machine was still at work.
            return
        decode = _DECODE_CHANGE if entry.type is EntryType.CONF_CHANGE else _DECODE_CHANGE_V2
        conf_state = self.raw.apply_conf_change(decode(entry.data) if entry.data else ConfChangeV2())
        self.log.note_conf_state(entry.index, conf_state)
        if self._news:
            # Who takes part is nothing to be told late.
            self._tell_news_now()

    def compact(self, keep_bytes: int) -> None:
        """Drop the log but for its newest `keep_bytes`, as far as the state machine has it on its disk."""
        if not self._compacting and not self._stopped and not self._installing and not self.holds.in_effect():
            self._compacting = True
            durable = self.machine.make_durable().addCallback(self._compact_to, keep_bytes)
            # Nobody waits for the chain: what goes wrong in it ends the process.
            _ = durable.addErrback(self._machine_failed)

    def _compact_to(self, durable_index: int, keep_bytes: int) -> None:
        self._compacting = False
        # Nothing may go that the core has not been told to be applied.
        first = self.log.first_index()
        last_now = first + COMPACTED_PER_TURN_MAX - 1
        index = min(durable_index, self.log.index_keeping(keep_bytes, last_now), self.raw.raft.log.applied)
        if self._stopped or self._installing or self.arrived is not None or index < first:
            # Once a snapshot has arrived, which configurations the entries before it made is not noted any more.
            return
        term, conf_state = self.log.term(index), self.log.conf_state_at(index)
        self.log.compact(index, conf_state)
        self._write(Compacted(self.group_id, index, term, conf_state))
        if index == last_now:
            # The state machine answers in another turn, and by then has more on its disk.
            self.compact(keep_bytes)

    def _fail_waiters(self, error: GroupError) -> None:
        waiters, self._waiters = self._waiters, {}
        for _, deferred in waiters.values():
            if not deferred.called:
                deferred.errback(error)


def _settle(waiter: tuple[int, Deferred[Any]], term: int, result: object) -> None:
    proposed_term, deferred = waiter
    if deferred.called:
        return
    if proposed_term == term:
        deferred.callback(result)
    else:
        deferred.errback(Superseded("another leader's entry was committed in its place"))
