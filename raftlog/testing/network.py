"""A group of real cores in one process, with a network and disks that fail only when a test says so.

For tests of the core's rules: everything is in memory, messages are delivered in the order they were sent, nothing
happens between two calls. The core runs with asynchronous storage, as under its driver, so what is acknowledged is
always what a disk has taken. Whenever the network comes to rest the properties of the paper's figure 3 that can be
seen from outside are checked. (Whole servers under random faults are the simulator's business.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from raftlog.messages import ConfState, Entry, HardState, Message, Snapshot
from raftlog.state import Config, Role
from raftlog.storage import MemoryLog
from raftlog.testing.member import Member

ELECTION_TICKS = 10
HEARTBEAT_TICKS = 1

#: Rounds of delivery after which a group that is still busy is taken for one that never comes to rest.
_ROUNDS_MAX = 10_000


def config(replica_id: int, **changes: Any) -> Config:
    """Return what the driver would use, with short times and, unless changed, no bounds that a test could meet."""
    fields: dict[str, Any] = {
        "replica_id": replica_id,
        "election_ticks": ELECTION_TICKS,
        "heartbeat_ticks": HEARTBEAT_TICKS,
        "max_size_per_message": 1 << 20,
        "max_committed_size_per_ready": 1 << 20,
        "max_uncommitted_size": 1 << 30,
        "max_inflight_messages": 256,
    }
    return Config(**{**fields, **changes})


def entries_of(terms: Iterable[int]) -> list[Entry]:
    """Return a log whose entries have these terms, as the paper's figures draw logs."""
    return [Entry(term, index, f"{term}.{index}".encode()) for index, term in enumerate(terms, start=1)]


def log_of(conf_state: ConfState, terms: Sequence[int] = (), term: int = 0) -> MemoryLog:
    """Return the durable log of a replica that was last in `term`; nothing in it is known to be committed."""
    hard_state = HardState(term or max(terms, default=0))
    return MemoryLog.recovered(hard_state, Snapshot(conf_state=conf_state), entries_of(terms), 0)


