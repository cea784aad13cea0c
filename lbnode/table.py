"""The table as the catalog knows it: its shards, their replicas on servers, and where the servers live.

Values and what can be done to them; numbers for new replicas are handed out by the catalog (RAFT_RULES 32).

What a shard's `replicas` say is what is wanted. A replica that joins is one of them, but nothing counts on it until
it has caught up and is a voter of its group; one that is leaving is none of them any more, and serves on until the
group's Raft configuration is without it. Moving the configuration there is lbnode.membership's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from dbnode.wire import Endpoint


class ServerRecord(msgspec.Struct, frozen=True):
    """A server that belongs to the table, or is being made for one.

    `home` names its data directory (or volume) and is unique: two servers of the same name never share one.
    `incarnation` was born with that data; it and the addresses are unknown until the server first ran.
    """

    name: str
    home: str
    incarnation: str = ""
    http: Endpoint | None = None
    link: Endpoint | None = None


class ShardRecord(msgspec.Struct, frozen=True):
    """A shard: ids `low` up to but not including `low + size`; `replicas` maps replica ids to servers' names.

    `founders` are the group's first voters, for ever: its log begins with them. `joining` are those of the replicas
    that do not count yet. `leaving` maps the replicas that are to get out to the servers that still hold their data,
    "" where it is gone.
    """

    group_id: int
    shard: str
    low: int
    size: int
    replicas: dict[int, str]
    founders: tuple[int, ...] = ()
    joining: tuple[int, ...] = ()
    leaving: dict[int, str] = {}

    def __post_init__(self) -> None:
        """Fill in the founders: a group begins with the replicas that it was first planned with."""
        if not self.founders:
            msgspec.structs.force_setattr(self, "founders", tuple(sorted(self.replicas)))

    @property
    def directory(self) -> dict[int, str]:
        """Every replica that some server holds or shall hold, by id: the wanted ones and those on their way out."""
        return {**self.replicas, **{id_: server for id_, server in self.leaving.items() if server}}

    @property
    def counting(self) -> dict[int, str]:
        """The replicas that can be asked for data: the directory without those that are still joining."""
        return {id_: server for id_, server in self.directory.items() if id_ not in self.joining}

    @property
    def settled(self) -> bool:
        """Whether no replica is coming or going."""
        return not self.joining and not self.leaving

    def with_replicas(self, added: Mapping[int, str]) -> ShardRecord:
        """Return the shard with further replicas wanted, which join."""
        joining = tuple(sorted({*self.joining, *added}))
        return msgspec.structs.replace(self, replicas={**self.replicas, **added}, joining=joining)

    def without_replicas(self, removed: Iterable[int], *, lost: bool) -> ShardRecord:
        """Return the shard with some replicas on their way out, `lost` if no server holds them any more."""
        out = {id_: "" if lost else self.replicas[id_] for id_ in removed if id_ in self.replicas}
        return msgspec.structs.replace(
            self,
            replicas={id_: server for id_, server in self.replicas.items() if id_ not in out},
            joining=tuple(id_ for id_ in self.joining if id_ not in out),
            leaving={**self.leaving, **out},
        )

    def with_joined(self, replica_ids: Iterable[int]) -> ShardRecord:
        """Return the shard in which these replicas count from now on."""
        joined = set(replica_ids)
        return msgspec.structs.replace(self, joining=tuple(id_ for id_ in self.joining if id_ not in joined))

    def with_forgotten(self, replica_ids: Iterable[int]) -> ShardRecord:
        """Return the shard without these replicas, if they were leaving."""
        gone = set(replica_ids)
        leaving = {id_: server for id_, server in self.leaving.items() if id_ not in gone}
        return msgspec.structs.replace(self, leaving=leaving)


class Table(msgspec.Struct, frozen=True):
    """The one table: shards in order of `low`, servers by name in the order in which they were named.

    The first of the `columns` is the key; `dtypes` has a word of the client's for each.
    """

    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    shards: tuple[ShardRecord, ...]
    servers: dict[str, ServerRecord]

    def shards_on(self, server: str) -> list[ShardRecord]:
        """Return the shards of which a server holds a replica, or shall hold one."""
        return [shard for shard in self.shards if server in shard.directory.values()]

    def shard_of(self, group_id: int) -> ShardRecord | None:
        """Return the shard with this group, None if there is none."""
        return next((shard for shard in self.shards if shard.group_id == group_id), None)

    def with_shard(self, group_id: int, change: Callable[[ShardRecord], ShardRecord]) -> Table:
        """Return the table with one shard changed; a group that it does not have is passed over."""
        shards = tuple(change(shard) if shard.group_id == group_id else shard for shard in self.shards)
        return msgspec.structs.replace(self, shards=shards)

    def with_server(self, home: str, **fields: object) -> Table:
        """Return the table with fields of the server that lives in `home` changed, if there is one."""
        servers = {
            name: msgspec.structs.replace(server, **fields) if server.home == home else server
            for name, server in self.servers.items()
        }
        return msgspec.structs.replace(self, servers=servers)
