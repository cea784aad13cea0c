"""Replicas that come and go in the catalog: new ids, new homes, and what becomes of the old ones."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lbnode.catalog import (
    Catalog,
    Command,
    CommitOperation,
    FinishOperation,
    ForgetReplicas,
    MoveReplica,
    Preparing,
    RecordServer,
    ReplaceHome,
    ReplicasJoined,
)
from lbnode.catalog_changes import Refused, apply
from lbnode.projection import config_of, layout_of
from lbnode.table import ShardRecord, Table
from lbnode.test.test_catalog import ONE, SEEN, applied, begin

#: Replica ids: sh1 has 1 on B and 2 on C, sh2 has 3 on A and 4 on B; sh3, on D alone, has 5.
MADE = applied(begin(*[(p.shard, p.low, p.servers) for p in ONE.shards], ("sh3", 20, ("D",))), CommitOperation(1))
SETTLED = applied(FinishOperation(1), SEEN, to=MADE)


def table_of(catalog: Catalog) -> Table:
    """Return the table."""
    assert catalog.table is not None
    return catalog.table


def shards_of(catalog: Catalog) -> tuple[ShardRecord, ...]:
    """Return the shards in order."""
    return table_of(catalog).shards


class ReplaceHomeTests(SynchronousTestCase):
    def test_every_replica_gets_a_new_id(self) -> None:
        """The old ids are on their way out with nobody to hold them; the new ones do not count yet."""
        sh1, sh2, sh3 = shards_of(applied(ReplaceHome("B"), to=SETTLED))

        self.assertEqual((sh1.replicas, sh1.leaving, sh1.joining), ({2: "C", 6: "B"}, {1: ""}, (6,)))
        self.assertEqual((sh2.replicas, sh2.leaving, sh2.joining), ({3: "A", 7: "B"}, {4: ""}, (7,)))
        self.assertEqual(sh3, shards_of(SETTLED)[2])

    def test_the_server_begins_anew(self) -> None:
        """It keeps its name and nothing else; its old home is nobody's any more."""
        server = table_of(applied(ReplaceHome("A"), to=SETTLED)).servers["A"]

        self.assertEqual((server.home, server.incarnation, server.link), ("A@2", "", None))

    def test_repeated_it_is_refused(self) -> None:
        """Asking again for what was done does not replace the new home."""
        once = applied(ReplaceHome("A"), to=SETTLED)

        self.assertEqual(self.assertRaises(Refused, apply, once, ReplaceHome("A")).code, "conflict")

    def test_what_an_operation_is_making_follows(self) -> None:
        """An operation that keeps the server does not bring back its old home."""
        target = msgspec.structs.replace(table_of(SETTLED), dtypes=("Number", "Text"))
        operation = Preparing(2, "add", target)
        preparing = msgspec.structs.replace(SETTLED, operation=operation)

        replaced = apply(preparing, ReplaceHome("B"))
        made = apply(replaced, CommitOperation(operation.operation_id))

        self.assertEqual(shards_of(made), shards_of(replaced))
        self.assertEqual(table_of(made).servers["B"].home, "B@2")

    def test_a_leaver_on_the_server_is_gone_too(self) -> None:
        """A replica that was to move away, and whose data is lost before it did, is held by nobody."""
        moved = applied(MoveReplica(1, 1, "A"), ReplaceHome("B"), to=SETTLED)

        self.assertEqual(shards_of(moved)[0].leaving, {1: ""})


