"""The catalog as a Raft group: commands are replicated before they count, and a restart forgets nothing.

The group is number 0 of the balancer's own raftlog Node, with the balancer's own write-ahead log. One balancer is a
group of one; of several each holds a replica, and who leads the group is the controller (lbnode.office).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.internet.defer import Deferred

from lbnode.catalog import Catalog, Command, FoundCluster, RestoreCatalog
from lbnode.catalog_changes import Refused
from lbnode.catalog_machine import CatalogMachine
from lbnode.voters import BalancerRecord
from raftlog.errors import LostData
from raftlog.messages import ConfChangeV2, ConfState
from raftlog.node import Node
from raftlog.status import GroupStatus

#: The catalog's group; shards' groups are counted from 1.
CATALOG_GROUP_ID = 0
#: The only balancer's replica of it.
_REPLICA_ID = 1

_encode = msgspec.msgpack.Encoder().encode


class CatalogGroup:
    """The catalog as the controller uses it, on a running Node that hosts `machine` for the balancer `name`.

    `restored` is what a catalog that never was begins with, if its servers remember one.
    """

    def __init__(self, node: Node, machine: CatalogMachine, name: str, restored: Catalog | None = None) -> None:
        self._node = node
        self._machine = machine
        self._restored = restored
        self._peers = {_REPLICA_ID: name}

    @property
    def catalog(self) -> Catalog:
        """The catalog as last applied here."""
        return self._machine.catalog

    async def open(self, new_cluster_id: str, timeout_seconds: float) -> None:
        """Be the group's only replica, and wait until all that was ever acknowledged is applied.

        A catalog that never was is founded as `new_cluster_id`. Raises LostData if the log is gone but its state is
        not, raftlog.errors.Unavailable after the timeout.
        """
        await self.take_part(_REPLICA_ID, (_REPLICA_ID,), self._peers)
        self._node.campaign(CATALOG_GROUP_ID)
        await self.catch_up(timeout_seconds)
        await self.found(new_cluster_id, {})

    async def take_part(self, replica_id: int, first_voters: tuple[int, ...], directory: Mapping[int, str]) -> None:
        """Open this balancer's replica, or create it with the voters that the group began with.

        `directory` says which balancer has which replica. Raises LostData if the log is gone but its state is not.
        """
        self._peers = dict(directory)
        if CATALOG_GROUP_ID in self._node.recovered_ids:
            self._node.open_group(CATALOG_GROUP_ID, self._peers, self._machine)
        elif self._machine.applied_index:
            raise LostData("the catalog's log is gone, although its state is there")
        else:
            first = ConfState(voters=first_voters)
            await self._node.create_group(CATALOG_GROUP_ID, replica_id, first, self._peers, self._machine)

    async def catch_up(self, timeout_seconds: float) -> None:
        """Wait until all is applied here that was acknowledged before; raises raftlog.errors.Unavailable."""
        await self._node.read_index(CATALOG_GROUP_ID, timeout_seconds)

    async def found(self, new_cluster_id: str, balancers: dict[str, BalancerRecord]) -> None:
        """Found the catalog unless it is; what the servers remember of an earlier one comes first."""
        if self.catalog.cluster_id:
            return
        restored = self._restored
        if restored is not None:
            await self.propose(RestoreCatalog(restored, balancers))
        else:
            await self.propose(FoundCluster(new_cluster_id, balancers))

    async def propose(self, command: Command) -> Catalog:
        """Return the catalog after the command, once that is durable; raises Refused, or a raftlog GroupError."""
        proposed: Deferred[Catalog | Refused] = self._node.propose(CATALOG_GROUP_ID, _encode(command))
        result = await proposed
        if isinstance(result, Refused):
            raise result
        return result

    # ---- among several balancers --------------------------------------------------------------------------------

    @property
    def recovered_replica_id(self) -> int | None:
        """The replica that the log knows and that was not opened yet, None if there is none."""
        return self._node.recovered_replica(CATALOG_GROUP_ID)

    def status(self) -> GroupStatus | None:
        """Return where this balancer's replica stands, None before it takes part."""
        return self._node.status(CATALOG_GROUP_ID) if CATALOG_GROUP_ID in self._node.group_ids else None

    @property
    def led_term(self) -> int:
        """The term in which this balancer leads the group, 0 if it does not."""
        status = self.status()
        return status.term if status is not None and status.role == "leader" else 0

    @property
    def leader(self) -> str | None:
        """The balancer that is believed to lead the group."""
        status = self.status()
        return self._peers.get(status.leader_id) if status is not None else None

    def set_directory(self, directory: Mapping[int, str]) -> None:
        """Replace what is known of who has which replica."""
        self._peers = dict(directory)
        if CATALOG_GROUP_ID in self._node.group_ids:
            self._node.set_peers(CATALOG_GROUP_ID, self._peers)

    async def change_members(self, change: ConfChangeV2) -> None:
        """Change the group's membership; returns once that is in effect here. Raises a raftlog GroupError."""
        await self._node.propose_conf_change(CATALOG_GROUP_ID, change)

    def hand_over(self) -> None:
        """Ask the follower with the longest log to lead; nothing happens if there is none, or this one does not."""
        status = self.status()
        if status is None or status.role != "leader":
            return
        matched = {id_: status.matched.get(id_, 0) for id_ in status.conf_state.voters if id_ != status.replica_id}
        if matched:
            self._node.transfer_leader(CATALOG_GROUP_ID, max(matched, key=matched.__getitem__))
