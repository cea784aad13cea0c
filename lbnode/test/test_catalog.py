"""The catalog as a value: what each command makes of it, and which commands it refuses."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import Endpoint
from lbnode.catalog import (
    AbandonOperation,
    BeginInit,
    Catalog,
    Command,
    CommitOperation,
    Finishing,
    FinishOperation,
    FoundCluster,
    Preparing,
    RecordServer,
)
from lbnode.catalog_changes import Refused, apply
from lbnode.resize import PlannedShard
from lbnode.table import Table

COLUMNS = ("Stud_id", "Stud_name")
DTYPES = ("Number", "String")


def begin(*shards: tuple[str, int, tuple[str, ...]], replace: bool = False) -> BeginInit:
    """Return a command for shards of ten ids each on the servers given."""
    planned = tuple(PlannedShard(name, low, 10, servers) for name, low, servers in shards)
    servers = tuple(dict.fromkeys(server for _, _, on_it in shards for server in on_it))
    return BeginInit(COLUMNS, DTYPES, planned, servers, replace)


def applied(*commands: Command, to: Catalog | None = None) -> Catalog:
    """Return the catalog after commands."""
    catalog = to or apply(Catalog(), FoundCluster("c1"))
    for command in commands:
        catalog = apply(catalog, command)
    return catalog


def target_of(catalog: Catalog) -> Table:
    """Return what the operation in progress will make."""
    assert isinstance(catalog.operation, Preparing)
    return catalog.operation.target


ONE = begin(("sh2", 10, ("A", "B")), ("sh1", 0, ("B", "C")))
SEEN = RecordServer("A", "i1", Endpoint("h", 1), Endpoint("h", 2))


class InitTests(SynchronousTestCase):
    def test_begin_plans_and_changes_nothing_yet(self) -> None:
        """Ids are handed out in order of the shards' ranges; the table is not there before the commit point."""
        catalog = applied(ONE)

        self.assertIsNone(catalog.table)
        first, second = target_of(catalog).shards
        self.assertEqual((first.shard, first.group_id, first.replicas), ("sh1", 1, {1: "B", 2: "C"}))
        self.assertEqual((second.shard, second.group_id, second.replicas), ("sh2", 2, {3: "A", 4: "B"}))
        self.assertEqual(list(target_of(catalog).servers), ["A", "B", "C"])

    def test_commit_makes_the_target_the_table(self) -> None:
        """After the commit point the table is there, and finishing leaves no operation behind."""
        prepared = applied(ONE, SEEN)

        committed = applied(CommitOperation(1), to=prepared)
        finished = applied(FinishOperation(1), to=committed)

        self.assertEqual(committed.table, target_of(prepared))
        self.assertEqual(committed.operation, Finishing(1, "init", ()))
        self.assertIsNone(finished.operation)

    def test_abandon_leaves_the_table_as_it_was(self) -> None:
        """A rolled back operation is forgotten, but its ids are never handed out again."""
        catalog = applied(ONE, AbandonOperation(1), ONE)

        self.assertIsNone(catalog.table)
        self.assertEqual([shard.group_id for shard in target_of(catalog).shards], [3, 4])
        self.assertEqual(min(min(shard.replicas) for shard in target_of(catalog).shards), 5)

    def test_replace_gives_new_homes_and_takes_the_old_servers_down(self) -> None:
        """Servers of the same name live beside each other until the commit; then the old ones are to leave."""
        before = applied(ONE, CommitOperation(1), FinishOperation(1))
        assert before.table is not None

        preparing = applied(begin(("sh1", 0, ("A", "D")), replace=True), to=before)
        committed = applied(CommitOperation(2), to=preparing)

        self.assertEqual(preparing.table, before.table)
        self.assertEqual([s.home for s in target_of(preparing).servers.values()], ["A@2", "D"])
        self.assertEqual(committed.operation, Finishing(2, "init", tuple(before.table.servers.values())))
        self.assertEqual(set(committed.servers()), {"A@2", "D", "A", "B", "C"})

    def test_homes_differ_even_from_names_that_look_like_homes(self) -> None:
        """A server may be called what another's home would be."""
        before = applied(begin(("sh1", 0, ("A",))), CommitOperation(1), FinishOperation(1))

        after = applied(begin(("sh1", 0, ("A@2", "A")), replace=True), to=before)

        self.assertEqual([s.home for s in target_of(after).servers.values()], ["A@2", "A@2.1"])

    def test_a_server_is_recorded_where_it_lives(self) -> None:
        """What a running server says of itself is kept for its home, before and after the commit point."""
        moved = RecordServer("A", "i1", Endpoint("h", 3), Endpoint("h", 4))

        prepared = applied(ONE, SEEN)
        after = applied(CommitOperation(1), moved, to=prepared)

        self.assertEqual(target_of(prepared).servers["A"].http, Endpoint("h", 1))
        assert after.table is not None
        self.assertEqual(after.table.servers["A"].link, Endpoint("h", 4))
        self.assertEqual(after.table.servers["B"].incarnation, "")


