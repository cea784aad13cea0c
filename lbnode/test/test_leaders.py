"""Leaders are spread as evenly as their shards' replicas allow."""

from __future__ import annotations

from collections import Counter
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import ReplicaStatus
from lbnode.leaders import Handover, handovers, spread_leaders
from lbnode.table import ShardRecord

A1 = {
    "sh1": ("Server0", "Server3", "Server5"),
    "sh2": ("Server0", "Server4", "Server6"),
    "sh3": ("Server1", "Server3", "Server6"),
    "sh4": ("Server1", "Server4", "Server5"),
}

CANDIDATES = st.dictionaries(
    st.integers(1, 5), st.lists(st.sampled_from("ABCD"), min_size=1, max_size=3, unique=True), max_size=5
)


def busiest(spread: dict[int, str]) -> int:
    """Return how many shards the busiest server leads."""
    return max(Counter(spread.values()).values(), default=0)


class SpreadLeadersTests(SynchronousTestCase):
    def test_default_configuration(self) -> None:
        """Four shards are led by four servers."""
        spread = spread_leaders(A1)

        self.assertEqual(len(set(spread.values())), 4)
        self.assertTrue(all(server in A1[shard] for shard, server in spread.items()))

    def test_leaders_that_are_even_stay(self) -> None:
        """Nobody hands over without need."""
        current = {"sh1": "Server5", "sh2": "Server6", "sh3": "Server3", "sh4": "Server1"}

        self.assertEqual(spread_leaders(A1, current), current)

    def test_as_few_as_possible_move(self) -> None:
        """Of a server that leads too much only the surplus goes."""
        current = {"sh1": "Server0", "sh2": "Server0", "sh3": "Server1", "sh4": "Server4"}

        spread = spread_leaders(A1, current)

        self.assertEqual(sum(spread[shard] != server for shard, server in current.items()), 1)
        self.assertEqual(len(set(spread.values())), 4)

    def test_a_shard_that_nobody_can_lead_is_left_out(self) -> None:
        """With all its servers down a shard has no leader, and that is all."""
        self.assertEqual(spread_leaders({"sh1": (), "sh2": ("A",)}), {"sh2": "A"})

    @given(CANDIDATES)
    def test_no_spread_is_more_even(self, candidates: dict[int, list[str]]) -> None:
        """The busiest server leads as few shards as in the best of all assignments."""
        spread = spread_leaders(candidates)

        best = min(
            (busiest(dict(zip(candidates, choice, strict=True))) for choice in product(*candidates.values())), default=0
        )
        assert set(spread) == set(candidates)
        assert all(server in candidates[shard] for shard, server in spread.items())
        assert busiest(spread) == best


class HandoverTests(SynchronousTestCase):
    def test_servers_that_shall_not_lead(self) -> None:
        """They hand over what others can lead, and keep what nobody else can."""
        one, other = ShardRecord(1, "sh1", 0, 10, {1: "A", 2: "B"}), ShardRecord(2, "sh2", 10, 10, {3: "A"})
        known = {
            id_: ReplicaStatus(group, id_, role, 1, 1, "A", 9, 9, 9, 0)
            for group, id_, role in ((1, 1, "leader"), (1, 2, "follower"), (2, 3, "leader"))
        }

        self.assertEqual(handovers([one], known), [])
        self.assertEqual(handovers([one, other], known, without=["A"]), [Handover(1, "A", 2)])
