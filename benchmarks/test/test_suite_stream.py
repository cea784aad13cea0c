"""Tests of benchmarks.suite.stream, table, present and of the mixes of ycsb."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.measure import Failed
from benchmarks.suite.layouts import large_a_1
from benchmarks.suite.present import Present
from benchmarks.suite.stream import Mix, Stream
from benchmarks.suite.table import students, usertable
from benchmarks.suite.ycsb import WORKLOADS

KEYS = 1 << 14
TABLE = usertable(KEYS)
DONE = b'{"message":"","status":"success"}'


def stream(letter: str, count: int = 1_000, records: int = 100) -> Stream:
    """Return the stream of a YCSB workload."""
    return Stream(TABLE, WORKLOADS[letter], records, count, "h:1", Random(1))


def parsed(request: bytes) -> tuple[str, Any]:
    """Return the method with path, and the body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head.partition(b" HTTP")[0].decode(), msgspec.json.decode(body)


def rows(*keys: int) -> bytes:
    """Return the answer to a read."""
    return msgspec.json.encode({"data": [{"YCSB_KEY": key} for key in keys], "status": "success"})


class Tables(SynchronousTestCase):
    def test_record(self) -> None:
        """A record of YCSB is ten strings of 100 bytes under a key."""
        row = TABLE.row(5, Random(1))

        self.assertEqual(len(row), 11)
        self.assertEqual({len(value) for name, value in row.items() if name != "YCSB_KEY"}, {100})

    def test_spread(self) -> None:
        """Every item has a key of its own, and each shard gets its share."""
        keys = [TABLE.key_of(item) for item in range(KEYS)]
        first = Counter(key // (KEYS // 4) for key in keys[:400])

        self.assertEqual(sorted(keys), list(range(KEYS)))
        self.assertTrue(all(90 <= count <= 110 for count in first.values()))

    def test_layout(self) -> None:
        """A layout gets the table's columns; one of another size is refused."""
        layout = TABLE.layout(large_a_1(KEYS // 4))

        self.assertEqual(layout.init_request()["schema"]["columns"][0], "YCSB_KEY")
        self.assertEqual(len(layout.init_request()["schema"]["dtypes"]), 11)
        self.assertRaises(ValueError, TABLE.layout, large_a_1(KEYS))
        self.assertEqual(students(KEYS, 16).columns, ("Stud_name", "Stud_marks"))


class Mixes(SynchronousTestCase):
    def test_shares(self) -> None:
        """The workloads have the shares of YCSB's files, and they come out."""
        shares = {letter: dict(mix.shares) for letter, mix in WORKLOADS.items()}
        drawn = stream("B")
        for index in range(len(drawn)):
            drawn[index]

        self.assertEqual(shares["A"], {"read": 0.5, "update": 0.5})
        self.assertEqual(shares["E"], {"scan": 0.95, "insert": 0.05})
        self.assertEqual([sum(mix.values()) for mix in shares.values()], [1.0] * 6)
        self.assertLess(abs(drawn.kinds.count("update") - 50), 25)

    def test_requests(self) -> None:
        """Reads ask for one key, updates change one column, scans ask for up to 100 rows, inserts for a new row."""
        for letter, kind, head in (
            ("C", "read", "POST /read"),
            ("A", "update", "PUT /update"),
            ("E", "scan", "POST /read"),
            ("D", "insert", "POST /write"),
        ):
            drawn = stream(letter)
            requests = [parsed(drawn[index]) for index in range(200)]
            found = next(request for request, one in zip(requests, drawn.kinds, strict=True) if one == kind)

            self.assertEqual(found[0], head)
            if kind == "update":
                self.assertEqual(len(found[1]["data"]), 1)
            if kind == "scan":
                self.assertIn(found[1]["limit"], range(1, 101))
            if kind == "insert":
                self.assertEqual(found[1]["data"][0]["YCSB_KEY"], TABLE.key_of(100))

    def test_seed(self) -> None:
        """The same seed gives the same operations."""
        first, again = stream("A"), stream("A")

        self.assertEqual([first[index] for index in range(50)], [again[index] for index in range(50)])


class Judging(SynchronousTestCase):
    def inserting(self, count: int) -> Stream:
        """Return a stream of inserts, all of them drawn."""
        mix = Mix("inserts", "", {"insert": 1.0}, WORKLOADS["D"].keys)
        made = Stream(TABLE, mix, 10, count, "h:1", Random(1))
        for index in range(count):
            made[index]
        return made

    def test_acknowledged_without_a_gap(self) -> None:
        """An item may be read only once all older ones are acknowledged too."""
        made = self.inserting(3)
        check = made.load().check

        self.assertIsNone(check(1, 200, DONE))
        self.assertEqual((made.acknowledged, made.inserted()), (10, {11}))
        self.assertIsNone(check(0, 200, DONE))

        self.assertEqual((made.acknowledged, made.inserted()), (12, {10, 11}))

    def test_unknown(self) -> None:
        """An insert that failed without saying whether it was applied may be there."""
        made = self.inserting(2)
        check = made.load().check

        check(0, 504, b'{"code":"deadline","applied":"unknown"}')
        check(1, 409, b'{"code":"duplicate","applied":"no"}')

        self.assertEqual((made.unknown, made.inserted()), ({10}, set()))

    def test_next_stream(self) -> None:
        """A stream that follows another goes on where it ended, and leaves alone what failed."""
        made = self.inserting(2)
        made.load().check(0, 504, b"")
        made.load().check(1, 200, DONE)
        mix = Mix("reads", "", {"read": 1.0}, WORKLOADS["C"].keys)

        after = made.then(mix, 500)

        asked = {parsed(after[index])[1]["YCSB_KEY"]["low"] for index in range(500)}
        self.assertNotIn(TABLE.key_of(10), asked)
        self.assertIn(TABLE.key_of(11), asked)
        self.assertTrue(asked <= {TABLE.key_of(item) for item in range(12)})

    def test_reads(self) -> None:
        """A read must bring the row, and it alone."""
        made = stream("C")
        key = parsed(made[0])[1]["YCSB_KEY"]["low"]
        check = made.load().check

        found = [
            check(0, 200, body) for body in (rows(key), rows(), rows(key + 1), b"no", b'{"data":[{}],"status":""}')
        ]

        self.assertEqual(found, [None, *[Failed("wrong answer", "unknown")] * 4])

    def test_scans(self) -> None:
        """A scan must begin with its row, ascend, and keep to its length."""
        made = stream("E")
        body = parsed(made[0])[1]
        self.assertEqual(made.kinds, ["scan"])
        low, limit = body["YCSB_KEY"]["low"], body["limit"]

        self.assertIsNone(made.load().check(0, 200, rows(*range(low, low + limit))))
        made = stream("E")
        made[0]
        self.assertIsNotNone(made.load().check(0, 200, rows(*range(low, low + limit + 1))))

    def test_read_modify_write(self) -> None:
        """The read is followed by an update of the same row, and both are judged."""
        made = stream("F")
        index = 0
        while True:
            key = parsed(made[index])[1]["YCSB_KEY"]["low"]
            if made.kinds[index] == "read-modify-write":
                break
            index += 1
        load = made.load()
        assert load.follow is not None

        self.assertIsNone(load.check(index, 200, rows(key)))
        second = load.follow(index)
        assert second is not None
        self.assertEqual((parsed(second)[0], parsed(second)[1]["YCSB_KEY"]), ("PUT /update", key))
        self.assertIsNone(load.check(index, 200, DONE))
        self.assertIsNone(load.follow(index))


class Presence(SynchronousTestCase):
    def test_unaccounted(self) -> None:
        """Missing rows and strangers are told; those of unknown outcome may be there or not."""
        wanted = Present("Key", {1, 2}, {3})

        self.assertEqual(wanted.unaccounted(wanted.copy_of([{"Key": 1}, {"Key": 2}, {"Key": 3}])), [])
        self.assertEqual(
            wanted.unaccounted(wanted.copy_of([{"Key": 1}, {"Key": 9}])),
            ["acknowledged but missing: 1 rows, ids 2", "there but never written: 1 rows, ids 9"],
        )
