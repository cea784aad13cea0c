"""Who the balancers are, and how their group's membership follows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lbnode.catalog import AdmitBalancer, Catalog, Command, FoundCluster, HoldOffice, RestoreCatalog, TakeOffice
from lbnode.catalog_changes import Refused, apply
from lbnode.voters import BalancerRecord, Office, first_voters, founders, next_change
from raftlog.messages import ConfChangeType, ConfState
from raftlog.status import GroupStatus

INCARNATIONS = {"c": "ic", "a": "ia", "b": "ib"}
ADD, PROMOTE, REMOVE = ConfChangeType.ADD_LEARNER, ConfChangeType.ADD_VOTER, ConfChangeType.REMOVE


def applied(*commands: Command) -> Catalog:
    """Return the catalog of three balancers after some commands."""
    catalog = apply(Catalog(), FoundCluster("c1", founders(INCARNATIONS)))
    for command in commands:
        catalog = apply(catalog, command)
    return catalog


def status(conf_state: ConfState, **matched: int) -> GroupStatus:
    """Return what the leader, replica 1, says of a group whose log has 100 entries."""
    known = {int(name.removeprefix("r")): index for name, index in matched.items()}
    return GroupStatus(0, 1, "leader", 3, 1, 100, 100, 100, conf_state, known)


def steps(conf_state: ConfState, *wanted: int, **matched: int) -> list[tuple[ConfChangeType, int]] | None:
    """Return the next change, None if there is none."""
    change = next_change(wanted, status(conf_state, **matched))
    return [(step.type, step.replica_id) for step in change.changes] if change is not None else None


class BalancersTests(SynchronousTestCase):
    def test_founders(self) -> None:
        """Every balancer comes to the same replica ids by itself."""
        self.assertEqual(
            {name: record.replica_id for name, record in founders(INCARNATIONS).items()}, {"a": 1, "b": 2, "c": 3}
        )
        self.assertEqual(first_voters("abc"), (1, 2, 3))

    def test_one_that_comes_back_gets_a_new_id(self) -> None:
        """The id of a data directory that is gone is never given again; asking twice is asking once."""
        catalog = applied(AdmitBalancer("b", "new"), AdmitBalancer("b", "new"), AdmitBalancer("a", "newer"))

        self.assertEqual(catalog.balancers["b"], BalancerRecord(4, "new"))
        self.assertEqual(catalog.balancers["a"], BalancerRecord(5, "newer"))
        self.assertEqual(applied(AdmitBalancer("b", "ib")), applied())

    def test_a_stranger_is_refused(self) -> None:
        """Nobody becomes a balancer by saying so."""
        self.assertRaises(Refused, applied, AdmitBalancer("d", "id"))

    def test_the_office_is_held_until_somebody_takes_it(self) -> None:
        """Whoever took over before somebody else did may act no more, were it the same balancer."""
        catalog = applied(TakeOffice("a", "http://a"), HoldOffice(1), TakeOffice("a", "http://a"))

        self.assertEqual(catalog.office, Office(2, "a", "http://a"))
        self.assertEqual(apply(catalog, HoldOffice(2)), catalog)
        self.assertRaises(Refused, apply, catalog, HoldOffice(1))
        self.assertRaises(Refused, applied, HoldOffice(1))

    def test_a_rebuilt_catalog_has_the_balancers_of_today(self) -> None:
        """Servers remember the table; who the balancers are is known by those that rebuild it."""
        remembered = Catalog("c1", version=7, next_replica_id=1000)

        catalog = apply(Catalog(), RestoreCatalog(remembered, founders(INCARNATIONS)))

        self.assertEqual(
            (catalog.next_replica_id, set(catalog.balancers), catalog.next_balancer_id), (1000, set("abc"), 4)
        )


class MembersTests(SynchronousTestCase):
    def test_as_it_should_be(self) -> None:
        """Nothing is changed without need."""
        self.assertIsNone(steps(ConfState((1, 2, 3)), 1, 2, 3))

    def test_a_new_replica_is_a_learner_first(self) -> None:
        """It does not count before it has caught up (RAFT_RULES 31)."""
        self.assertEqual(steps(ConfState((1, 2, 3)), 1, 2, 4), [(ADD, 4)])
        self.assertIsNone(steps(ConfState((1, 2, 3), (4,)), 1, 2, 4, r4=50))

    def test_it_takes_the_old_ones_place_in_one_change(self) -> None:
        """There are never four voters of which one is dead."""
        self.assertEqual(steps(ConfState((1, 2, 3), (4,)), 1, 2, 4, r4=100), [(PROMOTE, 4), (REMOVE, 3)])

    def test_one_change_at_a_time(self) -> None:
        """A joint configuration is left before anything else begins, and the leader never removes itself."""
        self.assertIsNone(steps(ConfState((1, 2, 4), (), (1, 2, 3)), 1, 2, 4))
        self.assertEqual(steps(ConfState((1, 2, 3), (4,)), 2, 3, 4, r4=100), [(PROMOTE, 4)])

    def test_a_learner_that_nobody_wants_goes(self) -> None:
        """A balancer that was lost a second time before it had caught up leaves no trace."""
        self.assertEqual(steps(ConfState((1, 2, 3), (4,)), 1, 2, 5, r4=100), [(REMOVE, 4)])
