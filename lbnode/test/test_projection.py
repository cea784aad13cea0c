"""What the router and the servers are told of the catalog."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import Endpoint, GroupConfig
from lbnode.catalog import BeginResize, Catalog, CommitOperation, FinishOperation, ForgetReplicas, RecordServer
from lbnode.catalog_changes import apply
from lbnode.first_steps import first_steps
from lbnode.projection import config_of, layout_of
from lbnode.resize import Resize
from lbnode.test.test_catalog import ONE, applied


def made() -> Catalog:
    """Return a catalog whose table has two shards on servers A, B and C, of which A and B were seen."""
    seen = [RecordServer(name, f"i{name}", Endpoint(name, 1), Endpoint(name, 2)) for name in "AB"]
    return applied(ONE, *seen, CommitOperation(1))


class LayoutTests(SynchronousTestCase):
    def test_without_a_table(self) -> None:
        """There is nothing to route to before /init, nor while it is being prepared."""
        self.assertIsNone(layout_of(applied()))
        self.assertIsNone(layout_of(applied(ONE)))

    def test_with_a_table(self) -> None:
        """Shards are in order, and the servers are those whose addresses are known."""
        layout = layout_of(made())

        assert layout is not None
        self.assertEqual([(s.shard, s.low, s.high) for s in layout.shards], [("sh1", 0, 9), ("sh2", 10, 19)])
        self.assertEqual(layout.shards[0].replicas, {1: "B", 2: "C"})
        self.assertEqual(set(layout.servers), {"A", "B"})
        self.assertEqual(layout.servers["A"].link, Endpoint("A", 2))
        self.assertEqual(layout.schema.key, "Stud_id")

    def test_while_it_shrinks(self) -> None:
        """A server that goes can be reached, but is not to be read from, until its last replica has left."""
        going = BeginResize("rm", Resize(going=("A",), added={2: ("C",)}, removed={2: (3,)}))
        catalog = applied(FinishOperation(1), going, CommitOperation(2), to=made())

        before, after = layout_of(catalog), layout_of(applied(ForgetReplicas(2, (3,)), to=catalog))

        assert before is not None
        assert after is not None
        self.assertEqual((before.shards[1].replicas, before.shards[1].readers), ({4: "B", 3: "A"}, ("B",)))
        self.assertEqual((set(before.servers), set(after.servers)), ({"A", "B"}, {"B"}))
        self.assertEqual(after.shards[1].replicas, {4: "B"})


class ConfigTests(SynchronousTestCase):
    def test_a_server_is_told_its_own_part(self) -> None:
        """It learns its groups with all their replicas, its incarnation, and where the others are."""
        catalog = made()
        assert catalog.table is not None

        config = config_of(catalog, catalog.table, catalog.table.servers["A"])

        self.assertEqual((config.cluster_id, config.version, config.server), ("c1", catalog.version, "A"))
        self.assertEqual(config.incarnation, "iA")
        self.assertEqual(config.groups, [GroupConfig(2, "sh2", {"3": "A", "4": "B"}, [3, 4])])
        self.assertEqual(config.servers, {"A": Endpoint("A", 2), "B": Endpoint("B", 2)})

    def test_nothing_changes_without_a_change(self) -> None:
        """The same catalog gives the same configuration, so that a server need not be told twice."""
        catalog = made()
        assert catalog.table is not None
        again = apply(catalog, RecordServer("A", "iA", Endpoint("A", 1), Endpoint("A", 2)))
        assert again.table is not None

        for one in "AB":
            self.assertEqual(
                config_of(catalog, catalog.table, catalog.table.servers[one]),
                config_of(again, again.table, again.table.servers[one]),
            )


class FirstStepsTests(SynchronousTestCase):
    def test_with_a_table(self) -> None:
        """The commands use the table's own columns and ids."""
        lines = "\n".join(first_steps("http://127.0.0.1:5000", made().table))

        self.assertIn("""/write -d '{"data":[{"Stud_id":0,"Stud_name":"a Stud_name"}]}'""", lines)
        self.assertIn("""/read -d '{"Stud_id":{"low":0,"high":9}}'""", lines)
        self.assertIn("""/del -d '{"Stud_id":0}'""", lines)

    def test_without_a_table(self) -> None:
        """It is said how to make one."""
        self.assertIn("POST /init", "\n".join(first_steps("http://127.0.0.1:5000", None)))
