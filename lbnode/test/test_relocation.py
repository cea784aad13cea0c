"""Which replicas are made anew, and where."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import ReplicaStatus
from lbnode.catalog import MoveReplica
from lbnode.relocation import led_groups, moves
from lbnode.table import ShardRecord, Table

TABLE = Table(
    ("id",),
    ("Number",),
    (
        ShardRecord(1, "sh1", 0, 10, {1: "A", 2: "B", 3: "C"}),
        ShardRecord(2, "sh2", 10, 10, {4: "A", 5: "B", 6: "D"}),
    ),
    {},
)


def leader(group_id: int, replica_id: int) -> ReplicaStatus:
    """Return what a leader says of itself."""
    return ReplicaStatus(group_id, replica_id, "leader", 1, replica_id, "", 1, 1, 1, 0)


def lost(group_id: int, replica_id: int) -> ReplicaStatus:
    """Return what is said of a lost replica."""
    return ReplicaStatus(group_id, replica_id, "lost", 0, 0, "", 0, 0, 0, 0, reason="gone")


LED = {1: leader(1, 1), 4: leader(2, 4)}


class MovesTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        """Nothing moves."""
        self.assertEqual(moves(TABLE, LED, "ABCD", ()), [])

    def test_lost_replicas_are_made_anew_where_they_are(self) -> None:
        """The server is well, its replica is not."""
        self.assertEqual(moves(TABLE, {**LED, 2: lost(1, 2)}, "ABCD", ()), [MoveReplica(1, 2, "B", lost=True)])

    def test_a_failed_server_is_replaced_by_the_idlest(self) -> None:
        """Never by one that has a replica of the shard; what was just given to a server counts."""
        self.assertEqual(moves(TABLE, LED, "ACDE", "B"), [MoveReplica(1, 2, "E"), MoveReplica(2, 5, "C")])

    def test_no_room(self) -> None:
        """Where every server that is well has a replica the shard stays as it is."""
        self.assertEqual(moves(TABLE, LED, "AC", "B"), [MoveReplica(2, 5, "C")])

    def test_only_with_a_leader(self) -> None:
        """Without a majority all that there is may be needed as it is."""
        known = {4: LED[4], 2: lost(1, 2)}

        self.assertEqual(moves(TABLE, known, "ABCDE", "B"), [MoveReplica(2, 5, "E")])
        self.assertEqual(led_groups(TABLE, known), {2})
