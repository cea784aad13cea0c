"""Schemas, keys and rows from JSON: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.schema import (
    INT64_MAX,
    INT64_MIN,
    Schema,
    changes_from_object,
    key_from_json,
    row_from_object,
    rows_from_json,
    rows_to_json,
    schema_from_json,
)
from dbnode.test.properties import VALUES, same_each_time

STUDENTS = Schema(("Stud_id", "Stud_name", "Stud_marks"), ("Number", "String", "String"))


def row(**columns: Any) -> dict[str, Any]:
    """Return a good row, or one with some columns changed or added."""
    return {"Stud_id": 2255, "Stud_name": "GHI", "Stud_marks": 27, **columns}


class RefusalTestCase(SynchronousTestCase):
    """For tests of what is refused."""

    def assert_refused(self, code: str, words: str, function: Any, *args: Any) -> None:
        """Check the code of the ApiError and that its text names what was wrong."""
        error = self.assertRaises(ApiError, function, *args)
        self.assertEqual((error.code, error.status), (code, 400))
        self.assertIn(words, error.text)
        json.dumps(error.body()).encode()


class SchemaFromJson(RefusalTestCase):
    def test_accepts_the_contracts_schema(self) -> None:
        """Columns and dtypes are taken over in order; the first column is the key."""
        schema = schema_from_json({"columns": list(STUDENTS.columns), "dtypes": list(STUDENTS.dtypes)})

        self.assertEqual(schema, STUDENTS)
        self.assertEqual(schema.key, "Stud_id")

    def test_field_names_in_any_case(self) -> None:
        """The two fields may be written in any case, as all fields of the contract."""
        schema = schema_from_json({"Columns": ["id"], "DTYPES": ["int"]})

        self.assertEqual(schema, Schema(("id",), ("int",)))

    def test_survives_its_own_json(self) -> None:
        """What to_json gives is accepted again as the same schema."""
        self.assertEqual(schema_from_json(STUDENTS.to_json()), STUDENTS)

    def test_refuses_what_is_no_schema(self) -> None:
        """Each refusal says which part is wrong and what would be right."""
        cases: list[tuple[Any, str]] = [
            (None, "the schema is null; it must be an object"),
            ([], "the schema is a list"),
            ({"columns": ["id"]}, "dtypes in the schema is null; it must be a list of strings"),
            ({"columns": "id", "dtypes": ["Number"]}, 'columns in the schema is "id"'),
            ({"columns": ["id", 5], "dtypes": ["Number", "String"]}, "columns in the schema is a list"),
            ({"columns": ["id", "a"], "dtypes": ["Number"]}, "2 columns and 1 dtypes"),
            ({"columns": [], "dtypes": []}, "0 columns"),
            ({"columns": ["id", "a", "a"], "dtypes": ["Number", "String", "String"]}, '"a" is there twice'),
            ({"columns": ["id", " "], "dtypes": ["Number", "String"]}, 'column name " "'),
            ({"columns": ["id", "a\0"], "dtypes": ["Number", "String"]}, r'"a\u0000"'),
            ({"columns": ["id", "a" * 129], "dtypes": ["Number", "String"]}, "1 to 128 characters"),
            ({"columns": ["id"], "dtypes": ["String"]}, 'dtype "String"; the first column must be a Number'),
            ({"columns": ["Data"], "dtypes": ["Number"]}, 'cannot be called "Data"'),
        ]

        for value, words in cases:
            self.assert_refused("bad_schema", words, schema_from_json, value)

    def test_only_the_key_may_not_be_called_as_a_field(self) -> None:
        """Other columns stand in objects of their own, so they may be called data or shard."""
        schema = schema_from_json({"columns": ["id", "data", "shard"], "dtypes": ["Number", "String", "String"]})

        self.assertEqual(schema.columns, ("id", "data", "shard"))


class Keys(RefusalTestCase):
    def test_integers_and_decimal_strings(self) -> None:
        """An id is an integer or a string of decimal digits, from one end of 64 bits to the other."""
        for value in (0, 2255, "2255", -5, "-5", "007", INT64_MAX, str(INT64_MIN)):
            self.assertEqual(key_from_json(value), int(value))

    def test_refuses_everything_else(self) -> None:
        """No fraction, boolean, null, container, sign, space, prefix, separator or foreign digit makes a key."""
        refused: list[Any] = [
            2255.0,
            1.5,
            True,
            None,
            [],
            {},
            "",
            " 2255",
            "2255 ",
            "2255\n",
            "+5",
            "0x1",
            "२",
            "1_000",
            "1e3",
        ]

        for value in refused:
            self.assert_refused("bad_key", "must be an integer", key_from_json, value)

    def test_refuses_more_than_64_bits(self) -> None:
        """A key beyond 64 bits is refused however long it is."""
        for value in (INT64_MAX + 1, INT64_MIN - 1, str(INT64_MAX + 1), 10**5000):
            self.assert_refused("bad_key", "must lie between", key_from_json, value)
        self.assert_refused("bad_key", "…", key_from_json, "9" * 5000)


class Rows(RefusalTestCase):
    def test_order_of_columns_does_not_matter(self) -> None:
        """A row comes out in the schema's order, its key an int."""
        value = {"Stud_marks": "27", "Stud_id": "2255", "Stud_name": None}

        self.assertEqual(row_from_object(STUDENTS, value, "data[0]"), (2255, None, "27"))

    def test_any_column_can_be_the_key(self) -> None:
        """The key is the first column, whatever it is called, also when it is the only one."""
        schema = Schema(("no", "Stud_id"), ("int", "Number"))

        self.assertEqual(row_from_object(schema, {"Stud_id": True, "no": "5"}, "row"), (5, True))
        self.assertEqual(row_from_object(Schema(("n",), ("int",)), {"n": 1}, "row"), (1,))

    def test_refuses_wrong_columns(self) -> None:
        """Unknown and missing columns are named, with the place of the row."""
        self.assert_refused(
            "unknown_column", 'data[3] has the column "Age"', row_from_object, STUDENTS, row(Age=1), "data[3]"
        )
        self.assert_refused("unknown_column", '"stud_name"', row_from_object, STUDENTS, row(stud_name="x"), "data[3]")
        self.assert_refused(
            "missing_column", "data[3] lacks the column Stud_name", row_from_object, STUDENTS, {"Stud_id": 1}, "data[3]"
        )
        renamed = {"Stud_id": 1, "Stud_name": "a", "marks": 2}
        self.assert_refused("unknown_column", '"marks"', row_from_object, STUDENTS, renamed, "row")

    def test_refuses_values_that_cannot_be_kept(self) -> None:
        """NUL, lone surrogates, more than 64 bits, infinities, arrays and objects are refused by column."""
        cases: list[tuple[Any, str]] = [
            ("a\0b", r'Stud_marks in row is "a\u0000b"; strings must be'),
            ("\ud800", "valid Unicode"),
            (1 << 63, "9223372036854775808; integers must lie between"),
            (10**5000, "an integer of 16610 bits"),
            (float("inf"), "must be finite"),
            ([], "a list; values are strings, numbers, booleans or null"),
            ({}, "an object; values are"),
        ]

        for value, words in cases:
            self.assert_refused("bad_value", words, row_from_object, STUDENTS, row(Stud_marks=value), "row")

    def test_refuses_bad_keys_in_rows(self) -> None:
        """A row's key follows the rules for keys, and the refusal names the key's column."""
        wrong: list[Any] = [None, True, 1.0, "x", [], 1 << 63]

        for value in wrong:
            self.assert_refused("bad_key", "Stud_id in row", row_from_object, STUDENTS, row(Stud_id=value), "row")

    def test_refuses_what_is_no_object(self) -> None:
        """A row must be an object, and rows a list; a long value is cut."""
        wrong: list[Any] = [None, 5, "Stud_id", [1, 2, 3], True]

        for value in wrong:
            self.assert_refused("bad_value", "a row must be an object", rows_from_json, STUDENTS, [value])
        self.assert_refused("bad_value", "data is an object; it must be a list", rows_from_json, STUDENTS, row())
        error = self.assertRaises(ApiError, row_from_object, STUDENTS, "x" * 10_000, "row")
        self.assertLess(len(error.text), 200)

    def test_names_the_place_in_a_list(self) -> None:
        """The error says which row of the list it is about."""
        self.assert_refused("bad_key", "data[1]", rows_from_json, STUDENTS, [row(), row(Stud_id=None)])


