"""Where one replica's tables are: in which database, in which schema, and whose that is.

On a private PostgreSQL each replica has a database of its own, made and dropped with it; in a database that is shared
each has a schema of its own. Only one store at a time may write there: a process that was killed may have left a
connection whose last transaction still runs, so whoever opens the tables ends the connections of those before it and
takes a lock that lasts as long as its own connection (PostgreSQL, "Advisory Locks").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from dbnode.postgres.connection import Connect, Connection, Parameters
from dbnode.postgres.statements import Query, Statements
from dbnode.postgres.values import NAME_BYTES_MAX, quoted
from dbnode.store import StoreError

#: The oldest release whose DROP DATABASE ends connections (WITH FORCE).
VERSION_MIN = 130000
#: How much of a name is left for what an import adds to it.
_SUFFIX_BYTES = 12
#: How long a connection that was told to end may take.
_ENTER_SECONDS = 10
#: The database that each PostgreSQL has, for the making of others.
_MAINTENANCE_DATABASE = "postgres"

_NOT_PLAIN = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Place:
    """Where a replica's tables are: `namespace` is its schema. `owns_database`: the database is the replica's alone."""

    parameters: Parameters
    namespace: str
    owns_database: bool

    def imported(self, number: int) -> str:
        """Return the name of a schema in which an import can be built."""
        return f"{self.namespace}_import{number}"

    async def make(self, connect: Connect) -> None:
        """Create the database if the replica has one of its own and it is not there."""
        if not self.owns_database:
            return
        database = self.parameters["dbname"]
        connection = await connect({**self.parameters, "dbname": _MAINTENANCE_DATABASE})
        try:
            if not await connection.run(("SELECT 1 FROM pg_database WHERE datname = %s", (database,))):
                await connection.run((f"CREATE DATABASE {quoted(database)} TEMPLATE template0 ENCODING 'UTF8'", ()))
        finally:
            connection.close()

    async def enter(self, connection: Connection) -> None:
        """Make a new connection the only one that writes here; waits until those before it have ended.

        Fails with StoreUnavailable if that takes too long.
        """
        key = _lock_key(self.namespace)
        await connection.run(_end_others(key))
        await connection.run((f"SET lock_timeout = '{_ENTER_SECONDS:d}s'; SELECT pg_advisory_lock(%s)", (key,)))

    async def clear(self, connection: Connection, *, live: bool) -> None:
        """Drop what imports have left, and with `live` the replica's tables too."""
        names = [self.namespace] if live else []
        names += [name for (name,) in await connection.run(_imports(self.namespace))]
        for name in names:
            await connection.run((f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE", ()))

    async def drop(self, connect: Connect) -> None:
        """Remove everything that is kept here."""
        if self.owns_database:
            connection = await connect({**self.parameters, "dbname": _MAINTENANCE_DATABASE})
            database = quoted(self.parameters["dbname"])
            try:
                await connection.run((f"DROP DATABASE IF EXISTS {database} WITH (FORCE)", ()))
            finally:
                connection.close()
            return
        connection = await connect(self.parameters)
        try:
            await self.enter(connection)
            await self.clear(connection, live=True)
        finally:
            connection.close()


async def check_server(connection: Connection) -> None:
    """Raise StoreError unless this PostgreSQL can keep what it is given, and is new enough."""
    question = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
    question += " current_setting('server_encoding'), current_setting('fsync')"
    [(number, version, encoding, fsync)] = await connection.run((question, ()))
    if number < VERSION_MIN:
        raise StoreError(f"PostgreSQL {version} is too old; {VERSION_MIN // 10000} or later is needed")
    if encoding != "UTF8":
        raise StoreError(f"the database has the encoding {encoding}; it must be UTF8 to hold any Unicode")
    if fsync != "on":
        raise StoreError("PostgreSQL runs with fsync = off, so nothing it stores is certain to last; switch it on")


async def make_tables(connection: Connection, statements: Statements) -> None:
    """Create a replica's tables, or check that those that are there are ours. Raises WrongFileError."""
    if await connection.run(statements.exists()) == [(False,)]:
        await connection.run(statements.create())
    [(format_, columns)] = await connection.run(statements.about())
    statements.check(format_, columns)


def shared_namespace(cluster: str, server: str, replica_id: int) -> str:
    """Return the name of a replica's schema in a database that many share.

    Replica ids are unique in a cluster and never used again. What does not fit into a name is cut from the server's.
    """
    head, tail = f"shardlb_{_plain(cluster)[:20]}_", f"_{replica_id}"
    room = NAME_BYTES_MAX - _SUFFIX_BYTES - len(head) - len(tail)
    return head + _plain(server)[:room] + tail


def _plain(text: str) -> str:
    """Return a name in letters and digits that need no quotes; if it was another, with a mark that tells it apart."""
    plain = _NOT_PLAIN.sub("", text.lower())
    if plain == text.lower():
        return plain
    return plain + blake2b(text.encode(), digest_size=3).hexdigest()


def _lock_key(namespace: str) -> int:
    return int.from_bytes(blake2b(namespace.encode(), digest_size=8).digest(), "big", signed=True)


def _end_others(key: int) -> Query:
    high, low = key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF
    return (
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = %s::bigint::oid AND objid = %s::bigint::oid AND pid <> pg_backend_pid()",
        (high, low),
    )


def _imports(namespace: str) -> Query:
    return "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, %s)", (f"{namespace}_import",)
