"""What a server holds: which configurations it takes, and what it does when its disk contradicts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.schema import Schema
from dbnode.test.server_rig import ServerRig, managed, row
from dbnode.wire import Endpoint, GroupConfig
from raftlog.link import Lane

ALONE = GroupConfig(1, "sh1", {"10": "Server0"}, [10])
SECOND = GroupConfig(2, "sh2", {"20": "Server0"}, [20])


class HostTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start a managed server that holds nothing yet."""
        self.rig = ServerRig()
        self.server = self.rig.start("Server0")

    def configure(self, groups: list[GroupConfig], version: int = 1, **changes: Any) -> Any:
        """Configure the server; return status and code."""
        cluster = msgspec.structs.replace(managed("Server0", groups, version), **changes)
        reply = self.server.configure(cluster)
        return reply.status, reply.json.get("code", reply.json.get("message"))

    def test_configuration_creates_replicas(self) -> None:
        """The shards named serve at once; saying the same again, or more, is fine."""
        self.assertEqual(self.configure([ALONE]), (200, "Server0:sh1 configured"))
        self.assertEqual(self.configure([ALONE]), (200, "Server0:sh1 configured"))
        self.assertEqual(self.configure([ALONE, SECOND], 2), (200, "Server0:sh1, Server0:sh2 configured"))

        for shard in ("sh1", "sh2"):
            self.assertEqual(self.server.ask("POST", "/write", {"shard": shard, "data": [row(1)]}).status, 200)

    def test_foreign_configurations_are_refused(self) -> None:
        """Another cluster's, another server's and another incarnation's configuration changes nothing."""
        self.assertEqual(self.configure([ALONE], cluster_id="other"), (409, "foreign_cluster"))
        self.assertEqual(self.configure([ALONE], server="Server1"), (409, "wrong_server"))
        self.assertEqual(self.configure([ALONE], incarnation="older"), (409, "wrong_incarnation"))
        self.assertIsNone(self.server.disk.config)
        self.assertEqual(self.configure([ALONE], incarnation="incarnation-of-Server0")[0], 200)

    def test_older_configuration_is_refused(self) -> None:
        """What was replaced does not come back, however late it arrives."""
        self.configure([ALONE, SECOND], 5)

        self.assertEqual(self.configure([ALONE], 4), (409, "stale_config"))
        self.assertEqual(len(self.server.database.serving.statuses()), 2)

    def test_schema_cannot_change_under_a_group(self) -> None:
        """A group that stays keeps its schema; a new table comes with new groups."""
        other = Schema(("id", "name"), ("Number", "String"))
        self.configure([ALONE])

        refused = self.server.configure(managed("Server0", [ALONE], 2), other)
        replaced = self.server.configure(managed("Server0", [SECOND], 3), other)

        self.assertEqual((refused.status, refused.code), (409, "other_schema"))
        self.assertEqual(replaced.status, 200)

    def test_group_without_a_replica_here_is_refused(self) -> None:
        """A configuration that lists somebody else's group is a mistake, and nothing of it is done."""
        elsewhere = GroupConfig(2, "sh2", {"20": "Server1"}, [20])

        self.assertEqual(self.configure([ALONE, elsewhere]), (400, "bad_config"))
        self.assertEqual(self.server.database.serving.statuses(), [])

    def test_directory_follows_the_configuration(self) -> None:
        """Servers that are listed are dialled, those that are no longer listed are not."""
        peer = self.rig.start("Server1")
        links = self.server.database.links
        assert links is not None

        self.configure([ALONE])
        self.rig.run(0.1)
        self.assertTrue(links.connected("Server1", Lane.DATA))
        self.configure([ALONE], 2, servers={"Server0": Endpoint("memory", 1)})
        self.rig.run(0.1)

        self.assertFalse(links.connected("Server1", Lane.DATA))
        self.assertEqual(peer.failures, [])

    def test_replica_with_a_new_id_replaces_the_old_one(self) -> None:
        """The same shard under a new replica id begins empty: its rows come from the others."""
        self.configure([ALONE])
        self.server.ask("POST", "/write", {"shard": "sh1", "data": [row(1)]})

        renewed = self.configure([GroupConfig(1, "sh1", {"11": "Server0"}, [11])], 2)

        self.assertEqual(renewed[0], 200)
        self.assertEqual(self.server.rows(1), [])


