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
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from raftlog.applying import Applier
from raftlog.compaction import Compaction
from raftlog.confchange import ConfChangeError
from raftlog.errors import (
    InvalidChange,
    LeadershipLost,
    NotLeader,
    Overloaded,
    Stopped,
    Unavailable,
)
from raftlog.messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChange,
    ConfChangeV2,
    Entry,
    EntryType,
    Message,
    MessageType,
    Quiesce,
)
from raftlog.news import CommitNews
from raftlog.quiet import Quiet
from raftlog.rawnode import RawNode
from raftlog.reads import ReadRounds
from raftlog.retention import Holds
from raftlog.state import Config, ProposalDropped, Role
from raftlog.statemachine import StateMachine
from raftlog.storage import MemoryLog
from raftlog.testimony import Position
from raftlog.transfer import Import
from raftlog.turns import Installation, Turn
from raftlog.waiters import Waiters
from raftlog.wal import Appended, Record

if TYPE_CHECKING:
    from raftlog.rawnode import Ready

#: Readies of one group handled in one turn; a busier group goes on in the next turn (RAFT_RULES 40).
READIES_PER_TURN = 8

_DECODE_CHANGE = msgspec.msgpack.Decoder(ConfChange).decode
_DECODE_CHANGE_V2 = msgspec.msgpack.Decoder(ConfChangeV2).decode


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
        self._waiters = Waiters()
        self._applier = Applier(machine, gathering_ticks)
        self._log_bytes_max = log_bytes_max
        self.holds = Holds(self.raw.raft, log, held_bytes_max)
        self._compaction = Compaction(group_id, self.raw.raft, log, machine, self.holds, write)
        #: The content of a snapshot that has arrived, until it is installed or was not wanted.
        self.arrived: Import | None = None
        self._installing = False
        self._stopped = False
        self.quiet = Quiet(group_id, self.raw)
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
        if not self.is_leader:
            return fail(NotLeader(self.leader_id))
        self._wake(self)
        try:
            term, index = propose()
        except ProposalDropped as dropped:
            return fail(Overloaded(str(dropped)))
        except ConfChangeError as invalid:
            return fail(InvalidChange(str(invalid)))
        return self._waiters.add(term, index)

    def read_index(self, deadline_seconds: float) -> Deferred[None]:
        """Return a Deferred that fires when the local state holds all that was acknowledged before this call."""
        # The question will wake the leader; if it does not answer, it has to be replaced.
        self.quiet.stay_awake()
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
        self.quiet.stay_awake()
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
        self.quiet.before_tick(self._is_busy)
        if self.quiet.asleep:
            return
        self.raw.tick()
        if self._news.tick():
            self._tell_news_now()
        if self._applier.tick():
            self._wake(self)
        if self.reads:
            self.reads.sweep(now_seconds, round_seconds_max)
            self.quiet.count_anew()
            self._wake(self)
            return
        if self.raw.has_ready():
            self._wake(self)
        self.quiet.count()

    def _tell_news_now(self) -> None:
        self._tell_news = True
        self._wake(self)

    def may_sleep(self) -> bool:
        """Return whether this replica leads and nobody in its group has had anything to do for a while."""
        return self.quiet.may_sleep(self._is_busy)

    def take_quiesce(self, item: Quiesce) -> None:
        """Take the leader's request to sleep."""
        self.quiet.take_request(item, self._is_busy)

    def miss_leader(self) -> None:
        """Take note that the leader's server is gone: an election timeout has nearly passed already."""
        raft = self.raw.raft
        raft.election_elapsed = max(raft.election_elapsed, raft.config.election_ticks - 1)

    def forget_leader(self) -> None:
        """Follow nobody until somebody is heard of: the leader's process has ended, and votes need not wait."""
        self.raw.forget_leader()
        self._wake(self)

    def stop(self) -> None:
        """Fail whatever waits; nothing is handed out any more."""
        self._stopped = True
        self._applier.stop()
        self._waiters.fail_all(Stopped("the replica stops"))
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
        self._applier.apply_due(self)
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
                self._applier.put(message)
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
        self._applier.apply_due(self)
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
            self._waiters.fail_all(LeadershipLost("this replica stopped leading"))
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

    # ---- the state machine ------------------------------------------------------------------------------------

    @property
    def applying_from(self) -> int | None:
        """The index up to which all is applied, if the state machine is at work on what follows."""
        return self._applier.at_work_from

    def apply_now(self) -> None:
        """Begin to apply what is committed and durable here: somebody is about to look at the state machine."""
        self._applier.apply_all(self)

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when the state machine has nothing to do. One caller at a time."""
        return self._applier.idle(self)

    def compact(self, keep_bytes: int) -> None:
        """Drop the log but for its newest `keep_bytes`, as far as the state machine has it on its disk."""
        self._compaction.run(self, keep_bytes)

    def is_apply_awaited(self) -> bool:
        """Return whether anybody waits for what this replica applies."""
        return self.is_leader or self.reads.wait_for_apply

    def go_on(self) -> None:
        """Ask for the next turn."""
        self._wake(self)

    def machine_failed(self, failure: Failure) -> None:
        """Take what the state machine raised: this replica can't go on."""
        # Once stopped, the state machine may be closed before it has ended; what it was at is in the log.
        if not self._stopped:
            self._fatal(failure)

    def applied(self, messages: list[Message], entries: list[Entry], results: Sequence[Any]) -> None:
        """Take what the state machine has applied: tell the core, and whoever waits for it."""
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                self._apply_conf_change(entry)
        for message in messages:
            for response in message.responses:
                self.raw.step(response)
        self._waiters.applied(entries, results)
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

    def may_compact(self) -> bool:
        """Return whether the log may be touched now."""
        # Once a snapshot has arrived, which configurations the entries before it made is not noted any more.
        return not self._stopped and not self._installing and self.arrived is None

    def _is_busy(self) -> bool:
        """Return whether anything is to be done here, or is waited for, that the core knows nothing of."""
        waited_for = self.reads or self._waiters or self._news
        return bool(waited_for) or self._applier.at_work or self._installing or self._stopped
