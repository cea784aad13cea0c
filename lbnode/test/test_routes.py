"""Which shard an id belongs to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from lbnode.layout import Layout
from lbnode.routes import Routes
from lbnode.test.shards import STUDENTS, MemoryShards, layout, router_over


def routes_of(whole: Layout) -> Routes:
    """Return the routes of a layout."""
    router = router_over(MemoryShards(Clock()))
    router.configure(whole)
    return router.routes()


class Find(SynchronousTestCase):
    def test_ends_of_shards(self) -> None:
        """A shard has its first id and its last; what is before, between and behind belongs to none."""
        routes = routes_of(layout(10, 5, first_id=100))

        found = {key: route.shard if (route := routes.find(key)) else None for key in (99, 100, 109, 110, 114, 115)}

        self.assertEqual(found, {99: None, 100: "sh1", 109: "sh1", 110: "sh2", 114: "sh2", 115: None})

    def test_no_shards(self) -> None:
        """A table without shards has room for no id."""
        routes = routes_of(layout())

        self.assertIsNone(routes.find(0))
        self.assertEqual(routes.overlapping(-5, 5), [])
        error = self.assertRaises(ApiError, routes.find_row, 0)
        self.assertEqual((error.status, error.code), (404, "no_shard"))


class Split(SynchronousTestCase):
    def test_rows_keep_their_order(self) -> None:
        """Each shard gets its rows in the order of the request."""
        routes = routes_of(layout(10, 10))

        parts = routes.split([(12, "a"), (3, "b"), (11, "c"), (1, "d")])

        self.assertEqual(
            [(route.shard, rows) for route, rows in parts],
            [("sh2", ((12, "a"), (11, "c"))), ("sh1", ((3, "b"), (1, "d")))],
        )

    def test_all_strays_are_named(self) -> None:
        """One id of no shard and nothing is split; the error has every such id."""
        routes = routes_of(layout(10))

        error = self.assertRaises(ApiError, routes.split, [(3,), (10,), (-1,), *((100 + n,) for n in range(10))])

        self.assertEqual((error.status, error.code, error.applied), (400, "no_shard", "no"))
        self.assertEqual(error.extra["ids"], [10, -1, *range(100, 110)])
        self.assertNotIn("109", error.text)


class Overlapping(SynchronousTestCase):
    @given(st.integers(-5, 45), st.integers(-5, 45))
    def test_shards_that_a_range_touches(self, one: int, other: int) -> None:
        """A range touches exactly the shards of its ids, in order."""
        low, high = sorted((one, other))
        whole = layout(10, 10, 10)
        gap = Layout("cluster", STUDENTS, (whole.shards[0], whole.shards[2]), whole.servers)
        for table in (whole, gap):
            routes = routes_of(table)
            touched = dict.fromkeys(route.shard for key in range(low, high + 1) if (route := routes.find(key)))

            self.assertEqual([route.shard for route in routes.overlapping(low, high)], list(touched))
