"""Tests of benchmarks.suite.keys: the distributions are those that YCSB defines."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.suite.keys import THETA, Keys, Latest, ScrambledZipfian, Uniform, Zipfian, fnv64, zeta

DRAWS = 20_000


def counted(keys: Keys, items: int, draws: int = DRAWS) -> Counter[int]:
    """Return how often each item was chosen."""
    return Counter(keys.choose(items) for _ in range(draws))


class Zeta(SynchronousTestCase):
    def test_sum(self) -> None:
        """Where the sum is long it is that of all its terms all the same."""
        for items in (1, 2, 1_000, 1_001, 50_000):
            exact = sum(rank**-THETA for rank in range(1, items + 1))

            self.assertAlmostEqual(zeta(items, THETA), exact, places=8)

    def test_ycsb_constant(self) -> None:
        """Over ten thousand million ranks it is the constant that YCSB has written down."""
        self.assertAlmostEqual(zeta(10**10, THETA), 26.46902820178302, places=6)


class Ranks(SynchronousTestCase):
    def test_frequencies(self) -> None:
        """The first ranks come as often as 1 / rank^0.99 says."""
        items = 1_000
        found = counted(Zipfian(Random(1)), items, 50_000)

        for rank in (0, 1, 2, 5, 20):
            expected = (rank + 1) ** -THETA / zeta(items, THETA)
            self.assertLess(abs(found[rank] / 50_000 / expected - 1), 0.2)

    def test_growth(self) -> None:
        """A distribution that grew is the one that was made as large."""
        grown, fresh = Zipfian(Random(3)), Zipfian(Random(3))
        for items in (5_000, 5_001, 5_500):
            grown.choose(items)
        for _ in range(3):
            fresh.choose(5_500)

        self.assertEqual([grown.choose(5_500) for _ in range(50)], [fresh.choose(5_500) for _ in range(50)])

    @settings(deadline=None)
    @given(st.integers(1, 100_000), st.integers(0, 1_000))
    def test_range(self, items: int, seed: int) -> None:
        """Whatever the size, an item is one of those that there are."""
        for kind in (Uniform, Zipfian, ScrambledZipfian, Latest):
            keys: Keys = kind(Random(seed))
            self.assertTrue(all(0 <= keys.choose(items) < items for _ in range(5)))


class Shapes(SynchronousTestCase):
    def test_scrambled(self) -> None:
        """The most popular item has the share of the first rank among all, and the popular ones lie anywhere."""
        found = counted(ScrambledZipfian(Random(1)), 10_000)
        popular = [item for item, _ in found.most_common(10)]

        self.assertEqual(popular[0], fnv64(0) % 10_000)
        self.assertLess(abs(found[popular[0]] / DRAWS - 1 / 26.469), 0.005)
        self.assertGreater(max(popular) - min(popular), 2_000)

    def test_latest(self) -> None:
        """The newest item is the most popular, also after it is another one."""
        keys = Latest(Random(1))

        for items in (1_000, 1_001):
            found = counted(keys, items)
            self.assertEqual(found.most_common(1)[0][0], items - 1)
            self.assertGreater(sum(found[item] for item in range(items - 100, items)), DRAWS / 2)

    def test_uniform(self) -> None:
        """All items come about as often."""
        found = counted(Uniform(Random(1)), 10)

        self.assertEqual(len(found), 10)
        self.assertTrue(all(abs(count - DRAWS / 10) < DRAWS / 50 for count in found.values()))

    def test_seed(self) -> None:
        """The same seed gives the same items, another one others."""
        first, again, other = (
            [keys.choose(1_000) for _ in range(30)] for keys in map(ScrambledZipfian, map(Random, (1, 1, 2)))
        )

        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_hash(self) -> None:
        """The hash is FNV over eight bytes, its sign dropped: 0 hashes to eight multiplications of the offset."""
        expected = 0xCBF29CE484222325 * pow(0x100000001B3, 8, 1 << 64) % (1 << 64)

        self.assertEqual(fnv64(0), min(expected, (1 << 64) - expected))
        self.assertEqual(len({fnv64(number) % 1_000_003 for number in range(1_000)}), 1_000)
