"""The one connection that writes to a replica's tables: what it is asked is done once, however often it is lost.

Commits are not waited for on the disk (synchronous_commit = off), so a PostgreSQL that is killed comes back without the
last of them, and it may be unknown whether the one in flight is among those. The changes since the last commit that is
certainly on the disk are therefore kept here, and whoever connects again makes those again that are missing. There are
never many: from time to time a commit is waited for. What was once durable and is not there any more is a failure of
the disk (RAFT_RULES 8, 13). After the end of this process the Raft log plays that part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dbnode.background import in_background
from dbnode.changes import Changes, Image, Loaded, Position
from dbnode.postgres.connection import ROWS_INLINE_MAX, Connect, Connection
from dbnode.postgres.place import Place, check_server, make_tables
from dbnode.postgres.settings import SETTINGS
from dbnode.postgres.statements import Query, Statements, image, records_from_sql
from dbnode.store import DiskFailedError, RunInThread, StoreError, StoreUnavailable

T = TypeVar("T")

#: The most commits, and bytes of statements, that may not be on the disk yet; the next one is waited for.
COMMITS_NOT_DURABLE_MAX = 256
BYTES_NOT_DURABLE_MAX = 1 << 20
#: Pauses between tries to connect, each twice as long as the one before.
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 2.0
#: How long PostgreSQL may be away until what waits for it fails. It ends the process: meanwhile the Raft log grows, in
#: memory too, and whoever started the server does better to know that it cannot work.
AWAY_SECONDS_MAX = 300.0
#: How long `open` tries: what is configured wrongly is to be heard of soon.
OPEN_SECONDS = 20.0


class Writer:
    """Writes to the tables in a `place`, and keeps a second connection for reads.

    One thing is done at a time. `open` comes first; what is asked then ends when it is done, or fails with StoreError
    because it cannot be done, because of `close`, or because PostgreSQL was away for very long.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        connect: Connect,
        place: Place,
        statements: Statements,
        run_in_thread: RunInThread,
    ) -> None:
        self._run_in_thread = run_in_thread
        self._clock = clock
        self._connect = connect
        self._place = place
        self._statements = statements
        self._lock = DeferredLock()
        self._connection: Connection | None = None
        self._reading: Connection | None = None
        #: What is known to be on the disk, and the changes since, of which the last one may not be made yet.
        self._durable = Position()
        self._since: deque[Changes] = deque()
        self._bytes_since = 0
        #: Why there is no connection.
        self._reason = "not open"
        self._pause: Deferred[None] | None = None
        self._closed = False
        #: Set for good: nothing may build on what is not as it was left.
        self._failed: DiskFailedError | None = None

    # ---- what is asked of it ----------------------------------------------------------------------------------

    async def open(self) -> Image:
        """Connect, make the tables if there are none, and return what the machine needs.

        Fails with WrongFileError if they are not ours, with StoreError if PostgreSQL is not what it must be or cannot
        be reached for some seconds.
        """
        deadline = self._clock.seconds() + OPEN_SECONDS
        pause_seconds = RETRY_SECONDS_MIN
        while True:
            try:
                connection = await self._first_connection()
                [position] = await connection.run(self._statements.position())
                found = image(position, await connection.run(self._statements.state()))
                await connection.run(self._statements.make_durable())
            except StoreUnavailable as error:
                self._lose(error)
                if self._clock.seconds() >= deadline:
                    raise
                await self._wait(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_SECONDS_MAX)
            except BaseException as error:
                self._lose(error)
                raise
            else:
                self._durable = found.position
                return found

    async def load(self, ids: list[int], keys: list[str]) -> Loaded:
        """Return those of the rows and idempotency keys that exist."""

        async def ask(connection: Connection) -> Loaded:
            statements = self._statements
            found = await connection.run(statements.rows_by_id(ids)) if ids else []
            if len(found) > ROWS_INLINE_MAX:
                rows = await self._run_in_thread(lambda: statements.columns.from_sql(found))
            else:
                rows = statements.columns.from_sql(found)
            records = records_from_sql(await connection.run(statements.records(keys))) if keys else []
            return Loaded({row[0]: row for row in rows}, dict(records))

        return await self._insist(ask)

    async def commit(self, changes: Changes) -> None:
        """Make changes, of which then nothing is lost but with this process and PostgreSQL together."""
        await self._lock.acquire()
        try:
            connection = await self._connected()
            durably = len(self._since) >= COMMITS_NOT_DURABLE_MAX or self._bytes_since >= BYTES_NOT_DURABLE_MAX
            query = await self._query(changes, durably=durably)
            self._since.append(changes)
            self._bytes_since += sum([len(value) for value in query[1] if isinstance(value, str)])
            try:
                await connection.run(query)
            except StoreUnavailable as error:
                self._lose(error)
                await self._connected()
            except BaseException:
                self._since.pop()
                raise
            else:
                if durably:
                    self._all_durable()
        finally:
            self._lock.release()

    async def make_durable(self) -> int:
        """Wait until everything committed is on the disk; return its applied index."""

        async def wait(connection: Connection) -> int:
            if self._since:
                await connection.run(self._statements.make_durable())
                self._all_durable()
            return self._durable.applied_index

        return await self._insist(wait)

    async def replace_with(self, imported: str, position: Position) -> Image:
        """Put the tables in the schema `imported`, which stand at `position` and are on the disk, in the place of ours.

        Also if it is unknown whether an earlier try has done it.
        """

        async def replace(connection: Connection) -> Image:
            if await connection.run(("SELECT 1 FROM pg_namespace WHERE nspname = %s", (imported,))):
                await connection.run(self._statements.replace_with(imported))
            [found] = await connection.run(self._statements.position())
            if Position(*found) != position:
                raise StoreError(f"the copy in {imported} is gone; it cannot take the place of {self._place.namespace}")
            self._durable = position
            self._since.clear()
            self._bytes_since = 0
            return image(found, await connection.run(self._statements.state()))

        return await self._insist(replace)

    async def drop_import(self, imported: str) -> None:
        """Remove the schema of an import, if it is there."""

        async def drop(connection: Connection) -> None:
            await connection.run(self._statements.drop(imported))

        await self._insist(drop)

    def reading(self) -> Connection:
        """Return a connection that sees everything committed. Raises StoreUnavailable while there is none."""
        if self._reading is None or self._connection is None:
            raise StoreUnavailable(f"{self._place.namespace} cannot be read for now: {self._reason}")
        return self._reading

    def close(self) -> None:
        """Let go of PostgreSQL; what was asked fails with StoreError, and what is in flight may still be done."""
        self._closed = True
        self._reason = "the store is closed"
        self._hang_up()
        if self._pause is not None:
            self._pause.callback(None)

    # ---- connections ------------------------------------------------------------------------------------------

    async def _query(self, changes: Changes, *, durably: bool) -> Query:
        applied_before = self._position.applied_index

        def make() -> Query:
            return self._statements.write(changes, applied_before, durably=durably)

        is_long = len(changes.upserts) + len(changes.results) > ROWS_INLINE_MAX
        return await self._run_in_thread(make) if is_long else make()

    @property
    def _position(self) -> Position:
        return self._since[-1].position if self._since else self._durable

    def _all_durable(self) -> None:
        self._durable = self._position
        self._since.clear()
        self._bytes_since = 0

    async def _insist(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something that may be done twice, on as many connections as it takes."""
        await self._lock.acquire()
        try:
            while True:
                connection = await self._connected()
                try:
                    return await work(connection)
                except StoreUnavailable as error:
                    self._lose(error)
        finally:
            self._lock.release()

    async def _connected(self) -> Connection:
        """Return the connection; if it was lost, one on which everything committed is there again."""
        pause_seconds = RETRY_SECONDS_MIN
        deadline = self._clock.seconds() + AWAY_SECONDS_MAX
        while True:
            self._check_usable()
            if self._connection is not None:
                return self._connection
            try:
                self._connection = await self._reconnected()
                self._log.info("PostgreSQL is back for {where}", where=self._place.namespace)
            except DiskFailedError as error:
                self._failed = error
            except StoreError as error:
                if self._clock.seconds() >= deadline:
                    raise StoreError(f"PostgreSQL has been away for {AWAY_SECONDS_MAX:g} s: {error}") from error
                self._reason = str(error)
                self._log.debug("{where} is not to be had: {error}", where=self._place.namespace, error=error)
                await self._wait(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_SECONDS_MAX)

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(f"{self._place.namespace}: the store is closed")
        if self._failed is not None:
            raise self._failed

    async def _first_connection(self) -> Connection:
        self._check_usable()
        await self._place.make(self._connect)
        self._connection = connection = await self._new_connection()
        await check_server(connection)
        await self._place.enter(connection)
        await self._place.clear(connection, live=False)
        await make_tables(connection, self._statements)
        await self._prepare(connection)
        return connection

    async def _reconnected(self) -> Connection:
        connection = await self._new_connection()
        try:
            await self._place.enter(connection)
            await self._prepare(connection)
            await self._catch_up(connection)
        except BaseException:
            connection.close()
            self._hang_up()
            raise
        return connection

    async def _new_connection(self) -> Connection:
        connection = await self._connect(self._place.parameters)
        connection.on_lost(self._lost)
        return connection

    async def _prepare(self, connection: Connection) -> None:
        """Prepare a connection for everything, and another one for reads.

        PostgreSQL ends all connections before it goes back in time after a crash. So if this one still works after
        the other was made, the other is not of a later time, and sees what this one has written.
        """
        statements = self._statements
        await connection.run((SETTINGS + " " + statements.prepare_writes() + ";" + statements.prepare_reads(), ()))
        self._reading = reading = await self._new_connection()
        await reading.run((SETTINGS + " " + statements.prepare_reads(), ()))

    async def _catch_up(self, connection: Connection) -> None:
        """Make again the changes that PostgreSQL has lost."""
        [found] = await connection.run(self._statements.position())
        applied_index = found[0]
        if applied_index not in {self._durable.applied_index, *(made.position.applied_index for made in self._since)}:
            raise DiskFailedError(
                f"{self._place.namespace} has applied entry {applied_index}; it had {self._durable.applied_index} on"
                f" its disk, and {len(self._since)} changes since"
            )
        for changes in self._since:
            if changes.position.applied_index > applied_index:
                await connection.run(self._statements.write(changes, applied_index))
                applied_index = changes.position.applied_index

    # ---- losing them --------------------------------------------------------------------------------------------

    def _lost(self) -> None:
        """Take note that a connection has ended while nothing was asked, and see that there is another one."""
        if self._connection is not None:
            self._lose(StoreUnavailable("PostgreSQL has ended the connection"))
            in_background(Deferred.fromCoroutine(self._recover()), "connecting to PostgreSQL again")

    async def _recover(self) -> None:
        try:
            await self._insist(_nothing)
        except StoreError as error:
            self._log.debug("{where} is not there again: {error}", where=self._place.namespace, error=error)

    def _lose(self, error: BaseException) -> None:
        if self._connection is not None and not self._closed:
            self._reason = str(error)
            self._log.warn("lost PostgreSQL for {where}: {error}", where=self._place.namespace, error=error)
        self._hang_up()

    def _hang_up(self) -> None:
        connections, self._connection, self._reading = (self._connection, self._reading), None, None
        for connection in connections:
            if connection is not None:
                connection.close()

    async def _wait(self, seconds: float) -> None:
        self._pause = Deferred()
        call = self._clock.callLater(seconds, self._pause.callback, None)
        await self._pause
        self._pause = None
        if call.active():
            call.cancel()


async def _nothing(_: Connection) -> None:
    """Do nothing with a connection but have it."""