class MoveReplicaTests(SynchronousTestCase):
    def test_the_old_one_serves_until_it_is_forgotten(self) -> None:
        """Both servers hold a replica meanwhile, and only the old one counts."""
        moving = applied(MoveReplica(1, 2, "A"), to=SETTLED)
        sh1 = shards_of(moving)[0]

        self.assertEqual(sh1.directory, {1: "B", 2: "C", 6: "A"})
        self.assertEqual(sh1.counting, {1: "B", 2: "C"})
        self.assertEqual([shard.shard for shard in table_of(moving).shards_on("C")], ["sh1"])

    def test_joining_and_forgetting_settle_it(self) -> None:
        """Once the new one counts and the old one is out, nothing is left of the move."""
        done = applied(MoveReplica(1, 2, "A"), ReplicasJoined(1, (6,)), ForgetReplicas(1, (2,)), to=SETTLED)
        sh1 = shards_of(done)[0]

        self.assertTrue(sh1.settled)
        self.assertEqual(sh1.counting, {1: "B", 6: "A"})
        self.assertEqual(table_of(done).shards_on("C"), [])

    def test_a_lost_replica_gets_a_new_id_on_its_server(self) -> None:
        """Only what is lost may be replaced where it was: a server holds one replica of a shard."""
        sh1 = shards_of(applied(MoveReplica(1, 2, "C", lost=True), to=SETTLED))[0]

        self.assertEqual((sh1.directory, sh1.leaving), ({1: "B", 6: "C"}, {2: ""}))

    def test_refusals(self) -> None:
        """What cannot be is refused and changes nothing."""
        leaving = applied(MoveReplica(1, 2, "A"), to=SETTLED)
        for catalog, command in (
            (SETTLED, MoveReplica(9, 1, "A")),
            (SETTLED, MoveReplica(1, 9, "A")),
            (SETTLED, MoveReplica(1, 1, "Z")),
            (SETTLED, MoveReplica(1, 1, "C")),
            (SETTLED, MoveReplica(1, 1, "B")),
            (leaving, MoveReplica(1, 2, "D")),
            (leaving, MoveReplica(1, 1, "C")),
            (Catalog(), MoveReplica(1, 1, "A")),
        ):
            self.assertEqual(self.assertRaises(Refused, apply, catalog, command).code, "conflict", command)


class ProjectionTests(SynchronousTestCase):
    def test_a_group_always_begins_with_its_founders(self) -> None:
        """Whoever joins later is told the first voters, though none of them may be left."""
        catalog = applied(
            MoveReplica(1, 1, "A"),
            ReplicasJoined(1, (6,)),
            ForgetReplicas(1, (1,)),
            MoveReplica(1, 2, "D"),
            to=SETTLED,
        )
        config = config_of(catalog, table_of(catalog), table_of(catalog).servers["D"])

        group = next(group for group in config.groups if group.shard == "sh1")
        self.assertEqual((group.voters, group.replicas), ([1, 2], {"2": "C", "6": "A", "7": "D"}))

    def test_nobody_is_sent_to_a_replica_that_joins(self) -> None:
        """The router learns of a replica when it counts."""
        layout = layout_of(applied(MoveReplica(1, 2, "A"), to=SETTLED))

        assert layout is not None
        self.assertEqual(layout.shards[0].replicas, {1: "B", 2: "C"})

    def test_an_older_catalog_is_read(self) -> None:
        """Its replicas are the founders: membership never changed before there was a word for it."""
        old = msgspec.json.decode(b'{"group_id":1,"shard":"a","low":0,"size":9,"replicas":{"4":"A","3":"B"}}')

        shard = msgspec.convert(old, ShardRecord, strict=False)

        self.assertEqual((shard.founders, shard.settled), ((3, 4), True))


GROUPS = st.integers(1, 3)
REPLICAS = st.integers(1, 12)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(ReplaceHome, st.sampled_from(["A", "B", "C", "D", "B@2", "C@3"])),
    st.builds(MoveReplica, GROUPS, REPLICAS, st.sampled_from("ABCD"), st.booleans()),
    st.builds(ReplicasJoined, GROUPS, st.tuples(REPLICAS)),
    st.builds(ForgetReplicas, GROUPS, st.tuples(REPLICAS)),
    st.builds(RecordServer, st.sampled_from(["A", "B@2"]), st.just("i"), st.just(SEEN.http), st.just(SEEN.link)),
)


class PropertyTests(SynchronousTestCase):
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
    @given(st.lists(COMMANDS, max_size=12))
    def test_ids_and_servers(self, commands: list[Command]) -> None:
        """Whatever happens, no id is used twice, no server holds two replicas of a shard, and none is forgotten."""
        catalog, used = SETTLED, {id_ for shard in shards_of(SETTLED) for id_ in shard.replicas}
        for command in commands:
            before = catalog
            try:
                catalog = apply(catalog, command)
            except Refused:
                continue
            for was, shard in zip(shards_of(before), shards_of(catalog), strict=True):
                new = shard.replicas.keys() - was.replicas.keys()
                self.assertFalse(new & used)
                used |= new
                self.assertEqual(len(shard.replicas), len(was.replicas))
                self.assertEqual(len(set(shard.directory.values())), len(shard.directory))
                self.assertLessEqual(set(shard.joining), shard.replicas.keys())
                self.assertEqual(shard.founders, was.founders)
                if not isinstance(command, ForgetReplicas):
                    self.assertLessEqual({*was.replicas, *was.leaving}, {*shard.replicas, *shard.leaving})
