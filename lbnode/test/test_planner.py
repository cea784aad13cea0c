"""Placements: what a request names is kept, and what it leaves open is even."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.schema import Schema
from lbnode.catalog import Catalog, Preparing
from lbnode.catalog_changes import apply
from lbnode.planner import is_same, place, plan_init
from lbnode.table import Table
from lbnode.wire import InitRequest, InitShard

SCHEMA = Schema(("Stud_id", "Stud_name"), ("Number", "String"))


def request(
    servers: Mapping[str, tuple[str, ...]], *, shards: int = 2, replicas: int = 3, schema: Schema = SCHEMA
) -> InitRequest:
    """Return a request for shards sh1, sh2, … of ten ids each."""
    asked = tuple(InitShard(low=10 * n, shard=f"sh{n + 1}", size=10) for n in range(shards))
    return InitRequest(schema=schema, shards=asked, servers=servers, replicas=replicas, replace=False)


def table(asked: InitRequest) -> Table:
    """Return the table that the request makes."""
    operation = apply(Catalog(), plan_init(asked)).operation
    assert isinstance(operation, Preparing)
    return operation.target


def open_servers(count: int) -> dict[str, tuple[str, ...]]:
    """Return servers that name no shard."""
    return {f"Server{number}": () for number in range(count)}


class PlaceTests(SynchronousTestCase):
    def test_what_is_named_is_kept(self) -> None:
        """Servers that name their shards get these and nothing else."""
        placement = place(["sh1", "sh2"], {"A": ("sh1",), "B": ("sh2", "sh1")}, 3)

        self.assertEqual(placement, {"sh1": ("A", "B"), "sh2": ("B",)})

    def test_an_open_server_fills_what_is_missing(self) -> None:
        """A shard that is named too seldom gets its further copies from open servers."""
        placement = place(["sh1", "sh2"], {"A": ("sh1", "sh2"), "B": ("sh1",), "C": ()}, 2)

        self.assertEqual(placement, {"sh1": ("A", "B"), "sh2": ("A", "C")})

    def test_an_open_server_never_stays_empty(self) -> None:
        """Where nothing is missing an open server takes its share of further copies."""
        placement = place(["sh1", "sh2"], {"A": ("sh1", "sh2"), "B": ("sh1",), "C": ()}, 1)

        self.assertEqual(placement, {"sh1": ("A", "B"), "sh2": ("A", "C")})

    @given(st.integers(1, 12), st.integers(1, 12), st.data())
    def test_open_placements_are_even(self, shards: int, servers: int, data: st.DataObject) -> None:
        """Each shard has its copies, no two on one server, and no server holds two replicas more than another."""
        copies = data.draw(st.integers(1, servers))

        placement = place([f"sh{n}" for n in range(shards)], open_servers(servers), copies)

        assert all(len(set(on_it)) == len(on_it) == copies for on_it in placement.values())
        load = Counter(server for on_it in placement.values() for server in on_it)
        counts = [load[server] for server in open_servers(servers)]
        assert max(counts) - min(counts) <= 1

    @given(
        st.dictionaries(
            st.sampled_from("ABCDEF"), st.lists(st.sampled_from(["sh1", "sh2", "sh3"]), unique=True), min_size=1
        ),
        st.integers(1, 6),
    )
    def test_mixed_placements(self, named: dict[str, list[str]], copies: int) -> None:
        """Whatever is named stays; no server holds a shard twice; open servers make up what is missing."""
        servers = {server: tuple(shards) for server, shards in named.items()}
        open_count = sum(not shards for shards in servers.values())

        placement = place(["sh1", "sh2", "sh3"], servers, copies)

        for shard, on_it in placement.items():
            explicit = {server for server, shards in servers.items() if shard in shards}
            assert len(set(on_it)) == len(on_it)
            assert explicit <= set(on_it)
            assert all(not servers[server] for server in set(on_it) - explicit)
            assert len(on_it) >= min(copies, len(explicit) + open_count)


class IsSameTests(SynchronousTestCase):
    def test_asking_again(self) -> None:
        """The request that made a table asks for the same, however its servers were given."""
        for servers in ({"A": ("sh1",), "B": ("sh2", "sh1")}, open_servers(5), {"A": ("sh1", "sh2"), "B": ()}):
            asked = request(servers)
            self.assertTrue(is_same(asked, table(asked)), servers)

    def test_the_order_of_names_does_not_matter(self) -> None:
        """Servers and their shards are sets."""
        made = table(request({"A": ("sh1", "sh2"), "B": ("sh1",)}))

        self.assertTrue(is_same(request({"B": ("sh1",), "A": ("sh2", "sh1")}), made))

    def test_something_else(self) -> None:
        """Other columns, shards, servers, placements or numbers of copies are another configuration."""
        made = table(request(open_servers(4)))

        for other in (
            request(open_servers(4), schema=Schema(("Stud_id", "Name"), ("Number", "String"))),
            request(open_servers(4), shards=3),
            request(open_servers(5)),
            request(open_servers(4), replicas=2),
            request({**open_servers(3), "Server3": ("sh1", "sh2", "sh3")}, shards=3),
        ):
            self.assertFalse(is_same(other, made), other)

    def test_another_placement(self) -> None:
        """The same servers with other shards are another configuration."""
        made = table(request({"A": ("sh1", "sh2"), "B": ("sh1",)}))

        self.assertFalse(is_same(request({"A": ("sh1", "sh2"), "B": ("sh2",)}), made))


class PlanInitTests(SynchronousTestCase):
    def test_carries_the_whole_request(self) -> None:
        """The command holds schema, ranges, placement and the servers in their order."""
        asked = plan_init(request({"B": ("sh1", "sh2"), "A": ("sh2",)}))

        self.assertEqual((asked.columns, asked.dtypes), (SCHEMA.columns, SCHEMA.dtypes))
        self.assertEqual(asked.servers, ("B", "A"))
        self.assertEqual(
            [(s.shard, s.low, s.size, s.servers) for s in asked.shards],
            [
                ("sh1", 0, 10, ("B",)),
                ("sh2", 10, 10, ("B", "A")),
            ],
        )
