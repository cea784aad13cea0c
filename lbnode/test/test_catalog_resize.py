"""/add and /rm as records in the catalog: what begins, what there is on the way, and what is left to do afterwards."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import Endpoint
from lbnode.catalog import (
    AbandonOperation,
    BeginResize,
    Catalog,
    CommitOperation,
    Finishing,
    FinishOperation,
    ForgetReplicas,
    MoveReplica,
    RecordServer,
    ReplaceHome,
    ReplicasJoined,
)
from lbnode.catalog_changes import Refused, apply
from lbnode.resize import PlannedShard, Resize
from lbnode.table import Table
from lbnode.test.test_catalog import applied, begin

#: Groups 1 (replicas 1: A, 2: B) and 2 (3: B, 4: C).
MADE = applied(begin(("sh1", 0, ("A", "B")), ("sh2", 10, ("B", "C"))), CommitOperation(1), FinishOperation(1))
ADD = BeginResize("add", Resize(("D",), (), (PlannedShard("sh3", 20, 5, ("D", "A")),), {1: ("D",)}))
REMOVE = BeginResize("rm", Resize((), ("A",), (), {1: ("C",)}, {1: (1,)}))
SEEN_D = RecordServer("D", "i1", Endpoint("h", 1), Endpoint("h", 2))


def hosted(catalog: Catalog) -> Table:
    """Return what the servers are told."""
    assert catalog.hosted is not None
    return catalog.hosted


class AddTests(SynchronousTestCase):
    def test_begin_changes_nothing_but_what_is_hosted(self) -> None:
        """The table stays; its servers and the new ones are told of new groups, and of replicas that join."""
        catalog = applied(ADD, to=MADE)

        self.assertEqual(catalog.table, MADE.table)
        one, two, three = hosted(catalog).shards
        self.assertEqual((one.replicas, one.joining, one.founders), ({1: "A", 2: "B", 5: "D"}, (5,), (1, 2)))
        self.assertEqual((two.replicas, two.joining), ({3: "B", 4: "C"}, ()))
        self.assertEqual((three.group_id, three.replicas, three.joining), (3, {6: "D", 7: "A"}, ()))
        self.assertEqual(set(hosted(catalog).servers), set("ABCD"))
        self.assertEqual(catalog.in_transit, (5,))

    def test_commit(self) -> None:
        """Then the new shards and servers belong to the table; replicas are in transit until they have joined."""
        committed = applied(ADD, SEEN_D, CommitOperation(2), to=MADE)
        joined = applied(ReplicasJoined(1, (5,)), to=committed)

        assert committed.table is not None
        self.assertEqual([shard.shard for shard in committed.table.shards], ["sh1", "sh2", "sh3"])
        self.assertEqual(committed.table.servers["D"].incarnation, "i1")
        self.assertEqual((committed.in_transit, joined.in_transit), ((5,), ()))
        self.assertEqual(committed.operation, Finishing(2, "add", (), (5,)))

    def test_abandon(self) -> None:
        """The table and what is hosted are as before; numbers are not used again."""
        catalog = applied(ADD, AbandonOperation(2), to=MADE)

        self.assertEqual((catalog.table, catalog.hosted), (MADE.table, MADE.table))
        self.assertEqual((catalog.next_group_id, catalog.next_replica_id), (4, 8))

    def test_a_disk_lost_meanwhile(self) -> None:
        """A server that begins anew does so in the table and in what it becomes."""
        catalog = applied(ADD, ReplaceHome("B"), CommitOperation(2), to=MADE)

        assert catalog.table is not None
        one, two, _ = catalog.table.shards
        self.assertEqual((one.replicas, one.leaving), ({1: "A", 5: "D", 8: "B"}, {2: ""}))
        self.assertEqual((two.replicas, two.leaving), ({4: "C", 9: "B"}, {3: ""}))


class RemoveTests(SynchronousTestCase):
    def test_on_the_way(self) -> None:
        """The successor joins before the commit; after it the server stays until its replica has left its group."""
        preparing = applied(REMOVE, to=MADE)
        committed = applied(CommitOperation(2), to=preparing)
        left = applied(ReplicasJoined(1, (5,)), ForgetReplicas(1, (1,)), to=committed)

        self.assertEqual(hosted(preparing).shards[0].replicas, {1: "A", 2: "B", 5: "C"})
        self.assertEqual(preparing.staying, {"B", "C"})
        assert committed.table is not None
        self.assertEqual(set(committed.table.servers), {"B", "C"})
        self.assertEqual(
            (committed.table.shards[0].replicas, committed.table.shards[0].leaving), ({2: "B", 5: "C"}, {1: "A"})
        )
        self.assertEqual(set(hosted(committed).servers), {"A", "B", "C"})
        self.assertEqual((committed.in_transit, left.in_transit), ((1, 5), ()))
        self.assertEqual(set(hosted(left).servers), {"B", "C"})
        self.assertEqual(set(left.servers()), {"A", "B", "C"})

    def test_a_leaving_server_that_moved(self) -> None:
        """Its new address is known as long as it is needed."""
        seen = RecordServer("A", "i2", Endpoint("h", 3), Endpoint("h", 4))

        catalog = applied(REMOVE, CommitOperation(2), seen, to=MADE)

        self.assertEqual(hosted(catalog).servers["A"].link, Endpoint("h", 4))

    def test_all_servers(self) -> None:
        """Taking all of them away is committed at once; then there is no table, and the servers are still to go."""
        everything = BeginResize("rm", Resize(going=("A", "B", "C"), removed={1: (1, 2), 2: (3, 4)}))

        catalog = applied(everything, to=MADE)

        self.assertIsNone(catalog.table)
        assert isinstance(catalog.operation, Finishing)
        self.assertEqual([server.name for server in catalog.operation.leaving], ["A", "B", "C"])
        again = applied(FinishOperation(2), begin(("x", 0, ("A",))), to=catalog)
        self.assertEqual(set(again.servers()), {"A"})


class RefusedTests(SynchronousTestCase):
    def assertRefuses(self, catalog: Catalog, command: BeginResize | MoveReplica, code: str) -> None:
        """Check that a command is refused with a code."""
        refused: Refused = self.assertRaises(Refused, apply, catalog, command)
        self.assertEqual(refused.code, code)

    def test_one_at_a_time(self) -> None:
        """While an operation is in progress no other begins, and none before there is a table."""
        self.assertRefuses(applied(ADD, to=MADE), REMOVE, "busy")
        self.assertRefuses(applied(REMOVE, CommitOperation(2), to=MADE), ADD, "busy")
        self.assertRefuses(applied(), ADD, "not_initialised")

    def test_a_table_that_has_changed(self) -> None:
        """What was planned for another table does not begin."""
        for change in (
            Resize(coming=("A",)),
            Resize(going=("D",)),
            Resize(added={1: ("B",)}),
            Resize(added={1: ("D",)}),
            Resize(removed={1: (3,)}),
            Resize(going=("C",), added={1: ("C",)}),
            Resize(shards=(PlannedShard("sh1", 90, 1, ("A",)),)),
            Resize(shards=(PlannedShard("sh9", 90, 1, ("D",)),)),
        ):
            self.assertRefuses(MADE, BeginResize("add", change), "conflict")

    def test_no_replica_moves_where_one_is_on_its_way(self) -> None:
        """Never two of a shard on one server, and none to a server that is about to go."""
        self.assertRefuses(applied(REMOVE, to=MADE), MoveReplica(1, 2, "C"), "conflict")
        self.assertRefuses(applied(REMOVE, to=MADE), MoveReplica(2, 3, "A"), "conflict")
