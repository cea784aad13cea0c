"""The state machine: commands in, results and changes out, the same however entries are grouped."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.apply import apply_items
from dbnode.changes import Changes, Image, Loaded, Position
from dbnode.machine import Item, Machine, command_from_bytes
from dbnode.memory import MemoryStore
from dbnode.sessions import Rejected
from dbnode.store import Answer, StoreError
from dbnode.test.test_store import STUDENTS
from dbnode.wire import (
    INVALID,
    Batch,
    Delete,
    Done,
    IdempotencyKey,
    NotFound,
    OpenSession,
    Operation,
    Stored,
    Update,
    Write,
)


def batch(sequence: int, *operations: Operation, session: str = "s", now_ms: int = 0) -> Batch:
    """Return a batch that acknowledges nothing."""
    return Batch(session, sequence, 0, now_ms, operations)


class CommandsFromBytes(SynchronousTestCase):
    def decoded(self, command: Any) -> Any:
        """Return what comes of a command that went through its encoding."""
        return command_from_bytes(STUDENTS, msgspec.msgpack.encode(command))

    def test_good_commands_come_through(self) -> None:
        """A command comes out of its bytes as it was."""
        for command in (
            OpenSession("s", 5),
            batch(1, Write(((1, "a", 2.0), (-(1 << 63), None, True)), 2, IdempotencyKey("k", b"d"))),
            batch(2, Update(1, {1: "x", 2: None}), Delete((1 << 63) - 1)),
        ):
            self.assertEqual(self.decoded(command), command)

    def test_what_does_not_fit_is_rejected(self) -> None:
        """What no replica could store is refused alike on all, and stops none."""
        for command in (
            [9, "?"],
            OpenSession("s", -1),
            batch(1, now_ms=1 << 63),
            batch(1 << 63),
            batch(1, Write(((1, "too few"),))),
            batch(1, Write(((1, "a", "b", "too many"),))),
            batch(1, Write((("1", "a", "b"),))),
            batch(1, Write(((True, "a", "b"),))),
            batch(1, Write(((1 << 63, "a", "b"),))),
            batch(1, Write(((1, "a", (1 << 64) - 1),))),
            batch(1, Write(((1, "a", "nul\0"),))),
            batch(1, Write(((1, "a", float("nan")),))),
            batch(1, Write(((1, "a", ["list"]),))),
            batch(1, Write(((1, "a", b"bytes"),))),
            batch(1, Write(((1, "a", "b"),), on_conflict=3)),
            batch(1, Update(1, {0: 5})),
            batch(1, Update(1, {3: 5})),
            batch(1, Update(1, {1: float("inf")})),
            batch(1, Delete(1 << 63)),
        ):
            decoded = self.decoded(command)
            self.assertIsInstance(decoded, Rejected, command)
            self.assertEqual(decoded.code, INVALID)

    def test_any_bytes(self) -> None:
        """Bytes that are no command are rejected with a reason, those that are no text or nest too deep too."""
        deep = b"\x96\x01\xa1s\x01\x00\x00\x91\x94\x01" + b"\x91" * 100_000
        for data in (b"", b"\xc1", b"\x93\x01", b"{}", b"\x96\x01\xa1\xff", deep):
            outcome = command_from_bytes(STUDENTS, data)
            assert isinstance(outcome, Rejected)
            self.assertIn("not a command", outcome.message)


class Execution(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a machine with an open session."""
        self.machine = Machine()
        _, changes = self.machine.execute([(1, OpenSession("s", 0))], Loaded({}, {}))
        self.machine.absorb(changes)

    def test_touches_what_commands_name(self) -> None:
        """What must be loaded is every id and key, once."""
        items: list[Item] = [
            (2, batch(1, Write(((1, "a", 0), (2, "b", 0))), Delete(2, IdempotencyKey("k", b"")))),
            (3, None),
            (4, Rejected(INVALID, "")),
            (5, batch(2, Update(7, {}, IdempotencyKey("k", b"")))),
        ]

        touched = self.machine.touched(items)

        self.assertEqual((sorted(touched.ids), touched.keys), ([1, 2, 7], ["k"]))

    def test_outcomes_in_order(self) -> None:
        """Each entry has its outcome: results per operation, nothing for entries without a command."""
        outcomes, changes = self.machine.execute(
            [
                (2, batch(1, Write(((1, "a", 0),)), Delete(9))),
                (3, None),
                (4, Rejected(INVALID, "why")),
                (5, batch(2, Delete(1))),
            ],
            Loaded({}, {}),
        )

        self.assertEqual(outcomes, [(Stored(1), NotFound()), (), Rejected(INVALID, "why"), (Done(),)])
        self.assertEqual(changes.position, Position(5, 0, 0))

    def test_is_pure(self) -> None:
        """Executing changes nothing until the changes are absorbed: doing it again gives the same."""
        items: list[Item] = [(2, batch(1, Write(((1, "a", 0),)), now_ms=10)), (3, OpenSession("t", 20))]
        before = self.machine.image()

        first = self.machine.execute(items, Loaded({}, {}))
        second = self.machine.execute(items, Loaded({}, {}))

        self.assertEqual(first, second)
        self.assertEqual(self.machine.image(), before)

    def test_counts_rows(self) -> None:
        """The position says how many rows there are."""
        _, changes = self.machine.execute([(2, batch(1, Write(((1, "a", 0), (2, "b", 0)))))], Loaded({}, {}))
        self.machine.absorb(changes)

        _, changes = self.machine.execute([(3, batch(2, Delete(1)))], Loaded({1: (1, "a", 0)}, {}))

        self.assertEqual((self.machine.position.row_count, changes.position.row_count), (2, 1))

    def test_image_restores(self) -> None:
        """A machine that is restored from an image goes on as the one it came from."""
        _, changes = self.machine.execute([(2, batch(1, Write(((1, "a", 0),)), now_ms=10))], Loaded({}, {}))
        self.machine.absorb(changes)

        other = Machine()
        other.restore(self.machine.image())

        again: list[Item] = [(3, batch(1, Write(((1, "a", 0),)), now_ms=10))]
        self.assertEqual(other.execute(again, Loaded({}, {})), self.machine.execute(again, Loaded({}, {})))
        self.assertEqual(other.execute(again, Loaded({}, {}))[0], [(Stored(1),)])


