"""The catalog as a group of one: what was proposed is there after a restart, whatever the process did meanwhile."""

from __future__ import annotations

from pathlib import Path

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lbnode.catalog import AbandonOperation, BeginInit, Catalog
from lbnode.catalog_changes import Refused
from lbnode.catalog_machine import CatalogMachine
from lbnode.durable_file import replace_file
from lbnode.resize import PlannedShard
from lbnode.test.balancers import BalancerCatalog, Disk, run
from raftlog.errors import LostData
from raftlog.messages import Entry, EntryType
from raftlog.wal import MemoryWal

BEGIN = BeginInit(("Stud_id",), ("Number",), (PlannedShard("sh1", 0, 10, ("A",)),), ("A",))


class CatalogGroupTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a disk and a clock."""
        self.clock = Clock()
        self.disk = Disk(Path(self.mktemp()))

    def opened(self) -> BalancerCatalog:
        """Return a catalog opened on the disk."""
        catalog = BalancerCatalog(self.clock, self.disk)
        run(self.clock, catalog.group.open("c1", 10.0))
        return catalog

    def test_a_new_catalog_is_founded(self) -> None:
        """The first start gives the cluster its id; another start keeps it."""
        self.assertEqual(self.opened().group.catalog.cluster_id, "c1")

        self.disk.crash()
        again = BalancerCatalog(self.clock, self.disk)
        run(self.clock, again.group.open("c2", 10.0))

        self.assertEqual(again.group.catalog.cluster_id, "c1")

    def test_what_was_proposed_survives_a_crash(self) -> None:
        """The catalog after a restart is the one that was acknowledged."""
        catalog = self.opened().group
        acknowledged = run(self.clock, catalog.propose(BEGIN))

        self.disk.crash()

        self.assertEqual(self.opened().group.catalog, acknowledged)

    def test_what_is_in_the_log_only_is_applied_again(self) -> None:
        """A crash between log and state file loses nothing."""
        catalog = self.opened().group
        before = self.disk.path.read_bytes()
        acknowledged = run(self.clock, catalog.propose(BEGIN))

        self.disk.crash()
        replace_file(self.disk.path, before)

        self.assertEqual(self.opened().group.catalog, acknowledged)

    def test_a_refused_command_is_an_error_of_its_proposer_only(self) -> None:
        """A command that does not fit raises Refused and changes nothing."""
        catalog = self.opened().group
        before = catalog.catalog

        self.assertRaises(Refused, run, self.clock, catalog.propose(AbandonOperation(5)))

        self.assertEqual(catalog.catalog, before)
        self.assertEqual(run(self.clock, catalog.propose(BEGIN)).version, before.version + 1)

    def test_who_watches_hears_of_changes(self) -> None:
        """Each new catalog is announced once; what changes nothing is not."""
        catalog = self.opened()
        heard: list[Catalog] = []
        catalog.machine.watch(heard.append)

        after = run(self.clock, catalog.group.propose(BEGIN))
        self.assertRaises(Refused, run, self.clock, catalog.group.propose(BEGIN))

        self.assertEqual(heard, [after])

    def test_a_lost_log_is_noticed(self) -> None:
        """State without its log would answer from a past that nobody can vouch for."""
        self.opened()
        self.disk.wal, self.disk.recovered = MemoryWal(auto=True), {}

        self.assertRaises(LostData, self.opened)

    def test_a_damaged_state_file_is_noticed(self) -> None:
        """A file that cannot be read is not taken for an empty catalog."""
        self.opened()
        content = self.disk.path.read_bytes()

        for damaged in (content[:-20], b'{"\xff', b"[" * 100_000):
            self.disk.path.write_bytes(damaged)

            error = self.assertRaises(msgspec.DecodeError, self.opened)
            self.assertIn(str(self.disk.path), str(error))

    def test_a_change_of_membership_changes_no_catalog(self) -> None:
        """Entries of the group itself only move the applied index."""
        machine = self.opened().machine
        before, index = machine.catalog, machine.applied_index

        machine.apply((Entry(1, index + 1, b"\x90", EntryType.CONF_CHANGE_V2),))

        self.assertEqual((machine.catalog, machine.applied_index), (before, index + 1))

    def test_a_copy_for_another_balancer(self) -> None:
        """What is exported is, imported elsewhere, the same catalog at the same index, and stays there."""
        catalog = self.opened()
        run(self.clock, catalog.group.propose(BEGIN))
        other = Disk(Path(self.mktemp()))
        machine = BalancerCatalog(self.clock, other).machine
        heard: list[Catalog] = []
        machine.watch(heard.append)

        run(self.clock, copied(catalog.machine, machine))

        again = BalancerCatalog(self.clock, other).machine
        for copy in (machine, again):
            self.assertEqual(
                (copy.catalog, copy.applied_index), (catalog.machine.catalog, catalog.machine.applied_index)
            )
        self.assertEqual(heard, [machine.catalog])

    def test_the_log_may_be_cut_behind_what_is_applied(self) -> None:
        """Everything applied is durable at once."""
        machine = self.opened().machine

        self.assertEqual(self.successResultOf(machine.make_durable()), machine.applied_index)


async def copied(source: CatalogMachine, target: CatalogMachine) -> None:
    """Carry a copy from one machine to another."""
    export, into = await source.export(1 << 20), target.begin_import()
    while (chunk := await export.next_chunk()) is not None:
        await into.write(chunk)
    await export.close()
    await into.finish()


class ReplaceFileTests(SynchronousTestCase):
    def test_leaves_nothing_else(self) -> None:
        """The new content is in the file, and no other file is left beside it."""
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, b"old")

        replace_file(path, b"new")

        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual([p.name for p in path.parent.iterdir() if p.name.startswith(path.name)], [path.name])
