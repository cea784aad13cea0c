"""Plans of /add and /rm: what is named is done, the rest is even, and what does not fit is refused."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from lbnode.catalog import Catalog, CommitOperation, FinishOperation, ForgetReplicas, ReplicasJoined
from lbnode.catalog_changes import apply
from lbnode.growth import plan_add, plan_remove
from lbnode.resize import Resize
from lbnode.table import Table
from lbnode.test.test_catalog import applied, begin
from lbnode.wire import AddRequest, InitLimits, InitShard, RemoveRequest

#: The default table: four shards, three copies of each, two on each of six servers.
A_1 = {
    "sh1": ("Server0", "Server3", "Server5"),
    "sh2": ("Server0", "Server4", "Server6"),
    "sh3": ("Server1", "Server3", "Server6"),
    "sh4": ("Server1", "Server4", "Server5"),
}


def made(placement: Mapping[str, tuple[str, ...]] = A_1) -> Catalog:
    """Return a catalog with a table of shards of ten ids each."""
    shards = [(shard, 10 * place, servers) for place, (shard, servers) in enumerate(placement.items())]
    return applied(begin(*shards), CommitOperation(1), FinishOperation(1))


def table_of(catalog: Catalog) -> Table:
    """Return the table that there must be."""
    assert catalog.table is not None
    return catalog.table


def add(servers: Mapping[str, tuple[str, ...]], *shards: InitShard, replicas: int | None = None) -> AddRequest:
    """Return a request."""
    return AddRequest(servers, shards, replicas)


def planned_add(request: AddRequest, catalog: Catalog, seed: int = 1) -> Resize:
    """Return what /add is to change."""
    return plan_add(request, table_of(catalog), random.Random(seed), InitLimits(servers_max=12, shards_max=8)).change


def planned_remove(catalog: Catalog, *names: str, n: int = 0, rebalance: bool = True, seed: int = 1) -> Resize:
    """Return what /rm is to change."""
    request = RemoveRequest(n or len(names), names, rebalance)
    return plan_remove(request, table_of(catalog), random.Random(seed)).change


def carried_out(catalog: Catalog, command: Any) -> Catalog:
    """Return the catalog after an operation that went well."""
    catalog = apply(catalog, command)
    assert catalog.operation is not None
    number = catalog.operation.operation_id
    catalog = apply(catalog, CommitOperation(number))
    for shard in table_of(catalog).shards:
        catalog = apply(catalog, ReplicasJoined(shard.group_id, shard.joining))
        catalog = apply(catalog, ForgetReplicas(shard.group_id, tuple(shard.leaving)))
    return apply(catalog, FinishOperation(number))


def counts(table: Table) -> list[int]:
    """Return how many replicas each server holds."""
    return [len(table.shards_on(server)) for server in table.servers]


class AddTests(SynchronousTestCase):
    def test_named_shards(self) -> None:
        """Servers get exactly the shards that are named for them, old and new; nobody else changes."""
        change = planned_add(add({"S": ("sh2", "sh9"), "T": ("sh9",)}, InitShard(100, "sh9", 5)), made())

        self.assertEqual(change.coming, ("S", "T"))
        self.assertEqual((change.added, change.removed), ({2: ("S",)}, {}))
        self.assertEqual(
            [(one.shard, one.low, one.size, one.servers) for one in change.shards], [("sh9", 100, 5, ("S", "T"))]
        )

    def test_templates(self) -> None:
        """A template becomes an unused name with a random number."""
        change = planned_add(add({"Server[5]": ("sh1",), "Server$": ("sh2",), "Server4x": ("sh1",)}), made())

        one, two, three = change.coming
        self.assertEqual(len({one, two, three}), 3)
        self.assertTrue(one.removeprefix("Server").isdecimal() and two.removeprefix("Server").isdecimal(), change)
        self.assertEqual(change.added, {1: (one, three), 2: (two,)})

    def test_open_servers_take_over_their_share(self) -> None:
        """They get replicas of servers that hold more; the number of copies stays."""
        after = carried_out(made(), plan_add(add({"a": (), "b": ()}), table_of(made()), random.Random(1), InitLimits()))

        self.assertEqual([len(shard.replicas) for shard in table_of(after).shards], [3, 3, 3, 3])
        self.assertEqual(sorted(counts(table_of(after))), [1, 1, 1, 1, 2, 2, 2, 2])

    def test_an_open_server_never_stays_empty(self) -> None:
        """Where there is nothing to take over it gets a further copy."""
        change = planned_add(add({"C": ()}), made({"sh1": ("A", "B")}))

        self.assertEqual((change.added, change.removed), ({1: ("C",)}, {}))

    def test_new_shards_without_a_place(self) -> None:
        """An open server lets the balancer place them: three copies, where fewest replicas are."""
        change = planned_add(add({"S": ()}, InitShard(100, "sh5", 1)), made())

        (shard,) = change.shards
        self.assertEqual(len(shard.servers), 3)
        self.assertIn("S", shard.servers)

    def test_servers_that_are_down(self) -> None:
        """Neither old nor new shards are placed on them."""
        request = add({"S": ()}, InitShard(100, "sh5", 1), replicas=5)

        change = plan_add(request, table_of(made()), random.Random(1), InitLimits(), down=["Server6", "Server0"]).change

        placed = {*change.shards[0].servers, *(server for added in change.added.values() for server in added)}
        self.assertFalse(placed & {"Server6", "Server0"})
        with self.assertRaises(ApiError) as refused:
            plan_add(add({"S": ()}, replicas=7), table_of(made()), random.Random(1), InitLimits(), down=["Server6"])
        self.assertEqual((refused.exception.status, refused.exception.code), (503, "servers_down"))
        self.assertIn("Server6", refused.exception.text)

    def test_raised_copies(self) -> None:
        """The workload A-3: ten servers, six shards, eight copies of each, evenly."""
        shards = (InitShard(100, "sh5", 1), InitShard(200, "sh6", 1))
        request = add({f"New{n}": () for n in range(4)}, *shards, replicas=8)

        after = table_of(carried_out(made(), plan_add(request, table_of(made()), random.Random(1), InitLimits())))

        self.assertEqual([len(shard.replicas) for shard in after.shards], [8] * 6)
        self.assertEqual(sorted(set(counts(after))), [4, 5])
        self.assertTrue(all(set(A_1[f"sh{n}"]) <= set(after.shards[n - 1].replicas.values()) for n in (1, 2, 3, 4)))

    def test_refused(self) -> None:
        """What exists, overlaps, is not defined, or is too much is refused by name."""
        for request, code, mentioned in (
            (add({"Server0": ()}), "server_exists", "Server0"),
            (add({"S": ("sh9",)}), "unknown_shard", "sh9"),
            (add({"S": ()}, InitShard(100, "sh1", 1)), "shard_exists", "sh1"),
            (add({"S": ()}, InitShard(39, "sh9", 2)), "overlap", "sh4"),
            (add({"S": ("sh1",)}, InitShard(40, "sh9", 2)), "unplaced_shard", "sh9"),
            (add({"S": ()}, replicas=8), "too_many_replicas", "7"),
            (add({f"S{n}": () for n in range(7)}), "too_many_servers", "13"),
            (add({"S": ()}, *(InitShard(n, f"x{n}", 1) for n in range(50, 55))), "too_many_shards", "9"),
        ):
            error: ApiError = self.assertRaises(ApiError, planned_add, request, made())
            self.assertEqual((error.status, error.code), (400, code), error.text)
            self.assertIn(mentioned, error.text)


class RemoveTests(SynchronousTestCase):
    def test_copies_are_kept(self) -> None:
        """What a server held goes to others that do not hold it yet."""
        change = planned_remove(made(), "Server0")

        self.assertEqual(change.going, ("Server0",))
        self.assertEqual(change.removed.keys(), {1, 2})
        after = table_of(
            carried_out(made(), plan_remove(RemoveRequest(1, ("Server0",), True), table_of(made()), random.Random(1)))
        )
        self.assertEqual([len(shard.replicas) for shard in after.shards], [3] * 4)
        self.assertEqual(sorted(counts(after)), [2, 2, 2, 3, 3])

    def test_fewer_copies_where_there_is_no_room(self) -> None:
        """Two servers can hold two copies."""
        change = planned_remove(made({"sh1": ("A", "B", "C")}), "B")

        self.assertEqual((change.added, change.removed), ({}, {1: (2,)}))

    def test_servers_that_are_down(self) -> None:
        """Nothing is placed on them; a last copy that nobody else could take is not given up."""
        request = RemoveRequest(1, ("A",), rebalance=True)
        table = table_of(made({"sh1": ("A", "B"), "sh2": ("C", "D")}))
        small = table_of(made({"sh1": ("A",), "sh2": ("B",)}))

        change = plan_remove(request, table, random.Random(1), down=["C"]).change

        self.assertEqual(change.added, {1: ("D",)})
        error: ApiError = self.assertRaises(ApiError, plan_remove, request, small, random.Random(1), down=["B"])
        self.assertEqual((error.status, error.code), (409, "last_copy"))

    def test_without_rebalancing(self) -> None:
        """Copies are given up, but never the last one: that moves."""
        change = planned_remove(made({"sh1": ("A",), "sh2": ("A", "B")}), "A", rebalance=False)

        self.assertEqual((change.added, change.removed), ({1: ("B",)}, {1: (1,), 2: (2,)}))

    def test_the_rest_is_chosen_at_random(self) -> None:
        """Those named go for certain; who else goes depends on the generator alone."""
        chosen = {planned_remove(made(), "Server3", n=2, seed=seed).going for seed in range(30)}

        self.assertEqual({going[0] for going in chosen}, {"Server3"})
        self.assertEqual({going[1] for going in chosen}, {"Server0", "Server1", "Server4", "Server5", "Server6"})

    def test_all_of_them(self) -> None:
        """Naming them all takes the table down; leaving one to chance does not."""
        everything = tuple(table_of(made()).servers)

        self.assertEqual(planned_remove(made(), *everything), Resize(going=everything))
        error: ApiError = self.assertRaises(ApiError, planned_remove, made(), *everything[1:], n=6)
        self.assertEqual((error.status, error.code), (400, "last_servers"))

    def test_refused(self) -> None:
        """Servers that are not there, and more than there are, are refused."""
        unknown: ApiError = self.assertRaises(ApiError, planned_remove, made(), "Server0", "Nobody")
        too_many: ApiError = self.assertRaises(ApiError, planned_remove, made(), n=7)

        self.assertEqual((unknown.status, unknown.code), (400, "unknown_server"))
        self.assertIn("'Nobody'", unknown.text)
        self.assertEqual((too_many.status, too_many.code), (400, "bad_count"))


class Properties(SynchronousTestCase):
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=8), st.integers(0, 1000))
    def test_growing_and_shrinking(self, steps: list[tuple[bool, int]], seed: int) -> None:
        """However often servers come and go: no shard twice on a server, none gone, copies kept, all of it even."""
        rng = random.Random(seed)
        catalog = made()
        for grows, count in steps:
            table = table_of(catalog)
            if grows:
                request = add({f"New{n}$": () for n in range(min(count, 12 - len(table.servers)))})
                command = plan_add(request, table, rng, InitLimits()) if request.servers else None
            else:
                count = min(count, len(table.servers) - 3)
                command = plan_remove(RemoveRequest(count, (), True), table, rng) if count else None
            if command is None:
                continue
            catalog = carried_out(catalog, command)
            table = table_of(catalog)
            for shard in table.shards:
                assert len(set(shard.replicas.values())) == len(shard.replicas) >= 3
                assert set(shard.replicas.values()) <= table.servers.keys()
            assert max(counts(table)) - min(counts(table)) <= 2, counts(table)
