"""What must hold after every event, whatever happened (Raft figure 3; RAFT_RULES, "Evidence").

Election safety, log matching, leader completeness, state machine safety, one vote per term and voter; commit, applied
and term never go back within a process; applied ≤ commit ≤ last; at most one uncommitted change of membership. Each is
checked where something changed, against what was seen anywhere before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from raftlog.group import Group
from raftlog.messages import ConfState, Entry, EntryType, GroupMessage, MessageType, RaftItem
from raftlog.node import Node
from raftlog.state import Role
from raftlog.storage import MemoryLog
from raftlog.testing.simulation.world import Violation

_NO_LIMIT = 1 << 40


@dataclass(slots=True)
class _Seen:
    """How far a replica's process was when it was last looked at. `last_*` are of its durable log."""

    group: Group
    term: int = 0
    commit: int = 0
    applied: int = 0
    leads: bool = False
    end: int = 0
    last_index: int = 0
    last_term: int = 0
    conf_state: ConfState | None = None


@dataclass
class Invariants:
    """Looks at the replicas of one group on running nodes, over all servers and time. `happened` counts."""

    happened: Counter[str]
    _leaders: dict[int, int] = field(default_factory=dict)
    _votes: dict[tuple[int, int], int] = field(default_factory=dict)
    #: Every entry that was ever durable anywhere, by (index, term), with the term of the one before it.
    _entries: dict[tuple[int, int], tuple[Entry, int]] = field(default_factory=dict)
    #: What was committed, by index: its term, and the term in which that happened.
    committed: dict[int, tuple[int, int]] = field(default_factory=dict)
    _seen: dict[int, _Seen] = field(default_factory=dict)

    # ---- messages ---------------------------------------------------------------------------------------------

    def sent(self, item: RaftItem) -> None:
        """Look at an item that leaves a server: a vote is given to one candidate per term only (Raft §5.2)."""
        if not isinstance(item, GroupMessage):
            return
        message = item.message
        if message.type is MessageType.VOTE:
            self._voted(message.from_, message.term, message.from_)
        elif message.type is MessageType.VOTE_RESPONSE and not message.reject:
            self._voted(message.from_, message.term, message.to)

    def _voted(self, voter: int, term: int, candidate: int) -> None:
        first = self._votes.setdefault((voter, term), candidate)
        if first != candidate:
            raise Violation(f"replica {voter} voted for {first} and {candidate} in term {term}")

    # ---- replicas ---------------------------------------------------------------------------------------------

    def look(self, node: Node) -> None:
        """Check the replicas of a node."""
        for group_id, reason in node.quarantined.items():
            raise Violation(f"a replica of group {group_id} lost acknowledged entries: {reason}")
        for group in node.open_groups():
            self._look_at(group)

    def _look_at(self, group: Group) -> None:
        seen = self._seen.get(group.replica_id)
        if seen is None or seen.group is not group:
            # A new process: what was not durable is gone, so it begins anew.
            seen = self._seen[group.replica_id] = _Seen(group)
        raft = group.raw.raft
        log = raft.log
        if raft.term < seen.term or log.committed < seen.commit or log.applied < seen.applied:
            raise Violation(
                f"replica {group.replica_id} went back: term {seen.term} to {raft.term}, "
                f"commit {seen.commit} to {log.committed}, applied {seen.applied} to {log.applied}"
            )
        end = log.last_index()
        if not log.applied <= log.applying <= log.committed <= end:
            raise Violation(
                f"replica {group.replica_id}: {log.applied} <= {log.applying} <= {log.committed} <= {end} fails"
            )
        leads = raft.role is Role.LEADER
        if leads and (not seen.leads or raft.term != seen.term):
            self._new_leader(group)
        if leads and end != seen.end:
            self._one_change(group)
        self._match_logs(group, seen)
        if log.committed > seen.commit:
            self._commit(group, seen.commit)
        self._note_membership(group, seen)
        seen.term, seen.commit, seen.applied, seen.leads, seen.end = raft.term, log.committed, log.applied, leads, end

    def _new_leader(self, group: Group) -> None:
        raft = group.raw.raft
        self.happened["leader: elected"] += 1
        leader = self._leaders.setdefault(raft.term, group.replica_id)
        if leader != group.replica_id:
            raise Violation(f"replicas {leader} and {group.replica_id} both lead in term {raft.term}")
        first = raft.log.first_index()
        for index, (term, since) in self.committed.items():
            # Who is elected late, when a higher term has begun already, need not have what was committed in that one.
            if since < raft.term and index >= first and not raft.log.matches(index, term):
                raise Violation(f"leader {group.replica_id} of term {raft.term} lacks committed entry {index}/{term}")

    def _one_change(self, group: Group) -> None:
        log = group.raw.raft.log
        behind = log.slice(max(log.committed + 1, log.first_index()), log.last_index() + 1, _NO_LIMIT)
        if sum(entry.type is not EntryType.NORMAL for entry in behind) > 1:
            raise Violation(f"leader {group.replica_id} has more than one uncommitted change of membership")

    def _match_logs(self, group: Group, seen: _Seen) -> None:
        log = group.log
        last, first = log.last_index(), log.first_index()
        if last < first or (last == seen.last_index and log.term(last) == seen.last_term):
            return
        since = seen.last_index if _still_has(log, seen) else first - 1
        before = log.term(since)
        for entry in log.entries(since + 1, last + 1, _NO_LIMIT):
            if self._entries.setdefault((entry.index, entry.term), (entry, before)) != (entry, before):
                raise Violation(f"replica {group.replica_id}: entry {entry.index}/{entry.term} is not what others have")
            before = entry.term
        seen.last_index, seen.last_term = last, before

    def _commit(self, group: Group, since: int) -> None:
        log = group.raw.raft.log
        for index in range(max(since + 1, log.first_index()), log.committed + 1):
            term = log.term(index)
            known, _ = self.committed.setdefault(index, (term, group.raw.raft.term))
            if known != term:
                raise Violation(f"entries {index}/{known} and {index}/{term} were both committed")

    def _note_membership(self, group: Group, seen: _Seen) -> None:
        if group.raw.raft.role is not Role.LEADER:
            return
        conf_state = group.raw.conf_state()
        if seen.conf_state is not None and conf_state != seen.conf_state:
            self.happened["membership: changed"] += 1
            if conf_state.voters_outgoing:
                self.happened["membership: joint"] += 1
        seen.conf_state = conf_state


def _still_has(log: MemoryLog, seen: _Seen) -> bool:
    """Whether the log is what it was up to its former last entry."""
    return log.first_index() - 1 <= seen.last_index <= log.last_index() and log.term(seen.last_index) == seen.last_term
