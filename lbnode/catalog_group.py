"""The catalog as a Raft group: commands are replicated before they count, and a restart forgets nothing.

The group is number 0 of the balancer's own raftlog Node, with the balancer's own write-ahead log. One balancer is a
group of one.
"""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred

from lbnode.catalog import Catalog, Command, FoundCluster, Refused, RestoreCatalog
from lbnode.catalog_machine import CatalogMachine
from raftlog.errors import LostData
from raftlog.messages import ConfState
from raftlog.node import Node

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
        """Take part in the group and wait until all that was ever acknowledged is applied.

        A catalog that never was is founded as `new_cluster_id`. Raises LostData if the log is gone but its state is
        not, raftlog.errors.Unavailable after the timeout.
        """
        node, machine = self._node, self._machine
        if CATALOG_GROUP_ID in node.recovered_ids:
            node.open_group(CATALOG_GROUP_ID, self._peers, machine)
        elif machine.applied_index:
            raise LostData("the catalog's log is gone, although its state is there")
        else:
            only = ConfState(voters=(_REPLICA_ID,))
            await node.create_group(CATALOG_GROUP_ID, _REPLICA_ID, only, self._peers, machine)
        node.campaign(CATALOG_GROUP_ID)
        await node.read_index(CATALOG_GROUP_ID, timeout_seconds)
        if not self.catalog.cluster_id:
            restored = self._restored
            await self.propose(RestoreCatalog(restored) if restored is not None else FoundCluster(new_cluster_id))

    async def propose(self, command: Command) -> Catalog:
        """Return the catalog after the command, once that is durable; raises Refused, or a raftlog GroupError."""
        proposed: Deferred[Catalog | Refused] = self._node.propose(CATALOG_GROUP_ID, _encode(command))
        result = await proposed
        if isinstance(result, Refused):
            raise result
        return result
