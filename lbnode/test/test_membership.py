"""The next step towards the wanted replicas: in examples, and from any state that can be reached."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.wire import ReplicaStatus
from lbnode.catalog import ForgetReplicas, ReplicasJoined
from lbnode.leaders import Handover
from lbnode.membership import Change, Step, Waiting, is_filled, next_step
from lbnode.table import ShardRecord
from raftlog.confchange import Changer, restore
from raftlog.messages import ConfChangeType, ConfChangeV2, ConfState
from raftlog.progress import Inflights

LAST_INDEX = 1000
ADD, PROMOTE, REMOVE = ConfChangeType.ADD_LEARNER, ConfChangeType.ADD_VOTER, ConfChangeType.REMOVE


class World:
    """A group as seen from above: its configuration, and which replicas exist, live, and have caught up."""

    def __init__(self, shard: ShardRecord) -> None:
        self.shard = shard
        self.conf = ConfState(voters=tuple(sorted(shard.replicas)))
        self.exists = set(shard.replicas)
        self.dead: set[str] = set()
        self.caught_up = set(shard.replicas)
        self.prefer = 0
        self.held: set[int] = set()

    def lives(self, replica_id: int) -> bool:
        """Tell whether a replica runs."""
        server = self.shard.directory.get(replica_id)
        return replica_id in self.exists and server is not None and server not in self.dead

    def has_quorum(self) -> bool:
        """Tell whether the living are a majority, of both halves if there are two."""
        halves = [half for half in (self.conf.voters, self.conf.voters_outgoing) if half]
        return all(2 * sum(map(self.lives, half)) > len(half) for half in halves)

    @property
    def leader(self) -> int:
        """The replica that leads, 0 if none can."""
        able = [id_ for id_ in self.conf.voters if self.lives(id_) and id_ in self.caught_up]
        if not able or not self.has_quorum():
            return 0
        return self.prefer if self.prefer in able else able[0]

    def known(self) -> dict[int, ReplicaStatus]:
        """Return what the living say."""
        leader, members = self.leader, {*self.conf.voters, *self.conf.learners, *self.conf.voters_outgoing}
        found = {}
        for id_ in filter(self.lives, self.shard.directory):
            follows = leader if id_ in members else 0
            last = LAST_INDEX if id_ in self.caught_up else 0
            status = ReplicaStatus(1, id_, "follower", 1 if follows else 0, follows, "", last, last, last, 0)
            if id_ == leader:
                matched = {other: LAST_INDEX if other in self.caught_up else 0 for other in members}
                status = msgspec.structs.replace(status, role="leader", conf_state=self.conf, matched=matched)
            found[id_] = status
        return found

    def step(self) -> Step | None:
        """Do what is to be done next, and return it."""
        step = next_step(self.shard, self.known(), self.held)
        if isinstance(step, Change):
            self.conf = self._changed(step.change)
        elif isinstance(step, Handover):
            self.prefer = step.replica_id
        elif isinstance(step, ReplicasJoined):
            self.shard = self.shard.with_joined(step.replica_ids)
        elif isinstance(step, ForgetReplicas):
            self.shard = self.shard.with_forgotten(step.replica_ids)
        elif self.conf.voters_outgoing and self.leader:
            self.conf = self._changed(ConfChangeV2())
        return step

    def _changed(self, change: ConfChangeV2) -> ConfState:
        tracker = restore(self.conf, LAST_INDEX, _window)
        return Changer(tracker, LAST_INDEX, _window).change(change).membership.conf_state()

    def want(self, replica_id: int, server: str) -> None:
        """Want a new replica, which its server makes at once."""
        self.shard = self.shard.with_replicas({replica_id: server})
        self.exists.add(replica_id)

    def lose(self, server: str, new_id: int) -> None:
        """Let a server lose its data, and want its replica under a new id."""
        gone = [id_ for id_, on_server in self.shard.directory.items() if on_server == server]
        self.exists -= set(gone)
        wanted = [id_ for id_ in gone if id_ in self.shard.replicas]
        self.shard = self.shard.without_replicas(wanted, lost=True)
        leaving = {id_: "" if id_ in gone else on for id_, on in self.shard.leaving.items()}
        self.shard = msgspec.structs.replace(self.shard, leaving=leaving)
        if wanted:
            self.want(new_id, server)

    def move(self, replica_id: int, server: str, new_id: int) -> None:
        """Want a replica elsewhere."""
        if replica_id in self.shard.replicas and server not in self.shard.directory.values():
            self.shard = self.shard.without_replicas([replica_id], lost=False)
            self.want(new_id, server)


def _window() -> Inflights:
    return Inflights(1)


def three() -> World:
    """Return a group of the replicas 1, 2 and 3 on the servers A, B and C."""
    return World(ShardRecord(1, "sh1", 0, 10, {1: "A", 2: "B", 3: "C"}))


def changes(step: Step | None) -> list[tuple[ConfChangeType, int]]:
    """Return what a step changes."""
    assert isinstance(step, Change), step
    return [(change.type, change.replica_id) for change in step.change.changes]


class ExampleTests(SynchronousTestCase):
    def test_nothing_to_do(self) -> None:
        """A group that is as it should be is left alone, also while a server is down."""
        world = three()
        self.assertIsNone(world.step())

        world.dead.add("B")

        self.assertIsNone(world.step())

    def test_lost_disk(self) -> None:
        """The new replica learns, then it is promoted and the old one removed in one change, then the books follow."""
        world = three()
        world.lose("B", 4)

        added, waiting = world.step(), world.step()
        world.caught_up.add(4)
        exchanged, left = world.step(), world.step()

        self.assertEqual(changes(added), [(ADD, 4)])
        assert isinstance(waiting, Waiting)
        self.assertIn("1000 entries behind", waiting.why)
        self.assertEqual(changes(exchanged), [(PROMOTE, 4), (REMOVE, 2)])
        self.assertEqual(left, ReplicasJoined(1, (4,)))
        self.assertIsInstance(world.step(), Waiting)
        self.assertEqual(world.step(), ForgetReplicas(1, (2,)))
        self.assertIsNone(world.step())
        self.assertEqual(world.conf, ConfState(voters=(1, 3, 4)))

    def test_leader_that_leaves(self) -> None:
        """It hands over before it is removed."""
        world = three()
        world.move(1, "D", 4)
        world.step()
        world.caught_up.add(4)

        handover, exchanged = world.step(), world.step()

        self.assertEqual(handover, Handover(1, "A", 2))
        self.assertEqual(changes(exchanged), [(PROMOTE, 4), (REMOVE, 1)])

    def test_only_replica_moves(self) -> None:
        """A leader without any other voter hands over to its successor once that votes."""
        world = World(ShardRecord(1, "sh1", 0, 10, {1: "A"}))
        world.move(1, "D", 4)
        world.step()
        world.caught_up.add(4)

        steps = [world.step() for _ in range(4)]

        self.assertEqual(changes(steps[0]), [(PROMOTE, 4)])
        self.assertEqual(steps[1:3], [ReplicasJoined(1, (4,)), Handover(1, "A", 4)])
        self.assertEqual(changes(steps[3]), [(REMOVE, 1)])

    def test_held(self) -> None:
        """A replica that is held learns and catches up, and is promoted only when it is held no longer."""
        world = three()
        world.want(4, "D")
        world.held = {4}

        added, waiting = world.step(), world.step()
        filled = [is_filled(world.shard, world.known(), [4])]
        world.caught_up.add(4)
        ready = world.step()
        filled.append(is_filled(world.shard, world.known(), [4]))
        world.held.clear()

        self.assertEqual(changes(added), [(ADD, 4)])
        self.assertIsInstance(waiting, Waiting)
        self.assertIsNone(ready)
        self.assertEqual(filled, [False, True])
        self.assertEqual(changes(world.step()), [(PROMOTE, 4)])

    def test_replica_that_does_not_exist_yet(self) -> None:
        """What no server has made is not made a member."""
        world = three()
        world.lose("B", 4)
        world.exists.discard(4)

        self.assertEqual(world.step(), Waiting("replica 4 must come up"))

    def test_stranger_is_removed(self) -> None:
        """A member that the catalog does not know, left by a change that came late, goes."""
        world = three()
        world.conf = ConfState(voters=(1, 2, 3), learners=(9,))

        self.assertEqual(changes(world.step()), [(REMOVE, 9)])

    def test_leaver_stays_while_it_is_needed(self) -> None:
        """Nobody is removed if too few of the others live."""
        world = World(ShardRecord(1, "sh1", 0, 10, dict(zip(range(1, 6), "ABCDE", strict=True))))
        world.shard = world.shard.without_replicas([3], lost=False)
        world.dead |= {"D", "E"}

        step = world.step()
        world.dead.discard("E")

        assert isinstance(step, Waiting)
        self.assertIn("replicas 4, 5 must come back", step.why)
        self.assertEqual(changes(world.step()), [(REMOVE, 3)])

    def test_majority_lost(self) -> None:
        """Two of three disks gone: nothing is done, however often it is looked."""
        world = three()
        world.lose("A", 4)
        world.lose("B", 5)

        steps = [world.step() for _ in range(5)]

        self.assertEqual(steps, [Waiting("nobody leads the shard")] * 5)
        self.assertEqual(world.conf, ConfState(voters=(1, 2, 3)))


SERVERS = st.sampled_from("ABCDE")
EVENTS = st.lists(
    st.one_of(
        st.just(("step",)),
        st.tuples(st.just("kill"), SERVERS),
        st.tuples(st.just("revive"), SERVERS),
        st.tuples(st.just("lose"), SERVERS),
        st.tuples(st.just("move"), st.integers(1, 12), SERVERS),
        st.tuples(st.just("drop"), st.integers(1, 12)),
        st.tuples(st.just("catch up"), st.integers(1, 12)),
        st.tuples(st.just("prefer"), st.integers(1, 12)),
    ),
    max_size=40,
)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
    @given(st.integers(1, 5), EVENTS)
    def test_any_history(self, copies: int, events: Iterable[tuple[object, ...]]) -> None:
        """No step of ours costs the living their majority, and once all are well the group is what is wanted."""
        world = World(ShardRecord(1, "sh1", 0, 10, dict(zip(range(1, copies + 1), "ABCDE", strict=False))))
        for number, event in enumerate(events, start=20):
            self.happen(world, event, number)
        world.dead.clear()
        world.caught_up |= world.exists
        if not world.leader:
            self.assertFalse(any(isinstance(world.step(), Change) for _ in range(10)))
            return

        for _ in range(60):
            world.caught_up |= world.exists
            self.step(world)

        self.assertIsNone(next_step(world.shard, world.known()))
        self.assertEqual(world.conf, ConfState(voters=tuple(sorted(world.shard.replicas))))
        self.assertTrue(world.shard.settled)

    def step(self, world: World) -> None:
        """Take a step, and check what it leaves."""
        had_quorum, voters = world.has_quorum(), world.conf.voters
        step = world.step()
        if isinstance(step, Change):
            self.assertTrue(had_quorum)
            self.assertTrue(world.has_quorum(), step)
            self.assertGreaterEqual(len(world.conf.voters), min(len(voters), len(world.shard.replicas)))
            for kind, replica_id in changes(step):
                if kind is PROMOTE:
                    self.assertTrue(world.lives(replica_id) and replica_id in world.caught_up)
                self.assertTrue(kind is not REMOVE or replica_id not in world.shard.replicas)

    def happen(self, world: World, event: tuple[object, ...], number: int) -> None:
        """Let something happen."""
        match event:
            case ("step",):
                self.step(world)
            case ("kill", str(server)):
                world.dead.add(server)
            case ("revive", str(server)):
                world.dead.discard(server)
            case ("lose", str(server)):
                world.lose(server, number)
            case ("move", int(place), str(server)):
                world.move(_pick(world.shard.replicas, place), server, number)
            case ("drop", int(place)) if len(world.shard.replicas) > 1:
                world.shard = world.shard.without_replicas([_pick(world.shard.replicas, place)], lost=False)
            case ("catch up", int(place)):
                world.caught_up.add(_pick(world.shard.directory, place))
            case ("prefer", int(place)):
                world.prefer = _pick(world.shard.directory, place)


def _pick(replicas: Iterable[int], place: int) -> int:
    ids = sorted(replicas)
    return ids[place % len(ids)] if ids else 0