class FailingStore(MemoryStore):
    """Fails commits on demand."""

    fails = False

    def commit(self, changes: Changes) -> None:
        """Commit, or not."""
        if self.fails:
            raise StoreError("disk full")
        super().commit(changes)


class SlowStore(MemoryStore):
    """Answers loads and commits only when told to."""

    def __init__(self) -> None:
        super().__init__(STUDENTS)
        self.waiting: list[Deferred[None]] = []

    def load(self, ids: list[int], keys: list[str]) -> Answer[Loaded]:  # type: ignore[override]  # answers later
        """Load later."""
        return self._later().addCallback(lambda _: super(SlowStore, self).load(ids, keys))

    def commit(self, changes: Changes) -> Answer[None]:  # type: ignore[override]  # answers later
        """Commit later."""
        return self._later().addCallback(lambda _: super(SlowStore, self).commit(changes))

    def _later(self) -> Deferred[None]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Applying(SynchronousTestCase):
    def test_failed_commit_leaves_the_machine(self) -> None:
        """After a commit that failed the machine stands where the store stands, and the entries can come again."""
        machine, store = Machine(), FailingStore(STUDENTS)
        apply_items(machine, store, [(1, OpenSession("s", 0))])
        items: list[Item] = [(2, batch(1, Write(((1, "a", 0),))))]

        store.fails = True
        self.assertRaises(StoreError, apply_items, machine, store, items)
        image = machine.image()
        store.fails = False

        self.assertEqual(image, store.open())
        self.assertEqual(apply_items(machine, store, items), [(Stored(1),)])

    def test_store_that_answers_later(self) -> None:
        """With a store that works elsewhere, outcomes come, and the machine moves, when the commit is in."""
        machine, store = Machine(), SlowStore()
        machine.restore(Image())

        outcomes = apply_items(machine, store, [(1, OpenSession("s", 0)), (2, batch(1, Write(((1, "a", 0),))))])
        assert isinstance(outcomes, Deferred)
        store.waiting.pop().callback(None)
        self.assertEqual(machine.position.applied_index, 0)
        store.waiting.pop().callback(None)

        self.assertEqual(self.successResultOf(outcomes), [(), (Stored(1),)])
        self.assertEqual((machine.position, machine.image()), (Position(2, 0, 1), store.open()))
