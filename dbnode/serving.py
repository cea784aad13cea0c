"""Answering what comes in over links: Raft messages to the groups, requests to the replicas, replies to their askers.

Work is done per frame: all Raft messages in one call, and for all linearizable reads of one group one ReadIndex, which
the driver again shares with whoever else waits (RAFT_RULES 28). Every refusal says whether anything may have been
applied (RAFT_RULES 41); a proposal is passed on to the leader only for an asker who asks for that (dbnode.relay).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.machine import Outcome
from dbnode.relay import Relay
from dbnode.replica import Replica
from dbnode.replypath import ReplyPath
from dbnode.sessions import Rejected
from dbnode.store import StoreError
from dbnode.tours import Tours
from dbnode.turns import Turns
from dbnode.wire import (
    INVALID,
    LINEARIZABLE,
    LOST,
    NO_REPLICA,
    NOT_LEADER,
    OVERLOADED,
    TOO_LARGE,
    UNAVAILABLE,
    Applied,
    Leader,
    LinkItem,
    Propose,
    Read,
    ReadPositions,
    Reconfigure,
    Refused,
    ReplicaStatus,
    Reply,
    Rows,
    Status,
    Statuses,
    Tour,
    Transfer,
    WhoLeads,
)
from raftlog.errors import GroupError, InvalidChange, NotLeader, Overloaded, TooLarge, Unavailable, UnknownGroup
from raftlog.messages import GroupMessage, RaftItem
from raftlog.node import Node

#: What any read costs, as much as so many bytes of rows.
_READ_COST = 512
#: How long a round is waited for by which a replica finds out that it has caught up, before the next one.
_CATCH_UP_SECONDS = 10.0


class Serving:
    """The replicas of this server, as links see them.

    `relay` passes proposals on, `tours` those that come by; without them, none is.
    """

    _log = Logger()

    def __init__(self, node: Node, clock: IReactorTime, relay: Relay | None = None, tours: Tours | None = None) -> None:
        self._node = node
        self._relay = relay
        self._tours = tours
        self._turns = Turns(clock)
        self._stopping = False
        self.replicas: dict[int, Replica] = {}
        #: Which server has which replica, by group.
        self.peers: dict[int, dict[int, str]] = {}
        #: Those that were found lost when they were to be opened, by group: replica id and reason.
        self.lost: dict[int, tuple[int, str]] = {}
        #: Since the start, for /metrics.
        self.proposals = 0
        self.reads = 0
        self.tours = 0
        self.refusals: dict[str, int] = {}

    def add(self, replica: Replica) -> None:
        """Serve a replica that takes part in its group."""
        self.replicas[replica.group_id] = replica
        in_background(Deferred.fromCoroutine(self._catch_up(replica)), "catching up")

    async def _catch_up(self, replica: Replica) -> None:
        """Have a read round find out that a replica has what was acknowledged before it was opened.

        Without that it would answer no stale read until somebody else's round had ended here, and once its group had
        lost its majority none ever would.
        """
        while not self._stopping and not replica.caught_up and self.replicas.get(replica.group_id) is replica:
            try:
                await self._node.read_index(replica.group_id, _CATCH_UP_SECONDS)
            except Unavailable:
                continue
            except GroupError:
                return
            replica.caught_up = True

    def receive(self, path: ReplyPath, items: Iterable[LinkItem]) -> list[Reply]:
        """Take all items of a frame; return the replies among them, which belong to requests of this server."""
        messages: list[RaftItem] = []
        reads: dict[int, list[Read]] = {}
        replies: list[Reply] = []
        for item in items:
            if isinstance(item, GroupMessage):
                messages.append(item)
            elif isinstance(item, Propose):
                self._propose(path, item)
            elif isinstance(item, Read):
                reads.setdefault(item.group_id, []).append(item)
            elif isinstance(item, Tour):
                self._tour(path, item)
            elif isinstance(item, Applied | Rows | ReadPositions | Statuses | Leader | Refused):
                replies.append(item)
            elif isinstance(item, Status):
                path.send(Statuses(item.request_id, tuple(self.statuses()), tuple(self.lost_statuses())))
            elif isinstance(item, WhoLeads):
                path.send(self._leader(item))
            elif isinstance(item, Transfer):
                path.send(self._transfer(item))
            elif isinstance(item, Reconfigure):
                self._reconfigure(path, item)
            else:
                messages.append(item)
        if messages:
            self._node.receive(messages)
        for group_id, together in reads.items():
            self._read(path, group_id, together)
        return replies

    def statuses(self) -> list[ReplicaStatus]:
        """Return what there is to say of each replica."""
        lost = self._node.quarantined
        return [self._status(replica) for replica in self.replicas.values() if replica.group_id not in lost]

    def lost_statuses(self) -> list[ReplicaStatus]:
        """Return what there is to say of each replica that is lost."""
        return [
            ReplicaStatus(group_id, replica_id, "lost", 0, 0, "", 0, 0, 0, 0, reason=reason)
            for group_id, (replica_id, reason) in self.lost_replicas().items()
        ]

    def lost_replicas(self) -> dict[int, tuple[int, str]]:
        """Return the replicas here that lost their log or their store, by group: replica id and reason."""
        taken_out = self._node.quarantined
        known = self.replicas
        return {**self.lost, **{group_id: (known[group_id].replica_id, why) for group_id, why in taken_out.items()}}

    def leads(self, group_id: int) -> bool:
        """Return whether this server's replica leads its group."""
        return any(status.group_id == group_id and status.role == "leader" for status in self.statuses())

    def leader_server(self, group_id: int) -> str:
        """Return the name of the server that leads a group, "" if none is known."""
        return self.peers.get(group_id, {}).get(self._node.leader_id(group_id), "")

    # ---- changes ------------------------------------------------------------------------------------------------

    def _propose(self, path: ReplyPath, item: Propose) -> None:
        self.proposals += 1
        outcome = self._node.propose(item.group_id, item.command)
        answered: Deferred[Reply] = outcome.addCallbacks(
            self._outcome, self._not_taken, callbackArgs=(item,), errbackArgs=(item,)
        )
        in_background(answered.addCallback(path.send), "answering a proposal")

    def _not_taken(self, failure: Failure, item: Propose) -> Reply | Deferred[Reply]:
        wanted = failure.check(NotLeader) and item.relay and item.relay == self.leader_server(item.group_id)
        if wanted and self._relay is not None:
            return self._relay.pass_on(item)
        return self._not_proposed(failure, item)

    def _outcome(self, outcome: Outcome, item: Propose) -> Reply:
        if isinstance(outcome, Rejected):
            return self._refused(item.request_id, outcome.code, outcome.message)
        return Applied(item.request_id, outcome)

    def _not_proposed(self, failure: Failure, item: Propose | Reconfigure) -> Reply:
        error = failure.value
        if isinstance(error, NotLeader):
            leader = self.leader_server(item.group_id)
            text = f"{leader} leads group {item.group_id}" if leader else f"group {item.group_id} has no leader"
            return self._refused(item.request_id, NOT_LEADER, text, leader=leader)
        if isinstance(error, UnknownGroup):
            return self._refused(item.request_id, NO_REPLICA, str(error))
        if isinstance(error, Overloaded):
            return self._refused(item.request_id, OVERLOADED, str(error))
        if isinstance(error, TooLarge):
            return self._refused(item.request_id, TOO_LARGE, str(error))
        if isinstance(error, InvalidChange):
            return self._refused(item.request_id, INVALID, str(error))
        if isinstance(error, GroupError):
            code = LOST if error.maybe_applied else UNAVAILABLE
            return self._refused(item.request_id, code, str(error), maybe_applied=error.maybe_applied)
        self._log.failure("a proposal failed by a mistake of this program", failure)
        return self._refused(item.request_id, LOST, "the server failed; see its log", maybe_applied=True)

    def _leader(self, item: WhoLeads) -> Leader:
        if item.group_id not in self._node.group_ids:
            return Leader(item.request_id, "", 0)
        return Leader(item.request_id, self.leader_server(item.group_id), self._node.status(item.group_id).term)

    def _transfer(self, item: Transfer) -> Reply:
        if not self.leads(item.group_id):
            return self._refused(item.request_id, NOT_LEADER, f"this server does not lead group {item.group_id}")
        self._node.transfer_leader(item.group_id, item.replica_id)
        return Applied(item.request_id, ())

    def _reconfigure(self, path: ReplyPath, item: Reconfigure) -> None:
        changed = self._node.propose_conf_change(item.group_id, item.change)
        answered = changed.addCallbacks(lambda _: Applied(item.request_id, ()), self._not_proposed, errbackArgs=(item,))
        in_background(answered.addCallback(path.send), "answering a change of membership")

    def stop(self) -> None:
        """Answer no more reads (the process ends)."""
        self._stopping = True
        self._turns.stop()

    # ---- reads --------------------------------------------------------------------------------------------------

    def read(self, item: Read) -> Deferred[Rows | Refused]:
        """Answer one read of this process itself."""
        reply: Deferred[Rows | Refused] = Deferred()
        self._read(_Here(reply), item.group_id, [item])
        return reply

    def _tour(self, path: ReplyPath, item: Tour) -> None:
        self.tours += 1
        if self._tours is not None:
            self._tours.take(path, item)
        else:
            path.send(self._refused(item.request_id, UNAVAILABLE, "this server has no part in tours"))

    def _read(self, path: ReplyPath, group_id: int, together: list[Read]) -> None:
        self.reads += len(together)
        replica = self.replicas.get(group_id)
        if replica is None:
            self._refuse_all(path, together, NO_REPLICA, f"no replica of group {group_id} here")
            return
        positioned = [item for item in together if item.position.index]
        if positioned:
            self._read_at(path, replica, positioned)
            together = [item for item in together if not item.position.index]
        at_once = [item for item in together if item.consistency != LINEARIZABLE and replica.caught_up]
        if at_once:
            self._node.apply_now(group_id)
            self._answer(path, replica, at_once)
        waiting = [item for item in together if item.consistency == LINEARIZABLE] if at_once else together
        if waiting:
            confirmed = self._node.read_index(group_id, _longest_seconds(waiting))
            self._answer_after(confirmed.addCallback(self._caught_up, replica), path, replica, waiting)

    def _read_at(self, path: ReplyPath, replica: Replica, together: list[Read]) -> None:
        newest = max((item.position for item in together), key=lambda position: position.index)
        applied = self._node.read_at(replica.group_id, newest, _longest_seconds(together))
        self._answer_after(applied, path, replica, together)

    def _answer_after(self, confirmed: Deferred[None], path: ReplyPath, replica: Replica, waiting: list[Read]) -> None:
        answered = confirmed.addCallbacks(
            lambda _: self._answer(path, replica, waiting),
            lambda failure: self._unconfirmed(path, waiting, failure),
        )
        in_background(answered, "answering reads")

    def _caught_up(self, confirmed: None, replica: Replica) -> None:
        # A position says less: it may be older than this process.
        replica.caught_up = True

    def _unconfirmed(self, path: ReplyPath, waiting: list[Read], failure: Failure) -> None:
        failure.trap(GroupError)
        code = NO_REPLICA if failure.check(UnknownGroup) else UNAVAILABLE
        self._refuse_all(path, waiting, code, failure.getErrorMessage())

    def _answer(self, path: ReplyPath, replica: Replica, reads: list[Read]) -> None:
        for item in reads:
            self._turns.run(partial(self._answer_one, path, replica, item))

    def _answer_one(self, path: ReplyPath, replica: Replica, item: Read) -> int:
        """Answer a read; return what it has cost (see dbnode.turns)."""
        if self.replicas.get(item.group_id) is not replica:
            self._refuse_all(path, [item], NO_REPLICA, f"no replica of group {item.group_id} here any more")
            return _READ_COST
        try:
            rows = replica.read(item.request_id, item.low, item.high, item.limit, item.bytes_max, item.as_lines)
        except StoreError as error:
            self._refuse_all(path, [item], UNAVAILABLE, str(error))
            return _READ_COST
        if not isinstance(rows, Rows):
            failed = partial(self._unreadable, item)
            in_background(rows.addErrback(failed).addCallback(path.send), "answering a read")
            return _READ_COST
        path.send(rows)
        return _READ_COST + len(rows.data)

    def _unreadable(self, item: Read, failure: Failure) -> Reply:
        failure.trap(StoreError)
        return self._refused(item.request_id, UNAVAILABLE, failure.getErrorMessage())

    # ---- words --------------------------------------------------------------------------------------------------

    def _refuse_all(self, path: ReplyPath, reads: list[Read], code: str, text: str) -> None:
        for item in reads:
            path.send(self._refused(item.request_id, code, text))

    def _refused(
        self, request_id: int, code: str, text: str, *, leader: str = "", maybe_applied: bool = False
    ) -> Refused:
        self.refusals[code] = self.refusals.get(code, 0) + 1
        return Refused(request_id, code, text, leader, maybe_applied)

    def _status(self, replica: Replica) -> ReplicaStatus:
        status = self._node.status(replica.group_id)
        return ReplicaStatus(
            group_id=replica.group_id,
            replica_id=replica.replica_id,
            role=status.role,
            term=status.term,
            leader_id=status.leader_id,
            leader_server=self.leader_server(replica.group_id),
            last_index=status.last_index,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            row_count=replica.row_count,
            conf_state=status.conf_state,
            matched=status.matched,
        )


def _longest_seconds(reads: list[Read]) -> float:
    return max(item.timeout_ms for item in reads) / 1000


class _Here:
    """The reply path of a read by this process itself."""

    def __init__(self, reply: Deferred[Rows | Refused]) -> None:
        self._reply = reply

    def send(self, item: Any) -> bool:
        self._reply.callback(item)
        return True
