"""What a server holds: replicas come and go as its configuration says, and survive a restart.

Replicas are created durably before the configuration that names them is kept, and destroyed before the one that no
longer names them is: a crash in between leaves something that the same configuration, sent again, completes. A
replica that the configuration knows and the log does not has lost its log; it is quarantined and never votes again
under its id, since it may have promised what it no longer knows (RAFT_RULES 10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from dbnode.datadir import ServerIdentity, StoredConfig
from dbnode.errors import ApiError
from dbnode.replica import Replica
from dbnode.schema import Schema, schema_from_json
from dbnode.serving import Serving
from dbnode.store import RunInThread, SnapshotStore
from dbnode.wire import GroupConfig, ManagedConfig
from raftlog.errors import LostData
from raftlog.link import Endpoint
from raftlog.messages import ConfState
from raftlog.node import Node


class PeerDirectory(Protocol):
    """What the host needs of the links."""

    def set_peer(self, name: str, endpoint: Endpoint) -> None:
        """Dial a server at this address."""

    def remove_peer(self, name: str) -> None:
        """Forget a server."""


class ConfigFile(Protocol):
    """Where the configuration is kept (dbnode.datadir)."""

    def read_config(self) -> StoredConfig | None:
        """Return what was kept last."""

    def write_config(self, config: StoredConfig) -> None:
        """Keep a configuration durably."""


class Host:
    """The replicas of one server.

    `stores` makes the store of a group's replica, `tombstones` are the replica ids that were destroyed here, `links`
    is None for a server alone; for `in_thread` see Replica. `open` comes first.
    """

    _log = Logger()

    def __init__(
        self,
        identity: ServerIdentity,
        node: Node,
        serving: Serving,
        links: PeerDirectory | None,
        stores: Callable[[int, int, Schema], SnapshotStore],
        config_file: ConfigFile,
        tombstones: Iterable[int],
        in_thread: RunInThread,
    ) -> None:
        self.identity = identity
        self.config: StoredConfig | None = None
        self.schema: Schema | None = None
        self._node = node
        self._serving = serving
        self._links = links
        self._stores = stores
        self._config_file = config_file
        self._tombstones = set(tombstones)
        self._in_thread = in_thread
        self._lock = DeferredLock()

    @property
    def groups(self) -> dict[str, GroupConfig]:
        """The groups of which this server has a replica, by the name of their shard."""
        return {group.shard: group for group in self.config.cluster.groups} if self.config is not None else {}

    @property
    def quarantined(self) -> dict[int, str]:
        """The groups whose replica here lost its log or its store, with the reason."""
        return {group_id: reason for group_id, (_, reason) in self._serving.lost_replicas().items()}

    async def open(self) -> None:
        """Take up the replicas of the last configuration."""
        config = self._config_file.read_config()
        if config is None:
            return
        schema = schema_from_json(config.schema)
        for group in config.cluster.groups:
            await self._reopen(group, schema)
        self._adopt(schema, config.cluster)
        unnamed = self._node.recovered_ids
        if unnamed:
            self._log.warn("groups {groups} are in the log and in no configuration; they rest", groups=unnamed)

    async def configure(self, schema: Schema, cluster: ManagedConfig) -> None:
        """Make replicas exist as `cluster` says; returns once that is durable.

        The same again is fine. Raises ApiError: `foreign_cluster`, `wrong_server`, `wrong_incarnation`,
        `stale_config` (an older version), `other_schema`, `lost_replica` (after everything else was done).
        """
        await self._lock.acquire()
        try:
            self._check(schema, cluster)
            await self._remove_unlisted(cluster)
            for group in cluster.groups:
                if group.group_id not in self._serving.replicas:
                    await self._create(group, schema)
            self._config_file.write_config(StoredConfig(schema.to_json(), cluster))
            self._adopt(schema, cluster)
        finally:
            self._lock.release()
        self._report_lost(cluster)

    async def close(self) -> None:
        """Close all stores. The groups must have been stopped."""
        for replica in self._serving.replicas.values():
            await replica.store.close()

    # ---- checks -------------------------------------------------------------------------------------------------

    def _check(self, schema: Schema, cluster: ManagedConfig) -> None:
        own = self.identity
        if cluster.cluster_id != own.cluster_id:
            text = f"this server belongs to cluster {own.cluster_id or '(none)'}, not {cluster.cluster_id or '(none)'}"
            raise ApiError("foreign_cluster", text, status=409)
        if cluster.server != own.name:
            raise ApiError("wrong_server", f"this is {own.name}, not {cluster.server}", status=409)
        if cluster.incarnation not in ("", own.incarnation):
            text = f"this is incarnation {own.incarnation} of {own.name}, not {cluster.incarnation}"
            raise ApiError("wrong_incarnation", text, status=409, extra={"incarnation": own.incarnation})
        if self.config is None:
            return
        if cluster.version < self.config.cluster.version:
            text = f"configuration {cluster.version} is older than {self.config.cluster.version}, which is in effect"
            raise ApiError("stale_config", text, status=409)
        kept = {group.group_id for group in cluster.groups} & self._serving.replicas.keys()
        if kept and schema != self.schema:
            raise ApiError("other_schema", f"groups {sorted(kept)} exist with another schema", status=409)

    def _report_lost(self, cluster: ManagedConfig) -> None:
        reasons = self.quarantined
        lost = [group for group in cluster.groups if group.group_id in reasons]
        if lost:
            told = "; ".join(f"{group.shard}: {reasons[group.group_id]}" for group in lost)
            shards = [group.shard for group in lost]
            text = f"replicas here lost their data and must be replaced under new ids: {told}"
            raise ApiError("lost_replica", text, status=409, extra={"shards": shards})

    # ---- replicas -----------------------------------------------------------------------------------------------

    def _own_id(self, group: GroupConfig) -> int:
        for replica_id, server in group.replicas.items():
            if server == self.identity.name:
                return int(replica_id)
        raise ApiError("bad_config", f"group {group.group_id} names no replica of {self.identity.name}")

    async def _open_replica(self, group: GroupConfig, schema: Schema) -> Replica:
        replica_id = self._own_id(group)
        store = self._stores(group.group_id, replica_id, schema)
        replica = Replica(group.group_id, replica_id, group.shard, schema, store, self._in_thread)
        await replica.open()
        return replica

    async def _reopen(self, group: GroupConfig, schema: Schema) -> None:
        """Take up a replica after a restart."""
        replica_id = self._own_id(group)
        if replica_id in self._tombstones:
            await self._stores(group.group_id, replica_id, schema).destroy()
        elif group.group_id not in self._node.recovered_ids:
            self._quarantine(group, "the log does not know it")
        else:
            await self._resume(group, await self._open_replica(group, schema))

    async def _resume(self, group: GroupConfig, replica: Replica) -> None:
        try:
            self._node.open_group(group.group_id, _peers(group), replica)
        except LostData as error:
            await replica.store.close()
            self._quarantine(group, str(error))
        else:
            self._serving.add(replica)

    async def _create(self, group: GroupConfig, schema: Schema) -> None:
        replica_id = self._own_id(group)
        if group.group_id in self._serving.lost:
            return
        if replica_id in self._tombstones:
            text = f"replica {replica_id} of group {group.group_id} was destroyed here; its id cannot be used again"
            raise ApiError("bad_config", text, status=409)
        found = self._node.recovered_replica(group.group_id)
        if found is not None and found != replica_id:
            await self._bury(group.group_id, found)
            await self._stores(group.group_id, found, schema).destroy()
        replica = await self._open_replica(group, schema)
        if found == replica_id:
            await self._resume(group, replica)
        elif replica.applied_index:
            await replica.store.close()
            self._quarantine(group, f"its store has applied entry {replica.applied_index} and the log does not know it")
        else:
            first = ConfState(voters=tuple(sorted(group.voters)))
            await self._node.create_group(group.group_id, replica_id, first, _peers(group), replica)
            self._serving.add(replica)
            if group.voters == [replica_id]:
                self._node.campaign(group.group_id)

    async def _remove_unlisted(self, cluster: ManagedConfig) -> None:
        listed = {group.group_id: self._own_id(group) for group in cluster.groups}
        for replica in list(self._serving.replicas.values()):
            if listed.get(replica.group_id) != replica.replica_id:
                await self._remove(replica)
        for group_id, (replica_id, _) in list(self._serving.lost.items()):
            if listed.get(group_id) != replica_id:
                if self._node.recovered_replica(group_id) is not None:
                    await self._bury(group_id, replica_id)
                await self._stores(group_id, replica_id, self._table()).destroy()
                del self._serving.lost[group_id]

    async def _bury(self, group_id: int, replica_id: int) -> None:
        """Have the log forget a replica, and its id never used again."""
        await self._node.remove_group(group_id)
        self._tombstones.add(replica_id)

    async def _remove(self, replica: Replica) -> None:
        del self._serving.replicas[replica.group_id]
        self._serving.peers.pop(replica.group_id, None)
        await self._bury(replica.group_id, replica.replica_id)
        await replica.store.destroy()
        self._log.info("replica {id} of shard {shard} was destroyed", id=replica.replica_id, shard=replica.shard)

    def _quarantine(self, group: GroupConfig, reason: str) -> None:
        self._serving.lost[group.group_id] = (self._own_id(group), reason)
        self._log.error("the replica of {shard} is lost and takes no part: {reason}", shard=group.shard, reason=reason)

    # ---- the directory ------------------------------------------------------------------------------------------

    def _adopt(self, schema: Schema, cluster: ManagedConfig) -> None:
        for group in cluster.groups:
            if group.group_id in self._serving.replicas and group.group_id not in self._node.quarantined:
                self._serving.peers[group.group_id] = peers = _peers(group)
                self._node.set_peers(group.group_id, peers)
        if self._links is not None:
            before = self.config.cluster.servers if self.config is not None else {}
            for name in before.keys() - cluster.servers.keys():
                self._links.remove_peer(name)
            for name, endpoint in cluster.servers.items():
                if name != self.identity.name:
                    self._links.set_peer(name, endpoint)
        self.schema = schema
        self.config = StoredConfig(schema.to_json(), cluster)
        held = sorted(self.groups)
        self._log.info("configuration {version}: shards {shards}", version=cluster.version, shards=held)

    def _table(self) -> Schema:
        assert self.schema is not None
        return self.schema


def _peers(group: GroupConfig) -> dict[int, str]:
    return {int(replica_id): server for replica_id, server in group.replicas.items()}
