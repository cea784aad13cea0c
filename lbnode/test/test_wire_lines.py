"""Rows as lines, however they are cut into pieces."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp.upload import sent_as_lines
from dbnode.schema import Schema, rows_to_lines
from dbnode.wire import Row
from lbnode.wire.lines import LINE_BYTES_MAX, RowLines, wanted_as_lines

SCHEMA = Schema(("id", "name"), ("Number", "String"))
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def _rows(*pieces: bytes) -> list[Row]:
    lines = RowLines(SCHEMA)
    return [row for piece in pieces for row in lines.rows(piece)] + lines.last()


class PieceTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(-9, 9), _NAMES)), st.integers(1, 40))
    def test_any_pieces(self, rows: list[Row], piece_bytes: int) -> None:
        """What was written as lines comes back, wherever the body is cut."""
        body = rows_to_lines(SCHEMA, rows)

        found = _rows(*[body[start : start + piece_bytes] for start in range(0, len(body), piece_bytes)])

        self.assertEqual(found, rows)

    def test_ends_of_lines(self) -> None:
        """Lines may end as on other systems, be empty, and the last one need not end at all."""
        found = _rows(b'{"id":1,"name":"a"}\r\n\r\n  \n{"id":"2","name":"b"}\n\n{"name":"c","id":3}')

        self.assertEqual(found, [(1, "a"), (2, "b"), (3, "c")])


class WrongLineTests(SynchronousTestCase):
    def refused(self, *pieces: bytes) -> ApiError:
        """Return the error of a body that is refused."""
        error: ApiError = self.assertRaises(ApiError, _rows, *pieces)
        return error

    def test_named_by_number(self) -> None:
        """An error names the line, counted from 1 with the empty ones, over all pieces."""
        good = b'{"id":1,"name":"a"}\n\n'
        for line, code in (
            (b"{", "bad_json"),
            (b'{"id":1,"name":"a"}{"id":2,"name":"b"}', "bad_json"),
            (b'{"id":1,"name":"\xff"}', "bad_json"),
            (b"7", "bad_value"),
            (b'{"id":1}', "missing_column"),
            (b'{"id":1,"name":"\\u0000"}', "bad_value"),
        ):
            error = self.refused(good, good, line + b"\n")

            self.assertEqual(error.code, code)
            self.assertIn("line 5", error.text)

    def test_last_line_cut_short(self) -> None:
        """A body that ends within a line is refused, unless the line is whole."""
        self.assertEqual(self.refused(b'{"id":1,"name":"a"}\n{"id":2,').code, "bad_json")

    def test_endless_line(self) -> None:
        """A line is refused once it is too long, without waiting for its end."""
        error = self.refused(b"x" * LINE_BYTES_MAX, b"x")

        self.assertEqual((error.code, error.status), ("line_too_long", 413))


class HeaderTests(SynchronousTestCase):
    def test_content_type(self) -> None:
        """Parameters and case of the media type do not matter."""
        for value, expected in (
            (b"application/x-ndjson", True),
            (b"Application/X-NDJSON; charset=utf-8", True),
            (b"application/json", False),
        ):
            self.assertIs(sent_as_lines({b"content-type": value}), expected)
        self.assertIs(sent_as_lines({}), False)

    def test_accept(self) -> None:
        """Lines are given to whoever names them."""
        for value, expected in ((b"text/plain, application/x-ndjson;q=0.9", True), (b"*/*", False)):
            self.assertIs(wanted_as_lines({b"accept": value}), expected)
        self.assertIs(wanted_as_lines({}), False)


class WriterTests(SynchronousTestCase):
    def test_lines_of_rows(self) -> None:
        """Each row is one object on a line that a newline ends."""
        lines = rows_to_lines(SCHEMA, [(1, "a\nb"), (2, None)]).splitlines()

        rows = [{"id": 1, "name": "a\nb"}, {"id": 2, "name": None}]
        self.assertEqual([msgspec.json.decode(line) for line in lines], rows)
        self.assertEqual(rows_to_lines(SCHEMA, []), b"")