class RefusalTests(SynchronousTestCase):
    def assertRefuses(self, catalog: Catalog, command: Command, code: str) -> None:
        """Check that the command is refused with a code."""
        self.assertEqual(self.assertRaises(Refused, apply, catalog, command).code, code)

    def test_a_second_operation_has_to_wait(self) -> None:
        """Operations exclude each other before and after their commit point."""
        self.assertRefuses(applied(ONE), ONE, "busy")
        self.assertRefuses(applied(ONE, CommitOperation(1)), ONE, "busy")

    def test_a_table_is_replaced_only_on_request(self) -> None:
        """A second /init does not drop a table by accident."""
        self.assertRefuses(applied(ONE, CommitOperation(1), FinishOperation(1)), ONE, "already_initialised")

    def test_steps_of_another_operation_or_phase(self) -> None:
        """A step that comes late, or from somebody who missed something, changes nothing."""
        preparing = applied(ONE)
        finishing = applied(CommitOperation(1), to=preparing)

        self.assertRefuses(preparing, CommitOperation(2), "conflict")
        self.assertRefuses(preparing, FinishOperation(1), "conflict")
        self.assertRefuses(finishing, CommitOperation(1), "conflict")
        self.assertRefuses(finishing, AbandonOperation(1), "conflict")

    def test_a_cluster_is_founded_once(self) -> None:
        """The cluster's id never changes."""
        self.assertRefuses(applied(), FoundCluster("other"), "conflict")


class VersionTests(SynchronousTestCase):
    def test_grows_with_every_change_and_only_then(self) -> None:
        """Servers can tell newer from older; what changes nothing is not newer."""
        first = applied(ONE, SEEN)

        self.assertEqual(first.version, 3)
        self.assertEqual(apply(first, SEEN), first)


COMMANDS = st.one_of(
    st.just(ONE),
    st.just(begin(("sh1", 0, ("A",)), replace=True)),
    st.just(SEEN),
    st.builds(CommitOperation, st.integers(1, 4)),
    st.builds(AbandonOperation, st.integers(1, 4)),
    st.builds(FinishOperation, st.integers(1, 4)),
)


class PropertyTests(SynchronousTestCase):
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
    @given(st.lists(COMMANDS, max_size=25))
    def test_whatever_happens(self, commands: list[Command]) -> None:
        """No id and no home is used twice, versions grow, and a catalog survives being written down."""
        catalog = apply(Catalog(), FoundCluster("c1"))
        groups: set[int] = set()
        for command in commands:
            before = catalog
            try:
                catalog = apply(before, command)
            except Refused:
                continue
            if isinstance(command, BeginInit):
                target = target_of(catalog)
                assert groups.isdisjoint(shard.group_id for shard in target.shards)
                groups.update(shard.group_id for shard in target.shards)
                assert set(before.servers()).isdisjoint(server.home for server in target.servers.values())
            assert catalog.version == before.version + (catalog != before)
        assert msgspec.json.decode(msgspec.json.encode(catalog), type=Catalog) == catalog