class Network:
    """A group and what connects it.

    `logs` gives replicas a history (terms of entries); the others begin empty. `settings` are fields of Config.
    `loses` may be set to a predicate: messages for which it holds are lost. `sent` is everything that ever left.
    """

    def __init__(
        self,
        voters: Sequence[int] = (1, 2, 3),
        *,
        learners: Sequence[int] = (),
        logs: Mapping[int, Sequence[int]] | None = None,
        seed: int = 1,
        **settings: Any,
    ) -> None:
        self._conf_state = ConfState(voters=tuple(voters), learners=tuple(learners))
        self._rng = random.Random(seed)
        self._settings = settings
        self._cut: set[tuple[int, int]] = set()
        self._leaders: dict[int, int] = {}
        self.loses: Callable[[Message], bool] = lambda message: False
        self.in_flight: list[Message] = []
        self.sent: list[Message] = []
        self.members: dict[int, Member] = {}
        for replica_id in (*voters, *learners):
            self._add(replica_id, log_of(self._conf_state, (logs or {}).get(replica_id, ())))

    @classmethod
    def plain(cls, voters: Sequence[int] = (1, 2, 3), **settings: Any) -> Network:
        """Return a group with the paper's own elections: no pre-vote, no check-quorum."""
        return cls(voters, pre_vote=False, check_quorum=False, **settings)

    def _add(self, replica_id: int, log: MemoryLog) -> None:
        self.members[replica_id] = Member(config(replica_id, **self._settings), log, self._rng)

    def __getitem__(self, replica_id: int) -> Member:
        """Return a replica."""
        return self.members[replica_id]

    def join(self, replica_id: int) -> None:
        """Add a replica that knows the group's first configuration only; it takes part once a change says so."""
        self._add(replica_id, log_of(self._conf_state))

    # ---- what is wrong with the network -----------------------------------------------------------------------

    def isolate(self, *replica_ids: int) -> None:
        """Cut these replicas off from all others, and from each other."""
        for one in replica_ids:
            for other in self.members:
                self._cut |= {(one, other), (other, one)}

    def split(self, *sides: Sequence[int]) -> None:
        """Part the replicas into sides that do not hear each other."""
        side_of = {replica_id: number for number, side in enumerate(sides) for replica_id in side}
        self._cut = {(one, other) for one in side_of for other in side_of if side_of[one] != side_of[other]}

    def heal(self) -> None:
        """Let all messages through again."""
        self._cut = set()
        self.loses = lambda message: False

    def _is_lost(self, message: Message) -> bool:
        return (message.from_, message.to) in self._cut or message.to not in self.members or self.loses(message)

    # ---- what is asked of the group ---------------------------------------------------------------------------

    def campaign(self, replica_id: int) -> None:
        """Let a replica start an election, and wait for the end of it."""
        self[replica_id].raw.campaign()
        self.run()

    def propose(self, replica_id: int, *data: bytes) -> None:
        """Propose to a replica that leads, and wait for whatever comes of it."""
        for one in data:
            self[replica_id].raw.propose(one)
        self.run()

    def tick(self, count: int = 1, *replica_ids: int) -> None:
        """Let time pass, for all or only for some, and messages be delivered after each tick."""
        for _ in range(count):
            for replica_id in replica_ids or tuple(self.members):
                self[replica_id].raw.tick()
            self.run()

    def elect(self, replica_id: int) -> None:
        """Make a replica leader in a group where no leader is alive."""
        self.campaign(replica_id)
        if self[replica_id].raw.raft.role is not Role.LEADER:
            raise AssertionError(f"replica {replica_id} was not elected")

    def leaders(self) -> list[int]:
        """Return who believes to lead."""
        return [replica_id for replica_id, member in self.members.items() if member.raw.raft.role is Role.LEADER]

    # ---- delivery ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Handle Readies and deliver messages until nothing moves."""
        for _ in range(_ROUNDS_MAX):
            if not self.step():
                self.check()
                return
        raise AssertionError("the group does not come to rest")

    def step(self) -> bool:
        """Handle the Readies of all, then deliver what is on its way; False if there was nothing to do."""
        moved = bool(self.in_flight)
        for member in self.members.values():
            while member.raw.has_ready():
                moved = True
                self.send(member.handle_ready())
                self._note_leader(member)
        arriving, self.in_flight = self.in_flight, []
        for message in arriving:
            if not self._is_lost(message):
                self[message.to].raw.step(message)
        return moved

    def send(self, messages: Iterable[Message]) -> None:
        """Put messages on their way."""
        for message in messages:
            self.sent.append(message)
            self.in_flight.append(message)

    # ---- properties (Raft figure 3) ---------------------------------------------------------------------------

    def _note_leader(self, member: Member) -> None:
        """Election safety: at most one leader can be elected in a given term."""
        raft = member.raw.raft
        if raft.role is Role.LEADER and self._leaders.setdefault(raft.term, raft.id) != raft.id:
            raise AssertionError(f"replicas {self._leaders[raft.term]} and {raft.id} both lead term {raft.term}")

    def check(self) -> None:
        """Raise AssertionError unless logs match and all apply the same."""
        members = list(self.members.values())
        for place, one in enumerate(members):
            for other in members[place + 1 :]:
                _check_log_matching(one, other)
                _check_state_machines(one, other)


def _check_log_matching(one: Member, other: Member) -> None:
    """If two logs have an entry with the same index and term, they are identical up to it."""
    ours, theirs = ({entry.index: entry for entry in member.entries} for member in (one, other))
    common = sorted(ours.keys() & theirs.keys())
    agreed = [index for index in common if ours[index].term == theirs[index].term]
    for index in common:
        if agreed and index <= agreed[-1] and ours[index] != theirs[index]:
            raise AssertionError(f"replicas {one.id} and {other.id} agree on {agreed[-1]} but not on entry {index}")


def _check_state_machines(one: Member, other: Member) -> None:
    """No two replicas ever apply a different entry for the same index."""
    ours, theirs = ({entry.index: entry for entry in member.applied} for member in (one, other))
    for index in ours.keys() & theirs.keys():
        if ours[index] != theirs[index]:
            raise AssertionError(f"replicas {one.id} and {other.id} applied different entries {index}")
