"""Tests of benchmarks.chaos.keys."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.keys import Keys
from benchmarks.workloads import Shard, TableFullError

SHARDS = [Shard("sh2", 100, 100), Shard("sh1", 0, 100)]


class Ids(SynchronousTestCase):
    def test_hot(self) -> None:
        """Every shard has its hot ids at its top."""
        keys = Keys(SHARDS)

        hot = sorted(keys.hot(slot) for slot in range(keys.slots))

        self.assertEqual(hot, [98, 99, 198, 199])

    def test_used_up(self) -> None:
        """A slot has another id after a bounded number of operations, so that the check of each comes to an end."""
        keys = Keys(SHARDS)

        ids = [keys.hot(0) for _ in range(1000)]

        self.assertEqual([ids.count(row_id) for row_id in dict.fromkeys(ids)], [200] * 5)

    def test_unknown(self) -> None:
        """An id of which several outcomes are unknown is used no more."""
        keys = Keys(SHARDS)
        first = keys.hot(0)

        for _ in range(6):
            keys.became_unknown(first)

        self.assertNotEqual(keys.hot(0), first)

    def test_neighbours(self) -> None:
        """The neighbours of a slot are the hot ids of its shard, and count as used."""
        keys = Keys(SHARDS)

        ids = [tuple(keys.neighbours(0)) for _ in range(201)]

        self.assertEqual(len(set(ids[:200])), 1)
        self.assertEqual(ids[0], (98, 99))
        self.assertNotEqual(ids[200], ids[0])

    def test_fresh(self) -> None:
        """Fresh ids are never the same, never hot, and come to an end."""
        keys = Keys(SHARDS, taken=[1, 3])

        fresh = [keys.fresh(0) for _ in range(74)]

        self.assertEqual(fresh, [0, 2, *range(4, 75), None])
        self.assertEqual(keys.fresh(1), 100)

    def test_full(self) -> None:
        """A table without free ids is said to be full rather than used again."""
        self.assertRaises(TableFullError, Keys, SHARDS, taken=range(200))

    def test_shards(self) -> None:
        """A range belongs to the shards that it touches."""
        keys = Keys(SHARDS)

        self.assertEqual(
            [keys.shards_of(*bounds) for bounds in ((0, 99), (99, 100), (100, 500), (200, 300))],
            [["sh1"], ["sh1", "sh2"], ["sh2"], []],
        )
