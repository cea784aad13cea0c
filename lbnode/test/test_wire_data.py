"""The four data requests: what is accepted, what is refused and how, and the texts of success."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.schema import Schema
from dbnode.wire import (
    LINEARIZABLE,
    ON_CONFLICT_ERROR,
    ON_CONFLICT_IGNORE,
    ON_CONFLICT_REPLACE,
    STALE,
    Delete,
    Update,
    Write,
)
from lbnode import wire

SCHEMA = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))
OTHER = Schema(('a"key', "value"), ("int64", "String"))


def row(key: Any, name: Any = "x", marks: Any = 1) -> dict[str, Any]:
    """Return a row as a client writes it."""
    return {"Stud_id": key, "Stud_name": name, "Stud_marks": marks}


def write(request: Any, rows_max: int = 1000) -> wire.WriteRequest:
    """Parse a /write."""
    return wire.parse_write({}, msgspec.json.encode(request), SCHEMA, rows_max)


def read(request: Any) -> wire.ReadRequest:
    """Parse a /read."""
    return wire.parse_read({}, msgspec.json.encode(request), SCHEMA)


def update(request: Any) -> Update:
    """Parse an /update."""
    return wire.parse_update({}, msgspec.json.encode(request), SCHEMA)


def delete(request: Any) -> Delete:
    """Parse a /del."""
    return wire.parse_delete({}, msgspec.json.encode(request), SCHEMA)


class RefusalCase(SynchronousTestCase):
    def refuse(self, parse: Callable[[Any], Any], code: str, request: Any, mentioning: str = "") -> ApiError:
        """Check that a request is refused under this code, with a text that names the culprit."""
        error: ApiError = self.assertRaises(ApiError, parse, request)

        self.assertEqual(error.code, code, error.text)
        self.assertIn(mentioning, error.text)
        return error


class Writes(RefusalCase):
    def test_rows_become_tuples_in_column_order(self) -> None:
        """The order of the fields in a row does not matter, and an id may be a decimal string."""
        request = write({"data": [{"Stud_marks": 27.5, "Stud_id": "7", "Stud_name": None}, row(8, "é", True)]})

        self.assertEqual(request.rows, ((7, None, 27.5), (8, "é", True)))
        self.assertEqual(request.on_conflict, ON_CONFLICT_ERROR)

    def test_empty_data(self) -> None:
        """No rows are a request too."""
        self.assertEqual(write({"data": []}).rows, ())

    def test_on_conflict(self) -> None:
        """What to do about rows that exist is one of three words."""
        for word, meant in (
            ("error", ON_CONFLICT_ERROR),
            ("ignore", ON_CONFLICT_IGNORE),
            ("replace", ON_CONFLICT_REPLACE),
            (None, ON_CONFLICT_ERROR),
        ):
            self.assertEqual(write({"DATA": [], "On_Conflict": word}).on_conflict, meant)
        self.refuse(write, "bad_on_conflict", {"data": [], "on_conflict": "merge"}, "error, ignore, replace")
        self.refuse(write, "bad_on_conflict", {"data": [], "on_conflict": []})

    def test_repeated_ids_are_a_conflict(self) -> None:
        """An id twice in one request is a 409 with the ids, in whatever form they are written."""
        error = self.refuse(write, "duplicate", {"data": [row(3), row(1), row("3"), row(1), row(1), row(2)]}, "1")

        self.assertEqual((error.status, error.applied, error.extra), (409, "no", {"ids": [1, 3]}))

    def test_repeated_ids_are_left_to_the_shard_if_the_client_said_what_to_do(self) -> None:
        """With `ignore` or `replace` the shard decides between equal ids."""
        for word in ("ignore", "replace"):
            self.assertEqual(len(write({"data": [row(1), row(1)], "on_conflict": word}).rows), 2)

    def test_wrong_rows(self) -> None:
        """Every row is checked, and the place of a wrong one is told."""
        self.refuse(write, "missing_field", {}, "data")
        self.refuse(write, "bad_value", {"data": {}})
        self.refuse(write, "bad_value", {"data": [row(1), 7]}, "data[1]")
        self.refuse(write, "unknown_column", {"data": [{**row(1), "x": 1}]}, "x")
        self.refuse(write, "missing_column", {"data": [{"Stud_id": 1}]}, "Stud_name")
        wrong_keys: tuple[Any, ...] = (None, 1.0, True, "x", "1.0", [], 1 << 63, str(1 << 63))
        for wrong in wrong_keys:
            self.refuse(write, "bad_key", {"data": [row(wrong)]}, "Stud_id")
        wrong_values: tuple[Any, ...] = ([], {}, 1 << 63)
        for wrong in wrong_values:
            self.refuse(write, "bad_value", {"data": [row(1, marks=wrong)]}, "Stud_marks")

    def test_too_many_rows(self) -> None:
        """More rows than one request may have are a 413."""
        error = self.refuse(lambda request: write(request, 2), "too_many_rows", {"data": [row(n) for n in range(3)]})

        self.assertEqual(error.status, 413)


class Reads(RefusalCase):
    def test_range(self) -> None:
        """Both ends are ids; by default everything is read, linearizably."""
        self.assertEqual(
            read({"Stud_id": {"low": 1000, "high": "8889"}}), wire.ReadRequest(1000, 8889, 0, LINEARIZABLE)
        )

    def test_choices(self) -> None:
        """A limit and the consistency may be chosen."""
        request = read({"stud_ID": {"LOW": 0, "High": 0}, "limit": 5, "Consistency": "stale"})

        self.assertEqual(request, wire.ReadRequest(0, 0, 5, STALE))

    def test_wrong_ranges(self) -> None:
        """What is no range of ids is refused."""
        self.refuse(read, "missing_field", {}, "Stud_id")
        self.refuse(read, "bad_range", {"Stud_id": 5})
        self.refuse(read, "missing_field", {"Stud_id": {"low": 5}}, "high")
        self.refuse(read, "bad_key", {"Stud_id": {"low": 5, "high": None}}, "high")
        self.refuse(read, "bad_key", {"Stud_id": {"low": -(1 << 63) - 1, "high": 0}}, "low")
        error = self.refuse(read, "bad_range", {"Stud_id": {"low": 5, "high": 4}}, "5")
        self.assertEqual(error.status, 400)

    def test_wrong_choices(self) -> None:
        """A limit is a positive integer, the consistency one of two words."""
        for wrong in (0, -1, "5", 1.5, True, 1 << 64):
            self.refuse(read, "bad_limit", {"Stud_id": {"low": 0, "high": 1}, "limit": wrong})
        self.refuse(read, "bad_consistency", {"Stud_id": {"low": 0, "high": 1}, "consistency": "eventual"}, "stale")


class UpdateAndDelete(RefusalCase):
    def test_update(self) -> None:
        """Only the columns given are changed; the same id in the data is no change."""
        self.assertEqual(update({"Stud_id": "7", "data": {"Stud_marks": 3}}), Update(7, {2: 3}))
        self.assertEqual(update({"STUD_ID": 7, "Data": {"Stud_id": "7", "Stud_name": "n"}}), Update(7, {1: "n"}))

    def test_wrong_updates(self) -> None:
        """Another id, an unknown column or a wrong value are refused."""
        self.refuse(update, "bad_key", {"Stud_id": 7, "data": {"Stud_id": 8}}, "8")
        self.refuse(update, "unknown_column", {"Stud_id": 7, "data": {"x": 8}}, "x")
        self.refuse(update, "bad_value", {"Stud_id": 7, "data": {"Stud_name": []}}, "Stud_name")
        self.refuse(update, "bad_value", {"Stud_id": 7, "data": 5})
        self.refuse(update, "missing_field", {"Stud_id": 7}, "data")
        self.refuse(update, "missing_field", {"data": {}}, "Stud_id")

    def test_delete(self) -> None:
        """A deletion names an id."""
        self.assertEqual(delete({"Stud_id": "0"}), Delete(0))
        self.refuse(delete, "missing_field", {}, "Stud_id")
        self.refuse(delete, "bad_key", {"Stud_id": 1.5}, "1.5")


class Idempotency(RefusalCase):
    def test_without_a_header_nothing_is_added(self) -> None:
        """An operation stays the object that it was."""
        operation = Delete(7)

        self.assertIs(wire.keyed({}, operation), operation)

    def test_same_operation_has_the_same_digest(self) -> None:
        """The digest tells equal operations from different ones, of the same kind or not."""
        headers = {b"idempotency-key": b"k-1"}
        operations: list[Any] = [Delete(7), Delete(8), Update(7, {}), Write(((7, "x"),)), Write(((7, "x"),), 1)]

        keys = [wire.keyed(headers, operation).idempotency for operation in operations]
        again = [wire.keyed(headers, operation).idempotency for operation in operations]

        self.assertEqual(keys, again)
        self.assertEqual(len({key.digest for key in keys}), len(operations))
        self.assertEqual({key.key for key in keys}, {"k-1"})

    def test_keys_are_short_printable_text(self) -> None:
        """An empty, long or unprintable key is refused."""
        for wrong in (b"", b"x" * 256, b"a\tb", "é".encode()):
            error = self.assertRaises(ApiError, wire.keyed, {b"idempotency-key": wrong}, Delete(7))
            self.assertEqual((error.status, error.code), (400, "bad_idempotency_key"))


class Texts(SynchronousTestCase):
    def test_exact_texts(self) -> None:
        """Existing clients depend on these, to the letter."""
        self.assertEqual(wire.rows_added(100), b'{"message":"100 Data entries added","status":"success"}')
        self.assertEqual(
            wire.row_updated(SCHEMA, 2255), b'{"message":"Data entry for Stud_id: 2255 updated","status":"success"}'
        )
        self.assertEqual(
            wire.row_removed(SCHEMA, 2255),
            b'{"message":"Data entry with Stud_id:2255 removed from all replicas","status":"success"}',
        )

    def test_key_column_of_any_name(self) -> None:
        """The key's own name stands in the text, quoted as JSON wants it."""
        self.assertEqual(
            msgspec.json.decode(wire.row_removed(OTHER, -1))["message"],
            'Data entry with a"key:-1 removed from all replicas',
        )
