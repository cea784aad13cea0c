"""A PostgreSQL for the tests of one process, and a reactor that is turned by hand.

It is started when it is first needed and ends with the process. Tests take a schema each, which is made and dropped in
a few milliseconds. Property tests call synchronous functions, so what a store answers is waited for by turning the
reactor, which is safe in a SynchronousTestCase: there it does not run.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.process import reapAllProcesses
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dbnode.postgres.connection import Connection
from dbnode.postgres.dialling import Dial
from dbnode.postgres.place import Place
from dbnode.postgres.private import PrivatePostgres
from dbnode.postgres.programs import find_programs
from dbnode.postgres.store import PostgresStore
from dbnode.postgres.values import quoted
from dbnode.schema import Schema
from dbnode.store import StoreError

T = TypeVar("T")

#: How long anything may take; it takes milliseconds.
PATIENCE_SECONDS = 60.0

_numbers = count(1)
_started: list[PrivatePostgres] = []


def need_postgres() -> None:
    """Skip the test, saying why, where PostgreSQL's programs are missing."""
    try:
        find_programs(None, os.environ.get("PATH", os.defpath), None)
    except StoreError as error:
        raise SkipTest(str(error)) from None


def turned(deferred: Deferred[T]) -> T | Failure:
    """Turn the reactor until a Deferred has fired; return its result, or its failure."""
    from twisted.internet import reactor

    any_reactor: Any = reactor
    results: list[T | Failure] = []
    _ = deferred.addBoth(results.append)
    deadline = any_reactor.seconds() + PATIENCE_SECONDS
    while not results:
        assert any_reactor.seconds() < deadline, "it takes too long"
        until_next = any_reactor.timeout()
        any_reactor.iterate(0.01 if until_next is None else min(0.01, until_next))
        reapAllProcesses()
    return results[0]


def waited(deferred: Deferred[T]) -> T:
    """Turn the reactor until a Deferred has fired; return its result."""
    result = turned(deferred)
    if isinstance(result, Failure):
        result.raiseException()
    return result


def postgres() -> PrivatePostgres:
    """Return the PostgreSQL of this process, which runs."""
    from twisted.internet import reactor

    need_postgres()
    if not _started:
        directory = Path(tempfile.mkdtemp(prefix="shardlb-test-"))
        server = PrivatePostgres(reactor, directory, None)
        waited(Deferred.fromCoroutine(server.start()))
        _started.append(server)
        atexit.register(_end, server, directory)
    return _started[0]


def dial() -> Dial:
    """Return what opens connections, without threads."""
    from twisted.internet import reactor

    return Dial(reactor, execute, "shardlb test")


class PostgresCase(SynchronousTestCase):
    """A test with a place of its own, whose stores are closed in the end."""

    def setUp(self) -> None:
        """Choose a place where nothing is."""
        self.place = self.new_place()
        self._open: list[PostgresStore] = []
        self.addCleanup(self._close)

    def new_place(self) -> Place:
        """Return another such place."""
        return Place(postgres().parameters("postgres"), f"test_{next(_numbers)}", owns_database=False)

    def new_store_at(self, place: Place, schema: Schema) -> PostgresStore:
        """Return a store that is not open."""
        from twisted.internet import reactor

        clock: Any = reactor
        self._open.append(PostgresStore(clock, dial(), place, schema, execute))
        return self._open[-1]

    def sql(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Do something to the database behind the stores' backs; `{}` in the text stands for the place's schema."""
        connection = self.connected()
        try:
            return waited(connection.run((text.replace("{}", quoted(self.place.namespace)), parameters)))
        finally:
            connection.close()

    def connected(self) -> Connection:
        """Return a connection of nobody's."""
        return waited(dial()(self.place.parameters))

    def _close(self) -> None:
        for store in self._open:
            waited(store.close())


def _end(server: PrivatePostgres, directory: Path) -> None:
    server.drop()
    shutil.rmtree(directory, ignore_errors=True)
