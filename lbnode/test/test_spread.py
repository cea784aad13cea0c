"""Placing replicas on servers: even, and never two of a shard on one server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lbnode.spread import Placement, fill, level, loads

placements = st.dictionaries(
    st.sampled_from(["sh1", "sh2", "sh3", "sh4", "sh5"]), st.lists(st.sampled_from("ABCDEF"), unique=True)
)


class FillTests(SynchronousTestCase):
    @given(placements, st.integers(0, 6), st.sets(st.sampled_from("ABCDEF")))
    def test_copies(self, placement: Placement, copies: int, barred: set[str]) -> None:
        """Each shard gets its copies as far as servers may take them; what was placed stays."""
        before = {shard: set(on_it) for shard, on_it in placement.items()}

        fill(placement, dict.fromkeys(placement, copies), "ABCDEF", dict.fromkeys(placement, barred))

        for shard, on_it in placement.items():
            free = set("ABCDEF") - barred - before[shard]
            assert len(set(on_it)) == len(on_it) == max(len(before[shard]), min(copies, len(before[shard]) + len(free)))
            assert before[shard] <= set(on_it) <= before[shard] | free

    def test_the_emptiest_first(self) -> None:
        """A copy goes where fewest are."""
        placement = {"sh1": ["A", "B"], "sh2": ["A"]}

        fill(placement, {"sh2": 2}, "ABC", {})

        self.assertEqual(placement["sh2"], ["A", "C"])


class LevelTests(SynchronousTestCase):
    @given(placements)
    def test_even_if_all_may_move(self, placement: Placement) -> None:
        """No server holds two more than another, and each shard has as many copies as before."""
        copies = {shard: len(on_it) for shard, on_it in placement.items()}

        level(placement, "ABCDEF", lambda shard, source, target: True)

        assert {shard: len(set(on_it)) for shard, on_it in placement.items()} == copies
        counts = loads(placement, "ABCDEF").values()
        assert max(counts) - min(counts) <= 1

    @given(placements, st.sets(st.sampled_from("ABCDEF")))
    def test_only_what_may_move(self, placement: Placement, receivers: set[str]) -> None:
        """A server that may take nothing has nothing afterwards that it had not before."""
        before = {shard: set(on_it) for shard, on_it in placement.items()}

        level(placement, "ABCDEF", lambda shard, source, target: target in receivers)

        assert all(set(on_it) - before[shard] <= receivers for shard, on_it in placement.items())
