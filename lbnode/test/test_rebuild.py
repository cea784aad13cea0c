"""A catalog put together from what servers in memory, and in directories, remember of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client.home import Home
from dbnode.datadir import ServerIdentity, StoredConfig
from lbnode.catalog import Catalog, ReplaceHome
from lbnode.catalog_changes import apply
from lbnode.datadir import DataDirectory, DirectoryUnusable
from lbnode.projection import config_of, schema_of
from lbnode.rebuild import homes_below, rebuild
from lbnode.test.balancers import Balancer, Disk, pass_time, run
from lbnode.test.test_catalog_replicas import SETTLED, table_of
from lbnode.test.test_controller import ONE, ControllerTestCase

SECRET = b"5ec3e7" * 8


def home(catalog: Catalog, server: str, *, cluster_id: str = "c1", secret: bytes = SECRET) -> Home:
    """Return the home of a server that was told of a catalog."""
    table = table_of(catalog)
    record = table.servers[server]
    return Home(server, record.incarnation, cluster_id, config_of(catalog, table, record), secret)


class RebuildTests(SynchronousTestCase):
    def test_the_newest_copy_is_taken(self) -> None:
        """Servers that were down know less than others."""
        newer = apply(SETTLED, ReplaceHome("C"))

        rebuilt = rebuild({"A": home(SETTLED, "A"), "B": home(newer, "B"), "D": home(SETTLED, "D")})

        self.assertEqual(rebuilt.catalog.table, newer.table)
        self.assertEqual((rebuilt.catalog.cluster_id, rebuilt.secret), ("c1", SECRET))

    def test_no_number_is_used_again(self) -> None:
        """What was handed out after the copy was made is skipped, and servers take the new versions for newer."""
        rebuilt = rebuild({"A": home(SETTLED, "A")}).catalog
        later = SETTLED
        for _ in range(20):
            later = apply(later, ReplaceHome(table_of(later).servers["B"].home))

        self.assertGreater(rebuilt.next_replica_id, later.next_replica_id)
        self.assertGreater(rebuilt.version, later.version)
        self.assertNotIn(table_of(apply(rebuilt, ReplaceHome("B"))).servers["B"].home, later.servers())

    def test_what_cannot_be_rebuilt(self) -> None:
        """Servers of two clusters, or none that remembers a table."""
        known = home(SETTLED, "A")
        for found, word in (
            ({}, "no server"),
            ({"A": known, "B": home(SETTLED, "B", cluster_id="c2")}, "different clusters"),
            ({"A": known, "B": home(SETTLED, "B", secret=b"t")}, "different secrets"),
        ):
            self.assertIn(word, str(self.assertRaises(DirectoryUnusable, rebuild, found)))


class DirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a directory with a server's home and without a catalog."""
        self.data = DataDirectory(Path(self.mktemp()))
        self.found = home(SETTLED, "A")
        directory = self.data.servers / "A"
        directory.mkdir(parents=True)
        identity = ServerIdentity("A", self.found.incarnation, "c1")
        config = StoredConfig(schema_of(table_of(SETTLED)).to_json(), self.found.cluster)
        for name, value in (("identity.json", identity), ("config.json", config)):
            (directory / name).write_bytes(msgspec.json.encode(value))
        (directory / "secret").write_bytes(SECRET + b"\n")
        (self.data.servers / "empty").mkdir()

    def test_homes_are_read(self) -> None:
        """A home is what its files say; one that never was told anything is passed over."""
        self.assertEqual(homes_below(self.data.servers), {"A": self.found})

    def test_a_lost_catalog_is_rebuilt_on_request_only(self) -> None:
        """By itself a balancer begins no new catalog over servers that belong to one."""
        error = self.assertRaises(DirectoryUnusable, self.data.open)
        self.assertIn("--rebuild", str(error))

        self.data.open(rebuild=True)
        self.data.keep_rebuilt(SETTLED, SECRET)
        self.data.close()

        self.data.open()
        self.assertEqual((self.data.cluster_id("new"), self.data.secret("new")), ("c1", SECRET))
        self.assertEqual(self.data.rebuilt(), SETTLED)
        self.data.forget_rebuilt()
        self.assertIsNone(self.data.rebuilt())
        self.data.close()

    def test_a_catalog_that_is_there_is_kept(self) -> None:
        """Rebuilding would lose what the servers do not know."""
        self.data.catalog.mkdir()
        (self.data.catalog / "state.json").write_bytes(b"{}")

        error = self.assertRaises(DirectoryUnusable, self.data.open, rebuild=True)

        self.assertIn("is there", str(error))

    def test_damage_is_named(self) -> None:
        """A file that cannot be read ends it: half of the servers would be a guess."""
        (self.data.servers / "A" / "config.json").write_bytes(b"{")

        self.assertRaises(DirectoryUnusable, homes_below, self.data.servers)


class ClusterTests(ControllerTestCase):
    def test_servers_are_taken_up_again(self) -> None:
        """A balancer without its disk finds table, replicas and leaders as they were, and can go on from there."""
        first = self.balancer()
        run(self.clock, first.controller.init(ONE))
        pass_time(self.clock, until=lambda: False, seconds_max=3)
        found = {}
        for name, server in self.launcher.running.items():
            identity, config = server.host.identity, server.host.config
            assert config is not None
            found[name] = Home(identity.name, identity.incarnation, identity.cluster_id, config.cluster, SECRET)
        first.kill()
        self.disk = Disk(Path(self.mktemp()))

        second = Balancer(self.clock, self.disk, self.launcher, restored=rebuild(found).catalog)
        second.open()
        self.until_ready(second)
        self.launcher.kill("B")
        self.launcher.wipe("B")
        pass_time(self.clock, until=lambda: "B" not in self.launcher.homes and self.settled(second), seconds_max=60)

        self.assertEqual(set(table_of(second.catalog.catalog).servers), {"A", "B", "C"})
        self.assertGreater(max(table_of(second.catalog.catalog).shards[0].replicas), 1000)
        self.assertTrue(self.state(second).ready)

    def settled(self, balancer: Balancer) -> bool:
        """Tell whether no replica comes or goes, and one was replaced."""
        shards = table_of(balancer.catalog.catalog).shards
        return all(shard.settled for shard in shards) and max(shards[0].replicas) > 1000
