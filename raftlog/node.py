"""The driver: all groups of a process with one timer, one log and one set of links.

Groups that have something to do take part in a turn of the reactor (raftlog.turns). No group has a timer of its own.

The clock is the reactor's; after a stall of the process (a slow disk, SIGSTOP) at most a few ticks are delivered, so
that nobody is elected because we slept (RAFT_RULES 15).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftlog.diskwatch import DiskWatch
from raftlog.errors import DiskStuck, Overloaded, TooLarge, UnknownGroup
from raftlog.group import Group
from raftlog.link import Lane
from raftlog.log import CommitBeyondLog
from raftlog.messages import (
    EMPTY_HARD_STATE,
    Alive,
    ConfChange,
    ConfChangeV2,
    ConfState,
    GroupMessage,
    Message,
    Quiesce,
    RaftItem,
    Snapshot,
    SnapshotChunk,
    sender,
)
from raftlog.opening import core_config, open_log
from raftlog.options import Limits, Times
from raftlog.sleep import Sleep
from raftlog.statemachine import StateMachine
from raftlog.status import GroupStatus, RoleChange, role_name, status_of
from raftlog.testimony import Position, Testimony
from raftlog.turns import Turns
from raftlog.wal import Appended, Created, Record, RecoveredGroup, Removed, WriteAheadLog

#: Ticks delivered at once after a pause of the process; fewer than any election timeout.
TICKS_AT_ONCE_MAX = 2

#: How often groups are looked for that hold old segments of the log, in ticks: much less than it takes to fill a
#: segment, or the log grows as fast as the disk is until somebody looks.
TICKS_BETWEEN_COMPACTIONS = 4


def _unknown(group_id: int) -> UnknownGroup:
    return UnknownGroup(f"no replica of group {group_id} here")


class Transport(Protocol):
    """What the driver needs of the links."""

    def send(self, name: str, lane: Lane, item: Any) -> bool:
        """Queue an item for a server; False if it was dropped."""


class Node(Service):
    """The groups of one process.

    `wal` and `recovered` come from raftlog.wal.open_wal; `rng` makes election timeouts random per group. `fatal` is
    called once with the reason if the process must end. `observe` hears of each role change.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wal: WriteAheadLog,
        recovered: dict[int, RecoveredGroup],
        transport: Transport,
        rng: random.Random,
        *,
        fatal: Callable[[Failure], None],
        observe: Callable[[RoleChange], None] | None = None,
        times: Times | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._clock = clock
        self._wal = wal
        self._recovered = dict(recovered)
        self._rng = rng
        self._fatal = fatal
        self._observe = observe
        self.times = times or Times()
        self._limits = limits or Limits()
        self._groups: dict[int, Group] = {}
        self._sleep = Sleep(self._groups, self.times, rng.getrandbits(32), transport.send, lambda: wal.free_bytes_low)
        self._turns = Turns(clock, wal, self._sleep, transport.send, fatal)
        self._disk_watch = DiskWatch(
            wal,
            self._groups,
            self.times,
            may_take=self._sleep.may_lead,
            wake=self._turns.wake,
            give_up=lambda reason: fatal(Failure(DiskStuck(reason))),
        )
        self._tick_call: IDelayedCall | None = None
        self._next_tick_seconds = 0.0
        self._ticks = 0
        #: Why replicas were taken out of service, by group: they must be replaced under new ids.
        self.quarantined: dict[int, str] = {}
        self._quarantined_ids: dict[int, int] = {}
        #: Messages dropped because they were for a group or replica that is not here (RAFT_RULES 35).
        self.misdirected = 0
        #: Role changes since the start, by role.
        self.role_changes: dict[str, int] = {}

    # ---- life -------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin to tick."""
        super().startService()
        self._turns.start()
        self._next_tick_seconds = self._clock.seconds() + self.times.tick_seconds
        self._tick_call = self._clock.callLater(self.times.tick_seconds, self._tick)

    def stopService(self) -> None:
        """Stop ticking and fail whatever waits. The log is closed by who opened it."""
        super().stopService()
        if self._tick_call is not None and self._tick_call.active():
            self._tick_call.cancel()
        self._tick_call = None
        self._turns.stop()
        for group in self._groups.values():
            group.stop()

    # ---- groups -----------------------------------------------------------------------------------------------

    @property
    def group_ids(self) -> list[int]:
        """The groups that are open here."""
        return list(self._groups)

    def open_groups(self) -> list[Group]:
        """Return the replicas themselves, to be looked at."""
        return list(self._groups.values())

    @property
    def recovered_ids(self) -> list[int]:
        """The groups found in the log that were not opened yet."""
        return list(self._recovered)

    def recovered_replica(self, group_id: int) -> int | None:
        """Return the id of a group's replica that was found in the log and not opened yet, None if there is none."""
        found = self._recovered.get(group_id)
        return found.replica_id if found is not None else None

    def create_group(
        self, group_id: int, replica_id: int, conf_state: ConfState, peers: dict[int, str], machine: StateMachine
    ) -> Deferred[None]:
        """Create a replica with an empty log; fires once its existence is durable and it takes part.

        All first replicas of a group start with the same `conf_state` (RAFT_RULES 11).
        """
        if group_id in self._groups or group_id in self._recovered:
            raise ValueError(f"group {group_id} exists here already")
        created: Deferred[None] = Deferred()

        def durable() -> None:
            self._recovered[group_id] = RecoveredGroup(
                group_id=group_id,
                replica_id=replica_id,
                hard_state=EMPTY_HARD_STATE,
                snapshot=Snapshot(conf_state=conf_state),
                entries=[],
            )
            self.open_group(group_id, peers, machine)
            created.callback(None)

        records = (Created(group_id, replica_id, conf_state), Appended(group_id, EMPTY_HARD_STATE, ()))
        self._wal.submit(records, durable)
        return created

    def open_group(self, group_id: int, peers: dict[int, str], machine: StateMachine) -> None:
        """Take up a replica that the log knows, after a restart.

        Raises UnknownGroup if the log does not know it, LostData if the state machine has applied entries that the
        log does not hold.
        """
        found = self._recovered.get(group_id)
        if found is None:
            raise UnknownGroup(f"the log knows no group {group_id}")
        log = open_log(found, machine.applied_index, self._write)
        self._recovered.pop(group_id)
        group = Group(
            group_id,
            core_config(found.replica_id, machine.applied_index, self.times, self._limits),
            log,
            machine,
            peers,
            random.Random(self._rng.getrandbits(64)),
            wake=self._turns.wake,
            fatal=self._fatal,
            role_changed=self._role_changed,
            write=self._write,
            log_bytes_max=self._limits.log_bytes_max,
            held_bytes_max=self._limits.held_bytes_max,
            gathering_ticks=self.times.gathering_ticks,
        )
        self._groups[group_id] = group
        self._sleep.add(group)
        self._turns.wake(group)

    def _write(self, record: Record) -> None:
        """Put a record into the log that nothing waits for."""
        self._wal.submit((record,), lambda: None)

    def remove_group(self, group_id: int) -> Deferred[None]:
        """Destroy a replica; fires once its tombstone is durable. Its state machine's data is the caller's."""
        group = self._groups.pop(group_id, None)
        found = self._recovered.pop(group_id, None)
        removed: Deferred[None] = Deferred()
        if group is not None:
            group.stop()
            self._forget(group_id)
            replica_id = group.replica_id
        elif found is not None:
            replica_id = found.replica_id
        elif group_id in self.quarantined:
            del self.quarantined[group_id]
            replica_id = self._quarantined_ids.pop(group_id)
        else:
            return fail(UnknownGroup(f"no group {group_id} here"))
        self._wal.submit((Removed(group_id, replica_id),), lambda: removed.callback(None))
        return removed

    def set_peers(self, group_id: int, peers: dict[int, str]) -> None:
        """Replace the directory of a group's replicas."""
        self._group(group_id).peers = peers
        self._sleep.meet_neighbours()

    def _forget(self, group_id: int) -> None:
        self._turns.forget(group_id)
        self._sleep.remove(group_id)

    def _group(self, group_id: int) -> Group:
        try:
            return self._groups[group_id]
        except KeyError:
            raise _unknown(group_id) from None

    # ---- requests ---------------------------------------------------------------------------------------------

    def propose(self, group_id: int, data: bytes) -> Deferred[Any]:
        """Replicate `data`; see Group.propose. Fails with UnknownGroup if there is no replica here, TooLarge."""
        group = self._groups.get(group_id)
        if group is None:
            return fail(_unknown(group_id))
        if len(data) > self._limits.entry_bytes_max:
            return fail(TooLarge(f"an entry of {len(data)} bytes; at most {self._limits.entry_bytes_max} are possible"))
        if self._wal.overloaded:
            return fail(Overloaded("too much waits for the disk"))
        if self._wal.free_bytes_low:
            return fail(Overloaded("the disk of this server is nearly full"))
        return group.propose(data)

    def propose_conf_change(self, group_id: int, change: ConfChange | ConfChangeV2) -> Deferred[Any]:
        """Change a group's membership; see Group.propose_conf_change."""
        group = self._groups.get(group_id)
        if group is None:
            return fail(_unknown(group_id))
        return group.propose_conf_change(change)

    def read_index(self, group_id: int, timeout_seconds: float) -> Deferred[None]:
        """Fire once this replica has applied all that was acknowledged before the call; see Group.read_index."""
        group = self._groups.get(group_id)
        if group is None:
            return fail(_unknown(group_id))
        return group.read_index(self._clock.seconds() + timeout_seconds)

    def read_at(self, group_id: int, position: Position, timeout_seconds: float) -> Deferred[None]:
        """Fire once this replica has applied everything up to a committed entry; see Group.read_at."""
        group = self._groups.get(group_id)
        if group is None:
            return fail(_unknown(group_id))
        return group.read_at(position, self._clock.seconds() + timeout_seconds)

    def testify(self, group_id: int) -> Testimony | None:
        """Return what the replica of a group testifies (raftlog.testimony), None if there is none here."""
        group = self._groups.get(group_id)
        return None if group is None else group.raw.testify()

    def apply_now(self, group_id: int) -> None:
        """Let a replica apply what it gathers: somebody is about to read what it has, however old."""
        group = self._groups.get(group_id)
        if group is not None:
            group.apply_now()

    def campaign(self, group_id: int) -> None:
        """Start an election at once instead of after a timeout (a new group's first leader)."""
        group = self._group(group_id)
        self._turns.wake(group)
        group.raw.campaign()

    def transfer_leader(self, group_id: int, replica_id: int) -> None:
        """Ask the leader, which must be here, to hand over; given up after an election timeout."""
        group = self._group(group_id)
        self._turns.wake(group)
        group.raw.transfer_leader(replica_id)

    def leader_id(self, group_id: int) -> int:
        """Return the replica believed to lead, 0 if none is known."""
        return self._group(group_id).leader_id

    def status(self, group_id: int) -> GroupStatus:
        """Return where this replica stands."""
        return status_of(self._group(group_id))

    # ---- messages from other servers --------------------------------------------------------------------------

    def receive(self, items: Iterable[RaftItem]) -> None:
        """Take the Raft items of a frame; one for a replica that is not here is dropped and counted."""
        groups = self._groups
        for item in items:
            if isinstance(item, Alive):
                self._sleep.heard(item)
                continue
            group = groups.get(item.group_id)
            to = item.message.to if isinstance(item, GroupMessage) else item.to
            if group is None or to != group.replica_id:
                self.misdirected += 1
            elif isinstance(item, GroupMessage):
                self._step(group, item.message)
            elif isinstance(item, SnapshotChunk):
                self._turns.snapshots.arrived(group, item)
            elif isinstance(item, Quiesce):
                self._sleep.asked(group, item)
            else:
                self._turns.snapshots.acknowledged(item)

    def heard_of(self, server: str) -> None:
        """Take what another server sent itself for a sign of its life, as a message of its replicas is."""
        self._sleep.heard_of(server)

    def sent_to(self, server: str) -> None:
        """Take note that another server, which will take it for such a sign, was sent something."""
        self._sleep.sent(server)

    def server_ended(self, server: str) -> None:
        """Take the news that the process of another server has ended: those who followed it elect another soon."""
        self._sleep.ended(server)

    def _step(self, group: Group, message: Message) -> None:
        self._sleep.heard_of(group.peers.get(sender(message), ""))
        try:
            group.step(message)
        except CommitBeyondLog as lost:
            self._quarantine(group, str(lost))

    def _quarantine(self, group: Group, reason: str) -> None:
        """Take a replica that lost acknowledged entries out of service, without a crash loop (RAFT_RULES 10)."""
        self.quarantined[group.group_id] = reason
        self._quarantined_ids[group.group_id] = group.replica_id
        del self._groups[group.group_id]
        self._forget(group.group_id)
        group.stop()
        self._log.error(
            "group {group_id}: replica {replica_id} lost part of its log and must be replaced: {reason}",
            group_id=group.group_id,
            replica_id=group.replica_id,
            reason=reason,
        )

    # ---- time -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        tick_seconds = self.times.tick_seconds
        now_seconds = self._clock.seconds()
        late_ticks = int((now_seconds - self._next_tick_seconds) / tick_seconds)
        if late_ticks >= TICKS_AT_ONCE_MAX:
            self._next_tick_seconds = now_seconds
        self._next_tick_seconds += tick_seconds
        delay_seconds = max(0.0, self._next_tick_seconds - now_seconds)
        self._tick_call = self._clock.callLater(delay_seconds, self._tick)
        round_seconds_max = tick_seconds * self.times.election_ticks
        self._ticks += 1
        try:
            self._sleep.tick(now_seconds, round_seconds_max)
            self._disk_watch.look(now_seconds)
            if self._ticks % TICKS_BETWEEN_COMPACTIONS == 0:
                self._free_old_segments()
        except Exception:  # noqa: BLE001 - a core that contradicts itself must not go on
            self._fatal(Failure())

    def _free_old_segments(self) -> None:
        """Compact the groups that hold segments of the log older than should be kept (RAFT_RULES 18)."""
        for group_id in self._wal.pinning_groups():
            group = self._groups.get(group_id)
            if group is not None:
                self._let_go_of_the_silent(group)
                group.compact(0)

    def _let_go_of_the_silent(self, group: Group) -> None:
        """Keep no log for followers whose server died with their copy: it would pin the segments of all groups."""
        for replica_id, server in group.peers.items():
            if self._sleep.is_silent(server):
                group.holds.release(replica_id)

    def _role_changed(self, group: Group) -> None:
        raft = group.raw.raft
        change = RoleChange(group.group_id, group.replica_id, role_name(group), raft.term, raft.leader_id)
        self.role_changes[change.role] = self.role_changes.get(change.role, 0) + 1
        self._log.info(
            "group {change.group_id}: replica {change.replica_id} is {change.role} in term {change.term}, "
            "leader is {change.leader_id}",
            change=change,
        )
        if self._observe is not None:
            self._observe(change)