class Changes(RefusalTestCase):
    def test_only_the_given_columns_change(self) -> None:
        """Changes are by column number; the key may be repeated."""
        changes = changes_from_object(STUDENTS, {"Stud_marks": None, "Stud_id": "2255"}, 2255)

        self.assertEqual(changes, {2: None})

    def test_the_key_cannot_change(self) -> None:
        """Another id in the data is refused."""
        self.assert_refused(
            "bad_key", "Stud_id 7, but the row is 2255", changes_from_object, STUDENTS, row(Stud_id=7), 2255
        )

    def test_refuses_what_rows_refuse(self) -> None:
        """Unknown columns, bad values and what is no object are refused as in rows."""
        self.assert_refused("unknown_column", '"Age"', changes_from_object, STUDENTS, {"Age": 1}, 1)
        self.assert_refused("bad_value", "must be finite", changes_from_object, STUDENTS, {"Stud_name": 1e400}, 1)
        self.assert_refused("bad_value", "data is a list", changes_from_object, STUDENTS, [], 1)


class RowsToJson(SynchronousTestCase):
    def test_joins_objects_by_commas(self) -> None:
        """Rows become objects in column order, without brackets; no rows become nothing."""
        text = rows_to_json(STUDENTS, [(1, "é\n", 27.0), (2, None, True)])

        self.assertEqual(
            text.decode(),
            '{"Stud_id":1,"Stud_name":"é\\n","Stud_marks":27.0},{"Stud_id":2,"Stud_name":null,"Stud_marks":true}',
        )
        self.assertEqual(rows_to_json(STUDENTS, []), b"")

    def test_any_column_name(self) -> None:
        """Names that JSON escapes, and words of Python, are names like others."""
        for name in ('we"ird', "back\\slash", "tab\t", "class", "É|'", "self"):
            text = rows_to_json(Schema(("id", name), ("int", "String")), [(1, 2)])
            self.assertEqual(json.loads(text), {"id": 1, name: 2})

    @same_each_time
    @given(st.lists(st.tuples(st.integers(INT64_MIN, INT64_MAX), VALUES, VALUES), max_size=5))
    def test_values_keep_their_kind(self, rows: list[tuple[Any, ...]]) -> None:
        """What came in as JSON goes out as the same JSON: 27, 27.0, "27", true and null stay what they are."""
        objects = json.loads(b"[%s]" % rows_to_json(STUDENTS, rows))
        again = rows_from_json(STUDENTS, objects)

        self.assertEqual(list(again), rows)
        self.assertEqual([list(map(type, new)) for new in again], [list(map(type, old)) for old in rows])
