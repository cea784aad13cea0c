"""One connection to PostgreSQL: questions in order, each with a deadline, and errors in the words of dbnode.store.

txpostgres does the talking, on the reactor and without a thread. It has neither deadlines nor a way to hear of an idle
connection's end, and turns what it cannot tell anybody into a traceback; that is added here. A connection that was lost
stays lost: who needs one opens another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import psycopg2
from psycopg2 import errorcodes
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from txpostgres import txpostgres

from dbnode.postgres.statements import Query
from dbnode.store import DiskFailedError, DiskFullError, RunInThread, StoreError, StoreUnavailable

#: How PostgreSQL is to be found and who we are to it: libpq's keywords (PostgreSQL, "Parameter Key Words").
Parameters = Mapping[str, str]

#: How long a connection may take to be made, and an answer to come, until the connection counts as lost.
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
#: Rows of an answer that are turned into Python's on the spot, in about a millisecond; more in a thread.
ROWS_INLINE_MAX = 2048

#: Classes of errors (PostgreSQL, appendix A) after which another connection may find everything in order: connection
#: lost, out of resources but the disk, stopped or starting; and single ones: a standby for a while, a lock held long.
_PASSING_CLASSES = ("08", "53", "57")
_PASSING_CODES = (
    errorcodes.READ_ONLY_SQL_TRANSACTION,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    errorcodes.LOCK_NOT_AVAILABLE,
)
_GENERAL = psycopg2.DatabaseError
_DISK_CODES = (errorcodes.IO_ERROR, errorcodes.DATA_CORRUPTED, errorcodes.INDEX_CORRUPTED)
#: What a commit meets that does not follow on the last one (dbnode.postgres.statements, move).
_OVERTAKEN_CODE = errorcodes.NOT_NULL_VIOLATION


class Connection(Protocol):
    """What a store needs of a connection."""

    def run(self, query: Query) -> Deferred[list[tuple[Any, ...]]]:
        """Fire with the rows of the last statement, after all that was asked before.

        Fails with StoreUnavailable once the connection is lost, also when it is in the middle of something, of which
        then nobody knows whether it was done; with another StoreError if PostgreSQL refused, and nothing was done.
        """

    def on_lost(self, lost: Callable[[], None]) -> None:
        """Have `lost` called once when the connection ends, but not by `close`."""

    def close(self) -> None:
        """End the connection now; what it was asked fails with StoreUnavailable."""


class Connect(Protocol):
    """Opens connections."""

    def __call__(self, parameters: Parameters) -> Deferred[Connection]:
        """Fire with a connection. Fails with StoreUnavailable."""


class TxConnection:
    """A Connection by txpostgres; `open` comes first."""

    def __init__(self, reactor: Any, run_in_thread: RunInThread, described: str) -> None:
        self._reactor: IReactorTime = reactor
        self._run_in_thread = run_in_thread
        self._described = described
        self._wire = _Wire(reactor, self._wire_lost)
        self._lock = DeferredLock()
        self._lost: Callable[[], None] = _nobody
        self._reason = "the connection was closed"
        self._ended = False

    async def open(self, parameters: Parameters) -> None:
        """Connect. Fails with StoreUnavailable."""
        late = self._reactor.callLater(CONNECT_SECONDS, self._give_up, f"no connection within {CONNECT_SECONDS:g} s")
        try:
            await self._wire.connect(**parameters)
        except psycopg2.Error as error:
            self._ended = True
            raise StoreUnavailable(f"{self._described}: {_words(error)}") from error
        except ConnectionDone as error:
            raise StoreUnavailable(f"{self._described}: {self._reason}") from error
        finally:
            _cancel(late)

    def run(self, query: Query) -> Deferred[list[tuple[Any, ...]]]:
        """See Connection."""
        return self._lock.run(self._run, query)

    def on_lost(self, lost: Callable[[], None]) -> None:
        """See Connection."""
        self._lost = lost

    def close(self) -> None:
        """See Connection."""
        self._lost = _nobody
        self._end()

    def _run(self, query: Query) -> Deferred[list[tuple[Any, ...]]]:
        if self._ended:
            raise StoreUnavailable(f"{self._described}: {self._reason}")
        text, parameters = query
        if not parameters:
            text = text.replace("%%", "%")
        cursor = self._wire.cursor()
        late = self._reactor.callLater(ANSWER_SECONDS, self._give_up, f"no answer within {ANSWER_SECONDS:g} s")
        answered: Deferred[Any] = cursor.execute(text, parameters or None)
        return answered.addCallbacks(self._fetch, self._failed, callbackArgs=(late,), errbackArgs=(late,))

    def _fetch(self, cursor: Any, late: IDelayedCall) -> list[tuple[Any, ...]] | Deferred[list[tuple[Any, ...]]]:
        _cancel(late)
        if cursor.description is None:
            return []
        if cursor.rowcount > ROWS_INLINE_MAX:
            return self._run_in_thread(cursor.fetchall)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

    def _failed(self, failure: Failure, late: IDelayedCall) -> NoReturn:
        _cancel(late)
        error = failure.value
        if isinstance(error, ConnectionDone):
            raise StoreUnavailable(f"{self._described}: {self._reason}") from error
        if not isinstance(error, psycopg2.Error):
            failure.raiseException()
        if self._wire.closed:
            self._wire_lost(_words(error))
        raise explained(error, self._described) from error

    def _give_up(self, reason: str) -> None:
        self._wire_lost(reason)

    def _wire_lost(self, reason: str) -> None:
        if not self._ended:
            self._reason = reason
            self._end()
            lost, self._lost = self._lost, _nobody
            lost()

    def _end(self) -> None:
        self._ended = True
        self._wire.end()


class _Wire(txpostgres.Connection):  # type: ignore[misc]
    """A connection that tells of its end instead of raising it into the reactor."""

    def __init__(self, reactor: Any, lost: Callable[[str], None]) -> None:
        super().__init__(reactor)
        self._tell = lost

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        """Read what came unasked: a notice, or the end."""
        try:
            if self._pollingD is not None:
                # Not connected yet: nothing is to be read any more if that has failed.
                txpostgres._PollingMixin.doRead(self)
            else:
                super().doRead()
        except psycopg2.Error as error:
            self._tell(_words(error))

    def end(self) -> None:
        """Close, whatever state it is in."""
        if self._connection is not None:
            self.close()


def explained(error: psycopg2.Error, where: str) -> StoreError:
    """Return what a failure means for a store."""
    code = error.pgcode
    text = f"{where}: {_words(error)}"
    if code == errorcodes.DISK_FULL:
        return DiskFullError(text)
    if code == _OVERTAKEN_CODE:
        return DiskFailedError(f"{where}: somebody else has written to a replica's tables")
    if code in _DISK_CODES:
        return DiskFailedError(text)
    if code is None:
        # Nothing came from PostgreSQL: libpq speaks of the connection, with the general class where it has no words.
        lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or type(error) is _GENERAL
        return StoreUnavailable(text) if lost else StoreError(text)
    if code[:2] in _PASSING_CLASSES or code in _PASSING_CODES:
        return StoreUnavailable(text)
    return StoreError(text)


def _words(error: psycopg2.Error) -> str:
    """Return an error's message in one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__


def _cancel(call: IDelayedCall) -> None:
    if call.active():
        call.cancel()


def _nobody() -> None:
    """Tell nobody."""
