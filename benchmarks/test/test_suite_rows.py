"""Tests of benchmarks.suite.rows, bulk's sizes, and what pgbench prints."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.suite.bulk import BATCHES, Size
from benchmarks.suite.postgres import PostgresError
from benchmarks.suite.rows import RowReader, WrongRowsError, csv, row_at
from benchmarks.suite.storage import pgbench_figures

ROWS = [row_at(row_id) for row_id in range(20)]
ANSWER = msgspec.json.encode({"shards_queried": ["sh1"], "data": ROWS, "status": "success"})
LINES = b"".join(msgspec.json.encode(row) + b"\n" for row in ROWS)


class Reading(SynchronousTestCase):
    @given(st.sampled_from([ANSWER, LINES]), st.lists(st.integers(1, 200), min_size=1))
    def test_any_pieces(self, answer: bytes, sizes: list[int]) -> None:
        """However an answer is cut, as JSON or as lines, every row is found once."""
        reader = RowReader()
        at = 0
        while at < len(answer):
            for size in sizes:
                reader.feed(answer[at : at + size])
                at += size

        reader.close(20)
        self.assertEqual((reader.rows, reader.bytes), (20, len(answer)))

    def test_wrong(self) -> None:
        """A row that is missing, different or in the wrong place is refused, and so is an early end."""
        for rows in (ROWS[1:], [*ROWS[:5], *ROWS[6:]], [ROWS[0], ROWS[2], ROWS[1]]):
            self.assertRaises(WrongRowsError, RowReader().feed, msgspec.json.encode(rows))
        reader = RowReader()
        reader.feed(ANSWER[:300])
        self.assertRaises(WrongRowsError, reader.close, 20)

    def test_csv(self) -> None:
        """COPY gets the same rows."""
        first = row_at(3)

        self.assertEqual(csv(range(3, 4)), f"3,{first.Stud_name},{first.Stud_marks}\n".encode())
        self.assertEqual(len(first.Stud_name), 16)


class Sizes(SynchronousTestCase):
    def test_dealt(self) -> None:
        """Batches go over the shards in turn, cover every row once, and each lies in one shard."""
        for rows in (1_000, 1_001, 999, 7):
            size = Size(rows, 10, 4, 3, 4, (BATCHES,))
            layout = size.layout()
            ranges = size.ranges()

            self.assertEqual(sorted(row_id for ids in ranges for row_id in ids), list(range(rows)))
            for ids in ranges:
                self.assertEqual(layout.shard_of(ids[0]), layout.shard_of(ids[-1]))

    def test_in_turn(self) -> None:
        """The first batches go to different shards."""
        size = Size(1_000, 10, 4, 3, 4, (BATCHES,))

        found = [size.layout().shard_of(ids[0]) for ids in size.ranges()[:5]]

        self.assertEqual(found, ["sh1", "sh2", "sh3", "sh4", "sh1"])


class Pgbench(SynchronousTestCase):
    def test_figures(self) -> None:
        """Rate, mean and count are found in what pgbench prints."""
        printed = (
            "number of transactions actually processed: 12345\nlatency average = 3.141 ms\n"
            "initial connection time = 9.9 ms\ntps = 6543.210987 (without initial connection time)\n"
        )

        self.assertEqual(
            pgbench_figures(printed), {"rate_per_second": 6543.210987, "mean_ms": 3.141, "requests": 12345.0}
        )

    def test_nothing(self) -> None:
        """Without them it is an error with what it said."""
        failure = self.assertRaises(PostgresError, pgbench_figures, "connection refused")

        self.assertIn("connection refused", str(failure))