class DiskTests(SynchronousTestCase):
    """A server whose disk is not what its configuration says."""

    def setUp(self) -> None:
        """Kill a server that held two shards with a row each."""
        self.rig = ServerRig()
        server = self.rig.start("Server0")
        server.configure(managed("Server0", [ALONE, SECOND]))
        for shard in ("sh1", "sh2"):
            server.ask("POST", "/write", {"shard": shard, "data": [row(1)]})
        server.kill()
        self.disk = server.disk

    def restart(self) -> None:
        """Start the server again on its disk."""
        self.server = self.rig.start("Server0", disk=self.disk)

    def held(self) -> list[str]:
        """Return the shards that take part."""
        return [replica.shard for replica in self.server.database.serving.replicas.values()]

    def test_restart_needs_no_balancer(self) -> None:
        """All that a server must know to take part again is on its disk."""
        self.restart()

        self.assertEqual(self.held(), ["sh1", "sh2"])
        self.rig.leader(1)
        self.assertEqual(self.server.ask("GET", "/copy", {"shards": ["sh1"]}).json["sh1"], [row(1)])

    def test_lost_log_quarantines_its_replicas(self) -> None:
        """A replica whose log is gone may have voted: it never takes part again, and says so when told to."""
        self.disk.lose_log()
        self.restart()
        reply = self.server.configure(managed("Server0", [ALONE, SECOND]))

        self.assertEqual(self.held(), [])
        self.assertEqual((reply.status, reply.code, reply.json["shards"]), (409, "lost_replica", ["sh1", "sh2"]))
        self.assertEqual(len(self.server.ask("GET", "/healthz").json["quarantined"]), 2)

    def test_lost_replica_is_replaced_under_a_new_id(self) -> None:
        """A quarantined replica makes room when the configuration gives the shard a new one."""
        self.disk.lose_log()
        self.restart()

        renewed = GroupConfig(1, "sh1", {"11": "Server0"}, [11])
        reply = self.server.configure(managed("Server0", [renewed], 2))

        self.assertEqual((reply.status, self.held()), (200, ["sh1"]))
        self.assertEqual(self.server.rows(1), [])

    def test_store_without_a_log_is_quarantined_too(self) -> None:
        """Rows that no log vouches for are not taken for an empty replica."""
        self.disk.lose_log()
        self.disk.config = None
        self.restart()

        reply = self.server.configure(managed("Server0", [ALONE]))

        self.assertEqual((reply.status, reply.code), (409, "lost_replica"))
        self.assertIn("applied entry", reply.json["message"])

    def test_configuration_that_was_not_kept_is_completed(self) -> None:
        """A crash between creating replicas and keeping the configuration leaves what the same one completes."""
        self.disk.config = None
        self.restart()
        self.assertEqual(self.held(), [])

        reply = self.server.configure(managed("Server0", [ALONE, SECOND]))

        self.assertEqual((reply.status, self.held()), (200, ["sh1", "sh2"]))
        self.rig.leader(2)
        self.assertEqual(self.server.rows(2), [(1, "x", 1)])

    def test_removal_that_was_not_kept_is_completed(self) -> None:
        """A replica that was destroyed just before a crash stays destroyed, although the configuration lists it."""
        self.restart()
        kept = self.disk.config
        self.server.configure(managed("Server0", [SECOND], 2))
        self.server.kill()
        self.disk.config = kept

        self.restart()

        self.assertEqual(self.held(), ["sh2"])
        self.assertEqual(self.disk.stores[1].scan(0, 9, 0, 0).rows, [])

    def test_log_shorter_than_the_store_is_quarantined(self) -> None:
        """A store that has applied more than the log holds means that acknowledged entries are gone."""
        found = self.disk.recovered[1]
        self.disk.recovered[1] = replace(found, entries=found.entries[:1])
        self.restart()

        self.assertEqual(self.held(), ["sh2"])
        self.assertIn("its log ends at 1", self.server.database.host.quarantined[1])
