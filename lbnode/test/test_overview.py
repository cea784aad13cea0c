"""The cluster as clients are told of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from lbnode import overview
from lbnode.state import ClusterState, ReplicaState, ServerState, ShardState

LEADER = ReplicaState(1, "a", "serving", "leader", 3, lag=0)
STATE = ClusterState(
    cluster_id="c1",
    version=7,
    columns=("city", "name"),
    dtypes=("Number", "String"),
    shards=(
        ShardState(
            "sh1", 1, 0, 10, "a", (ReplicaState(1, "a", "serving", "leader", 3, lag=0), ReplicaState(2, "b", "down"))
        ),
        ShardState("sh2", 2, 10, 5, None, (ReplicaState(3, "b", "down"),)),
    ),
    servers=(ServerState("a", "up"), ServerState("b", "down", reason="exited"), ServerState("c", "up")),
)


class Overview(SynchronousTestCase):
    def test_status(self) -> None:
        """The configuration stands in the words of /init, with the key column's own name, and details beside it."""
        status = overview.status(STATE)

        self.assertEqual(status["N"], 3)
        self.assertEqual(status["servers"], {"a": ["sh1"], "b": ["sh1", "sh2"], "c": []})
        self.assertEqual(
            [
                (shard["city_low"], shard["Shard_id"], shard["Shard_size"], shard["primary"])
                for shard in status["shards"]
            ],
            [(0, "sh1", 10, "a"), (10, "sh2", 5, None)],
        )
        leader = status["shards"][0]["replicas"][0]
        self.assertEqual((leader["server"], leader["role"], leader["term"], leader["lag"]), ("a", "leader", 3, 0))
        self.assertEqual(status["server_states"]["b"]["reason"], "exited")

    def test_primaries(self) -> None:
        """A shard that nobody leads has null."""
        self.assertEqual(overview.primaries(STATE), {"sh1": "a", "sh2": None, "status": "success"})

    def test_servers(self) -> None:
        """All servers are named, those that are down as well."""
        self.assertEqual(overview.servers(STATE)["message"], {"N": 3, "replicas": ["a", "b", "c"]})

    def test_readiness(self) -> None:
        """Not ready while a shard has no leader; the error says which."""
        error = self.assertRaises(ApiError, overview.readiness, STATE)

        self.assertEqual((error.status, error.code, error.extra), (503, "not_ready", {"shards": ["sh2"]}))
        whole = ClusterState("c1", 7, shards=STATE.shards[:1], servers=STATE.servers)
        self.assertEqual(overview.readiness(whole), {"status": "success"})
