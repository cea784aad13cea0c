"""Random logs against a model that is too simple to be wrong.

Every engine, with entries grouped in any way and crashes anywhere between them, gives the outcomes of the model and
ends with its rows. The logs repeat and reorder batches as clients do that retry over a change of leader.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from dbnode.apply import apply_items
from dbnode.changes import Image
from dbnode.machine import Item, Machine, Outcome
from dbnode.memory import MemoryStore
from dbnode.schema import Schema
from dbnode.sessions import Rejected
from dbnode.sqlite import SqliteStore
from dbnode.store import Answer, Store
from dbnode.test.properties import same_each_time
from dbnode.wire import (
    STALE_SEQUENCE,
    UNKNOWN_SESSION,
    Batch,
    Delete,
    Done,
    Duplicate,
    IdempotencyKey,
    KeyReused,
    NotFound,
    OpenSession,
    Operation,
    Result,
    Row,
    Stored,
    Update,
    Write,
)

TABLE = Schema(("id", "a", "b"), ("Number", "String", "String"))

IDS = st.integers(-1, 5)
VALUES = st.sampled_from([1, 1.0, "1", True, None])
KEYS = st.none() | st.builds(IdempotencyKey, st.sampled_from("kl"), st.sampled_from([b"1", b"2"]))
OPERATIONS = st.one_of(
    st.builds(Write, st.lists(st.tuples(IDS, VALUES, VALUES), max_size=4).map(tuple), st.integers(0, 2), KEYS),
    st.builds(Update, IDS, st.dictionaries(st.integers(1, 2), VALUES), KEYS),
    st.builds(Delete, IDS, KEYS),
)
SESSIONS = st.sampled_from("st")
BATCHES = st.builds(
    Batch,
    SESSIONS,
    st.integers(0, 6),
    st.integers(0, 3),
    st.just(0),
    st.lists(OPERATIONS, max_size=3).map(tuple),
)
COMMANDS = st.one_of(BATCHES, BATCHES, BATCHES, BATCHES, st.builds(OpenSession, SESSIONS, st.just(0)), st.none())


@st.composite
def logs(draw: st.DrawFn) -> list[Item]:
    """Return a log in which a session is opened early and some entries come again."""
    commands = [OpenSession("s", 0), *draw(st.lists(COMMANDS, max_size=12))]
    again = draw(st.lists(st.sampled_from(commands), max_size=6))
    return list(enumerate([*commands, *again], start=1))


class Model:
    """One entry at a time, no layers, no forgetting but what clients ask for."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.sessions: dict[str, dict[int, tuple[Result, ...]]] = {}
        self.floors: dict[str, int] = {}
        self.keys: dict[str, tuple[bytes, Result]] = {}

    def apply(self, command: Any) -> Any:
        """Return the outcome of a command; a refusal is its code."""
        if isinstance(command, OpenSession):
            self.sessions.setdefault(command.session, {})
            self.floors.setdefault(command.session, 0)
        if not isinstance(command, Batch):
            return ()
        if command.session not in self.sessions:
            return UNKNOWN_SESSION
        self.floors[command.session] = max(self.floors[command.session], command.acknowledged)
        if command.sequence <= self.floors[command.session]:
            return STALE_SEQUENCE
        known = self.sessions[command.session]
        if command.sequence not in known:
            known[command.sequence] = tuple([self.operation(operation) for operation in command.operations])
        return known[command.sequence]

    def operation(self, operation: Operation) -> Result:
        """Carry out an operation once per idempotency key."""
        key = operation.idempotency
        if key is None:
            return self.carry_out(operation)
        if key.key not in self.keys:
            self.keys[key.key] = (key.digest, self.carry_out(operation))
        digest, result = self.keys[key.key]
        return result if digest == key.digest else KeyReused()

    def carry_out(self, operation: Operation) -> Result:
        """Carry out an operation row by row."""
        if isinstance(operation, Write):
            return self.write(operation)
        if operation.id not in self.rows:
            return NotFound()
        if isinstance(operation, Delete):
            del self.rows[operation.id]
        else:
            row = self.rows[operation.id]
            self.rows[operation.id] = tuple(operation.changes.get(place, value) for place, value in enumerate(row))
        return Done()

    def write(self, write: Write) -> Result:
        """Store rows one by one in a copy, which counts only if all may be stored."""
        after, stored, duplicates = dict(self.rows), set(), []
        for row in write.rows:
            if row[0] not in after or write.on_conflict == 2:
                after[row[0]] = row
                stored.add(row[0])
            elif row[0] not in duplicates:
                duplicates.append(row[0])
        if duplicates and write.on_conflict == 0:
            return Duplicate(tuple(duplicates))
        self.rows = after
        return Stored(len(stored))


def at_once(answer: Answer[Any]) -> Any:
    """Return what a store that never waits has answered."""
    return answer.result if isinstance(answer, Deferred) else answer


