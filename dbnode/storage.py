"""What a server keeps its shards in: files of SQLite, a PostgreSQL of its own, or a part of somebody else's.

The composition root makes one of these, as its data directory says, starts it before the first store and stops it
after the last one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import psycopg2
from psycopg2.extensions import parse_dsn

from dbnode.client.storage import POSTGRES, SQLITE
from dbnode.datadir import DataDirectory, ServerIdentity
from dbnode.postgres.connection import Connect, Parameters
from dbnode.postgres.dialling import Dial, described
from dbnode.postgres.place import Place, shared_namespace
from dbnode.postgres.private import PrivatePostgres
from dbnode.postgres.store import PostgresStore
from dbnode.schema import Schema
from dbnode.sqlite import SqliteStore
from dbnode.store import RunInThread, SnapshotStore, StoreError


class Storage(Protocol):
    """Where a server's stores are."""

    async def start(self) -> None:
        """Make ready for stores. Fails with StoreError."""

    def store(self, group_id: int, replica_id: int, schema: Schema) -> SnapshotStore:
        """Return the store of a replica, not yet open."""

    async def stop(self) -> None:
        """End what was started; all stores are closed."""


def storage_of(
    choice: str,
    reactor: Any,
    data: DataDirectory,
    identity: ServerIdentity,
    run_in_thread: RunInThread,
    programs: Path | None,
) -> Storage:
    """Return what `choice` stands for (see dbnode.client.storage). Raises StoreError if it is a DSN and cannot be read.

    `programs` is where those of a PostgreSQL of our own are, None to look for them.
    """
    if choice == SQLITE:
        return SqliteFiles(data.shards, run_in_thread)
    dial = Dial(reactor, run_in_thread, f"shardlb {identity.name}")
    if choice == POSTGRES:
        return OwnPostgres(reactor, PrivatePostgres(reactor, data.path, programs), dial, run_in_thread)
    try:
        parameters = parse_dsn(choice)
    except psycopg2.Error as error:
        raise StoreError(f"the storage is no DSN of PostgreSQL: {str(error).strip()}") from None
    cluster = identity.cluster_id or identity.incarnation
    return SharedPostgres(reactor, parameters, cluster, identity.name, dial, run_in_thread)


class SqliteFiles:
    """A file for each shard in a directory."""

    def __init__(self, directory: Path, run_in_thread: RunInThread) -> None:
        self._directory = directory
        self._run_in_thread = run_in_thread

    def __str__(self) -> str:
        return f"SQLite files in {self._directory}"

    async def start(self) -> None:
        """Do nothing."""

    def store(self, group_id: int, replica_id: int, schema: Schema) -> SnapshotStore:
        """Return a store on a file, which is named for the group: a directory has one replica of it at a time."""
        return SqliteStore(self._directory / f"{group_id}.sqlite", schema, self._run_in_thread)

    async def stop(self) -> None:
        """Do nothing."""


class OwnPostgres:
    """A database for each shard in a PostgreSQL that lives and dies with the server."""

    def __init__(self, reactor: Any, server: PrivatePostgres, connect: Connect, run_in_thread: RunInThread) -> None:
        self._reactor = reactor
        self._server = server
        self._connect = connect
        self._run_in_thread = run_in_thread

    def __str__(self) -> str:
        return f"its own PostgreSQL (process {self._server.pid})"

    async def start(self) -> None:
        """Start PostgreSQL."""
        await self._server.start()

    def store(self, group_id: int, replica_id: int, schema: Schema) -> SnapshotStore:
        """Return a store in a database of its own, where plain names find its tables."""
        place = Place(self._server.parameters(f"shard_{group_id}_{replica_id}"), "public", owns_database=True)
        return PostgresStore(self._reactor, self._connect, place, schema, self._run_in_thread)

    async def stop(self) -> None:
        """Stop PostgreSQL."""
        await self._server.stop()


class SharedPostgres:
    """A schema for each shard in a database that others may use as well, among them other servers of the cluster."""

    def __init__(
        self,
        reactor: Any,
        parameters: Parameters,
        cluster: str,
        server: str,
        connect: Connect,
        run_in_thread: RunInThread,
    ) -> None:
        self._reactor = reactor
        self._parameters = parameters
        self._cluster = cluster
        self._server = server
        self._connect = connect
        self._run_in_thread = run_in_thread

    def __str__(self) -> str:
        return described(self._parameters)

    async def start(self) -> None:
        """Do nothing: each store looks for PostgreSQL by itself."""

    def store(self, group_id: int, replica_id: int, schema: Schema) -> SnapshotStore:
        """Return a store in a schema that is named for cluster, server and replica."""
        namespace = shared_namespace(self._cluster, self._server, replica_id)
        place = Place(self._parameters, namespace, owns_database=False)
        return PostgresStore(self._reactor, self._connect, place, schema, self._run_in_thread)

    async def stop(self) -> None:
        """Do nothing."""
