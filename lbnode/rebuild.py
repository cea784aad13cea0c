"""A catalog put together again from what the servers were last told, for a balancer that lost its own disk.

Every server keeps a copy of the catalog. The newest one is taken; what may have been handed out after it was written
(numbers of replicas, groups and operations, versions) is skipped by a wide margin, for no number may be used twice
(RAFT_RULES 32). What the copy does not know yet, such as a replica promoted since, is found out again on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from dbnode.client.home import Home, HomeDamaged, read_home
from lbnode.catalog import Catalog
from lbnode.datadir import DirectoryUnusable

#: More than a controller hands out between two changes of which no server hears.
_MARGIN = 1000


class Rebuilt(msgspec.Struct, frozen=True):
    """What a balancer needs to take up its cluster again."""

    catalog: Catalog
    secret: bytes


def homes_below(servers: Path) -> dict[str, Home]:
    """Return what the homes below a directory tell, by name; servers that were never told anything are left out.

    Raises DirectoryUnusable for what is damaged.
    """
    found = {}
    for path in sorted(servers.iterdir()):
        try:
            home = read_home(path)
        except HomeDamaged as error:
            raise DirectoryUnusable(str(error)) from error
        if home is not None:
            found[path.name] = home
    return found


def rebuild(homes: Mapping[str, Home]) -> Rebuilt:
    """Return the newest catalog that the homes tell of; raises DirectoryUnusable if they are not of one cluster."""
    found = {name: home for name, home in homes.items() if home.cluster.catalog}
    if not found:
        raise DirectoryUnusable("no server has a copy of the catalog: there is nothing to rebuild from")
    for what, values in (
        ("clusters", {home.cluster_id for home in found.values()}),
        ("secrets", {home.secret for home in found.values()}),
    ):
        if len(values) > 1:
            names = ", ".join(found)
            raise DirectoryUnusable(f"the servers in {names} have different {what}: take away those of another cluster")
    newest = max(found.values(), key=lambda home: home.cluster.version)
    copy = msgspec.json.decode(newest.cluster.catalog, type=Catalog)
    if copy.table is None:
        raise DirectoryUnusable("the servers know of no table: there is nothing to rebuild")
    groups = [group for home in found.values() for group in home.cluster.groups]
    replica_ids = [int(replica_id) for group in groups for replica_id in group.replicas]
    catalog = msgspec.structs.replace(
        copy,
        version=newest.cluster.version + _MARGIN,
        next_group_id=max([copy.next_group_id, *(group.group_id for group in groups)]) + _MARGIN,
        next_replica_id=max([copy.next_replica_id, *replica_ids]) + _MARGIN,
        next_operation_id=copy.next_operation_id + _MARGIN,
    )
    return Rebuilt(catalog, newest.secret)