class Replica:
    """A machine and a store that entries are fed to in groups; `answered` waits for the store's answers."""

    def __init__(self, store: Store, answered: Callable[[Answer[Any]], Any] = at_once) -> None:
        self._answered = answered
        self.reopen(store)

    def reopen(self, store: Store) -> None:
        """Begin again from what a store holds."""
        self.store = store
        self.machine = Machine()
        self.machine.restore(self._answered(store.open()))

    def feed(self, log: list[Item], group_size: int) -> dict[int, Any]:
        """Apply what is not applied yet; return outcomes by index, refusals as their codes."""
        outcomes: dict[int, Any] = {}
        todo = log[self.machine.position.applied_index :]
        for start in range(0, len(todo), group_size):
            group = todo[start : start + group_size]
            found: list[Outcome] = self._answered(apply_items(self.machine, self.store, group))
            for (index, _), outcome in zip(group, found, strict=True):
                outcomes[index] = outcome.code if isinstance(outcome, Rejected) else outcome
        return outcomes

    def rows(self) -> list[Row]:
        """Return all rows."""
        rows: list[Row] = self._answered(self.store.scan(-10, 10, 0, 0)).rows
        return rows


class RandomLogs(SynchronousTestCase):
    def setUp(self) -> None:
        """Choose a place for files."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.files = 0

    def new_file(self) -> Path:
        """Return a path where nothing is."""
        self.files += 1
        return self.directory / f"{self.files}.sqlite"

    def assert_like_model(self, replica: Replica, outcomes: dict[int, Any], log: list[Item]) -> Image:
        """Check outcomes and rows; return the state beside them, which must survive reopening."""
        model = Model()
        expected = {index: model.apply(command) for index, command in log}
        self.assertEqual(outcomes, {index: expected[index] for index in outcomes})
        self.assertEqual(repr(replica.rows()), repr([model.rows[id_] for id_ in sorted(model.rows)]))
        self.assertEqual(replica.machine.position.row_count, len(model.rows))
        return replica.machine.image()

    def test_every_engine_and_grouping(self) -> None:
        """Memory entry by entry, and SQLite in groups, give the model's outcomes, rows and one and the same state."""

        @settings(same_each_time, max_examples=150)
        @given(logs(), st.integers(2, 8))
        def check(log: list[Item], group_size: int) -> None:
            in_memory = Replica(MemoryStore(TABLE))
            store = SqliteStore(self.new_file(), TABLE, execute)
            in_sqlite = Replica(store)

            image = self.assert_like_model(in_memory, in_memory.feed(log, 1), log)
            other = self.assert_like_model(in_sqlite, in_sqlite.feed(log, group_size), log)

            self.assertEqual(other, image)
            self.successResultOf(store.close())
            self.assertEqual(store.open(), image)
            self.successResultOf(store.destroy())

        check()

    def test_crashes_in_memory(self) -> None:
        """A store that loses its last transactions in a crash is brought to the same state by the log."""

        @settings(same_each_time, max_examples=150)
        @given(logs(), st.integers(0, 10), st.integers(1, 10), st.integers(0, 3), st.integers(1, 4))
        def check(log: list[Item], durable: int, lost: int, kept: int, group_size: int) -> None:
            store = MemoryStore(TABLE)
            replica = Replica(store)
            replica.feed(log[:durable], group_size)
            self.successResultOf(store.make_durable())
            outcomes = replica.feed(log[: durable + lost], group_size)

            store.crash(commits_kept=kept)
            replica.reopen(store)
            again = replica.feed(log, 1)

            self.assertEqual({**again, **outcomes}, {**outcomes, **again})
            image = self.assert_like_model(replica, again, log)
            self.assertEqual(store.open(), image)

        check()

    def test_crashes_on_disk(self) -> None:
        """A SQLite file that a power cut set back to an earlier transaction is brought to the same state by the log."""

        @settings(same_each_time, max_examples=60)
        @given(logs(), st.integers(0, 10), st.integers(1, 10), st.integers(1, 4))
        def check(log: list[Item], durable: int, lost: int, group_size: int) -> None:
            path, saved = self.new_file(), self.new_file()
            replica = Replica(SqliteStore(path, TABLE, execute))
            replica.feed(log[:durable], group_size)
            self.successResultOf(replica.store.close())
            shutil.copy(path, saved)
            replica.reopen(SqliteStore(path, TABLE, execute))
            outcomes = replica.feed(log[: durable + lost], group_size)
            self.successResultOf(replica.store.destroy())

            replica.reopen(SqliteStore(saved, TABLE, execute))
            again = replica.feed(log, 1)

            self.assertEqual({**again, **outcomes}, {**outcomes, **again})
            self.assert_like_model(replica, again, log)
            self.successResultOf(replica.store.destroy())

        check()
