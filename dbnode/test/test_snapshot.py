"""Copies on their way: what a reader accepts, and what it refuses in which words."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.changes import KeyRecord, Position, SessionMark
from dbnode.schema import Schema
from dbnode.snapshot import Content, SnapshotError, SnapshotReader, chunks, summary
from dbnode.test.properties import same_each_time
from dbnode.wire import Done, Row

TABLE = Schema(("id", "a"), ("Number", "String"))
ROWS: list[Row] = [(id_, f"row {id_}") for id_ in range(-5, 5)]


def copy(rows: list[Row] = ROWS, row_count: int = 10, schema: Schema = TABLE, chunk_bytes: int = 20) -> list[bytes]:
    """Return the chunks of a copy at position 7."""
    content = Content(
        schema,
        Position(7, 70, row_count),
        iter(rows),
        iter([("s", SessionMark(7, 0, 0))]),
        iter([("s", 1, (Done(),))]),
        iter([("k", KeyRecord(b"d", Done(), 99))]),
    )
    return list(chunks(content, chunk_bytes))


class Reading(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a reader."""
        self.reader = SnapshotReader(TABLE)

    def assert_refused(self, words: str, stream: list[bytes]) -> None:
        """Check that a stream is refused when it has come to its last chunk."""
        for chunk in stream[:-1]:
            self.reader.read(chunk)
        error = self.assertRaises(SnapshotError, self.reader.read, stream[-1])
        self.assertIn(words, str(error))

    def test_everything_comes_through(self) -> None:
        """Rows, sessions, results and keys come out as they went in, all at the copy's position."""
        brought = [self.reader.read(chunk) for chunk in copy()]
        self.reader.check_complete()

        self.assertEqual([row for changes in brought for row in changes.upserts], ROWS)
        self.assertEqual({name for changes in brought for name in changes.sessions}, {"s"})
        self.assertEqual({place for changes in brought for place in changes.results}, {("s", 1)})
        self.assertEqual({key for changes in brought for key in changes.keys}, {"k"})
        self.assertEqual({changes.position for changes in brought}, {Position(7, 70, 10)})

    def test_chunks_are_cut_by_size(self) -> None:
        """Smaller chunks are more chunks; the rows' digest does not depend on it."""
        small, large = copy(chunk_bytes=1), copy(chunk_bytes=1_000_000)

        self.assertEqual((len(small), len(large)), (15, 6))
        self.assertEqual(summary(small[0], small[-1]), summary(large[0], large[-1]))
        self.assertEqual(summary(large[0], large[-1]).row_count, 10)

    def test_early_end(self) -> None:
        """A copy without its end is not complete."""
        for chunk in copy()[:-1]:
            self.reader.read(chunk)

        error = self.assertRaises(SnapshotError, self.reader.check_complete)

        self.assertIn("ends early, after 10 of 10 rows", str(error))

    def test_wrong_order(self) -> None:
        """Chunks that are missing at the begin, come twice or go back are refused."""
        stream = copy(chunk_bytes=1_000_000)

        self.assert_refused("ROWS cannot follow None", [stream[1]])
        self.assert_refused("HEADER cannot follow", [stream[0], stream[0]])
        self.assert_refused("row -5 cannot follow id 4", [stream[1], stream[1]])
        self.assert_refused("ROWS cannot follow", [stream[2], stream[1]])

    def test_nothing_follows_the_end(self) -> None:
        """After the end there is nothing."""
        stream = copy()

        self.assert_refused("END cannot follow", [*stream, stream[-1]])

    def test_missing_rows(self) -> None:
        """A copy with fewer rows than its header says is refused, although its checksum is right."""
        self.assert_refused("10 rows; its header says 11", copy(row_count=11))

    def test_other_table(self) -> None:
        """A copy of a table with other columns is refused at once."""
        self.assert_refused("a table with columns", copy(schema=Schema(("id", "b"), ("Number", "String")))[:1])

    def test_rows_of_another_width(self) -> None:
        """A row that does not fit the table is refused."""
        self.assert_refused("row 1 cannot follow", copy(rows=[(1, "a", "b")])[:2])

    @settings(same_each_time, max_examples=200)
    @given(st.binary(max_size=40))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes instead of a chunk is refused with SnapshotError."""
        self.assertRaises(SnapshotError, SnapshotReader(TABLE).read, data)

    def test_any_damage(self) -> None:
        """Whichever byte of a copy is changed, it is refused before it counts as complete."""
        stream = copy(rows=ROWS[:2], row_count=2)
        for number, chunk in enumerate(stream):
            for place in range(len(chunk)):
                damaged = bytearray(chunk)
                damaged[place] ^= 1
                with self.assertRaises(SnapshotError):
                    reader = SnapshotReader(TABLE)
                    for other in (*stream[:number], bytes(damaged), *stream[number + 1 :]):
                        reader.read(other)
                    reader.check_complete()
