"""What others are told of the catalog: the router its layout, each server its part of the configuration."""

from __future__ import annotations

import msgspec

from dbnode.schema import Schema
from dbnode.wire import GroupConfig, ManagedConfig
from lbnode.catalog import Catalog, Preparing
from lbnode.layout import Layout, ServerAddress, ShardLayout
from lbnode.table import ServerRecord, ShardRecord, Table


def schema_of(table: Table) -> Schema:
    """Return the table's schema."""
    return Schema(table.columns, table.dtypes)


def layout_of(catalog: Catalog) -> Layout | None:
    """Return where everything is, None while there is no table.

    Servers that never ran have no address; replicas that still join are nobody's to ask yet. Servers that come or go
    are there as long as an operation needs them.
    """
    table, hosted = catalog.table, catalog.hosted
    if table is None or hosted is None:
        return None
    return Layout(
        cluster_id=catalog.cluster_id,
        schema=schema_of(table),
        shards=tuple(_shard(shard) for shard in table.shards),
        servers={
            server.name: ServerAddress(server.link, server.http)
            for server in hosted.servers.values()
            if server.link is not None and server.http is not None
        },
    )


def _shard(shard: ShardRecord) -> ShardLayout:
    replicas = shard.counting
    leaving = frozenset(server for id_, server in replicas.items() if id_ in shard.leaving)
    return ShardLayout(shard.group_id, shard.shard, shard.low, shard.size, replicas, leaving)


def config_of(catalog: Catalog, table: Table, server: ServerRecord) -> ManagedConfig:
    """Return what a server of `table` is to hold, and whom it may talk to about it."""
    return ManagedConfig(
        cluster_id=catalog.cluster_id,
        version=catalog.version,
        server=server.name,
        groups=[_group(shard) for shard in table.shards_on(server.name)],
        servers={other.name: other.link for other in table.servers.values() if other.link is not None},
        incarnation=server.incarnation,
        catalog=copy_of(catalog),
    )


def copy_of(catalog: Catalog) -> str:
    """Return what servers keep for a balancer that loses its disk: the catalog without what may still be rolled back.

    Its version is left out: it stands in the configuration, and alone is no news. The balancers found each other anew.
    """
    operation = None if isinstance(catalog.operation, Preparing) else catalog.operation
    copy = msgspec.structs.replace(
        catalog, version=0, operation=operation, balancers={}, next_balancer_id=1, office=None
    )
    return msgspec.json.encode(copy).decode()


def essence_of(catalog: Catalog) -> str:
    """Return what of the catalog's copy every server is told as soon as it changes: who holds what, and where.

    Addresses and counters change often and are found again, or skipped, by whoever rebuilds a catalog.
    """
    table = catalog.table
    homes = {server.name: server.home for server in table.servers.values()} if table is not None else {}
    return msgspec.json.encode((table.shards if table is not None else (), homes)).decode()


def _group(shard: ShardRecord) -> GroupConfig:
    replicas = {str(replica_id): name for replica_id, name in shard.directory.items()}
    return GroupConfig(shard.group_id, shard.shard, replicas, list(shard.founders))
