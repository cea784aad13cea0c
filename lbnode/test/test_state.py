"""The cluster's state, put together from the catalog and from what servers say."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import ReplicaStatus
from lbnode.leaders import Handover, handovers, leader_of
from lbnode.state import ClusterState, ServerState, describe
from lbnode.test.test_catalog import applied
from lbnode.test.test_projection import made

LEADER = ReplicaStatus(1, 1, "leader", 3, 1, "B", 2000, 2000, 2000, 7)
FOLLOWER = ReplicaStatus(1, 2, "follower", 3, 1, "B", 2000, 2000, 1990, 7)
OTHER_LEADER = ReplicaStatus(2, 4, "leader", 2, 4, "B", 5, 5, 5, 0)
OTHER_FOLLOWER = ReplicaStatus(2, 3, "follower", 2, 4, "B", 5, 5, 5, 0)


def described(*statuses: ReplicaStatus) -> ClusterState:
    """Return the state of the catalog's table when servers say this."""
    return describe(made(), {"A": ServerState("A", "up", home="A")}, {"B": statuses}, {1: 5.0})


class DescribeTests(SynchronousTestCase):
    def test_before_init(self) -> None:
        """There is nothing, and it is not ready."""
        state = describe(applied(), {}, {}, {})

        self.assertEqual((state.shards, state.servers, state.ready), ((), (), False))

    def test_leader_and_follower(self) -> None:
        """The primary is who leads; a follower's lag is what it has not applied."""
        state = described(LEADER, FOLLOWER, OTHER_LEADER)

        shard = state.shards[0]
        self.assertEqual([shard.primary, state.shards[1].primary], ["B", "B"])
        self.assertEqual(
            [(r.server, r.role, r.lag, r.state) for r in shard.replicas],
            [
                ("B", "leader", 0, "serving"),
                ("C", "follower", 10, "serving"),
            ],
        )
        self.assertEqual([replica.for_seconds for replica in shard.replicas], [5.0, 0.0])
        self.assertTrue(state.ready)

    def test_a_replica_that_says_nothing_is_down(self) -> None:
        """Its figures are unknown, not zero."""
        replica = described(LEADER).shards[0].replicas[1]

        self.assertEqual((replica.state, replica.term, replica.lag), ("down", None, None))

    def test_states_of_replicas(self) -> None:
        """Far behind, or without a leader, a replica is catching up; a learner is called so."""
        behind = msgspec.structs.replace(FOLLOWER, applied_index=3)
        learner = msgspec.structs.replace(FOLLOWER, role="learner")

        self.assertEqual(described(LEADER, behind).shards[0].replicas[1].state, "catching up")
        self.assertEqual(described(FOLLOWER).shards[0].replicas[1].state, "catching up")
        self.assertEqual(described(LEADER, learner).shards[0].replicas[1].state, "learner")

    def test_not_ready_while_a_shard_has_no_leader(self) -> None:
        """One shard is enough."""
        state = described(LEADER, FOLLOWER)

        self.assertIsNone(state.shards[1].primary)
        self.assertFalse(state.ready)

    def test_servers_in_the_catalog_order(self) -> None:
        """All servers of the table are there, those not looked at yet as starting."""
        self.assertEqual(
            [(s.name, s.state) for s in described().servers],
            [
                ("A", "up"),
                ("B", "starting"),
                ("C", "starting"),
            ],
        )


class HandoverTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Take the shards of a table: sh1 on B and C, sh2 on A and B."""
        table = made().table
        assert table is not None
        self.shards = table.shards

    def wanted(self, *statuses: ReplicaStatus) -> list[Handover]:
        """Return the handovers when the replicas say this."""
        return handovers(self.shards, {status.replica_id: status for status in statuses})

    def test_one_of_two_leaders_moves(self) -> None:
        """B leads both shards; one of them goes to the server that could lead it as well."""
        wanted = self.wanted(LEADER, FOLLOWER, OTHER_LEADER, OTHER_FOLLOWER)

        self.assertEqual(len(wanted), 1)
        self.assertIn(wanted[0], (Handover(1, "B", 2), Handover(2, "B", 3)))

    def test_nobody_hands_over_to_who_cannot_lead(self) -> None:
        """A replica that is away, far behind or a learner is left out."""
        for unfit in (
            (),
            (msgspec.structs.replace(FOLLOWER, last_index=1000),),
            (msgspec.structs.replace(FOLLOWER, role="learner"),),
        ):
            self.assertEqual(self.wanted(LEADER, *unfit, OTHER_LEADER), [], unfit)

    def test_the_leader_is_who_leads_in_the_highest_term(self) -> None:
        """A deposed leader may still believe in itself."""
        newer = msgspec.structs.replace(FOLLOWER, role="leader", term=4)

        self.assertEqual(leader_of(self.shards[0], {1: LEADER, 2: newer}), newer)
        self.assertIsNone(leader_of(self.shards[0], {2: FOLLOWER}))
