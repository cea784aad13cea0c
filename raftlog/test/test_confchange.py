"""Changes of membership as functions of a configuration (Raft §6): each against sets, and what they leave alone."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.confchange import Changer, ConfChangeError, decode_change, encode_change, replay, restore
from raftlog.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
)
from raftlog.progress import Inflights
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.tracker import Tracker

same_each_time = settings(derandomize=True, deadline=None, database=None)

steps = st.lists(
    st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), st.integers(0, 5)), min_size=1, max_size=5
)
states = st.builds(
    lambda voters, learners: ConfState(tuple(sorted(voters)), tuple(sorted(learners - voters))),
    st.frozensets(st.integers(1, 5), min_size=1),
    st.frozensets(st.integers(1, 5)),
)


def tracker(state: ConfState) -> Tracker:
    """Return the tracker of a configuration."""
    return restore(state, 7, lambda: Inflights(8))


def changer(state: ConfState | Tracker) -> Changer:
    """Return what changes a configuration."""
    return Changer(state if isinstance(state, Tracker) else tracker(state), 9, lambda: Inflights(8))


def apply_to_sets(state: ConfState, changes: list[ConfChangeSingle]) -> tuple[set[int], set[int]]:
    """Return voters and learners after changes, as two plain sets."""
    voters, learners = set(state.voters), set(state.learners)
    for change in changes:
        if change.replica_id and change.type is not ConfChangeType.UPDATE:
            voters.discard(change.replica_id)
            learners.discard(change.replica_id)
            if change.type is ConfChangeType.ADD_VOTER:
                voters.add(change.replica_id)
            elif change.type is ConfChangeType.ADD_LEARNER:
                learners.add(change.replica_id)
    return voters, learners


class AgainstSetsTests(SynchronousTestCase):
    @given(states, steps)
    @same_each_time
    def test_simple(self, state: ConfState, changes: list[ConfChangeSingle]) -> None:
        """A simple change gives the sets one expects, or is refused: no voter left, or more than one changed."""
        voters, learners = apply_to_sets(state, changes)

        try:
            changed = changer(state).simple(changes).membership
        except ConfChangeError:
            self.assertTrue(not voters or len(voters ^ set(state.voters)) > 1)
        else:
            self.assertEqual((changed.incoming, changed.learners, changed.outgoing), (voters, learners, frozenset()))

    @given(states, steps)
    @same_each_time
    def test_joint(self, state: ConfState, changes: list[ConfChangeSingle]) -> None:
        """Entering and leaving a joint configuration ends at the same sets; in between the old voters count too."""
        voters, learners = apply_to_sets(state, changes)
        assume(voters)

        joint = changer(state).enter_joint(changes, auto_leave=False)
        left = changer(joint).leave_joint()

        self.assertEqual((joint.membership.incoming, joint.membership.outgoing), (voters, set(state.voters)))
        self.assertFalse(joint.membership.learners & joint.membership.voters)
        self.assertEqual((left.membership.incoming, left.membership.learners), (voters, learners))

    @given(states, steps)
    @same_each_time
    def test_everybody_has_a_progress(self, state: ConfState, changes: list[ConfChangeSingle]) -> None:
        """Exactly the replicas of a configuration are tracked, those that stay with what is known of them."""
        before = tracker(state)
        assume(apply_to_sets(state, changes)[0])

        joint = changer(before).enter_joint(changes, auto_leave=False)
        self._check_progress(joint)
        for replica_id in joint.progress.keys() & before.progress.keys():
            self.assertIs(joint.progress[replica_id], before.progress[replica_id])
        left = changer(joint).leave_joint()

        self._check_progress(left)

    def _check_progress(self, found: Tracker) -> None:
        learners = found.membership.learners
        self.assertEqual(set(found.progress), found.membership.voters | learners)
        self.assertEqual(found.ids, sorted(found.progress))
        self.assertEqual({i for i, progress in found.progress.items() if progress.is_learner}, learners)

    @given(states, steps)
    @same_each_time
    def test_twice_is_once(self, state: ConfState, changes: list[ConfChangeSingle]) -> None:
        """A change that is applied again changes nothing."""
        assume(apply_to_sets(state, changes)[0])

        once = changer(state).enter_joint(changes, auto_leave=False)
        twice = changer(state).enter_joint([*changes, *changes], auto_leave=False)

        self.assertEqual(once.membership, twice.membership)


class RefusalTests(SynchronousTestCase):
    def test_refused_change_leaves_all_as_it_was(self) -> None:
        """A change that is refused half-way has changed neither membership nor progress."""
        before = tracker(ConfState((1, 2), (3,)))

        self.assertRaises(ConfChangeError, changer(before).simple, parse_changes("l1 v3"))

        self.assertEqual(before.membership.conf_state(), ConfState((1, 2), (3,)))
        self.assertEqual([before.progress[n].is_learner for n in (1, 2, 3)], [False, False, True])

    def test_check_changes_nothing(self) -> None:
        """A change can be checked beforehand without any effect."""
        before = tracker(ConfState((1, 2), (3,)))

        changer(before).check(ConfChangeV2(changes=tuple(parse_changes("l1"))))
        self.assertRaises(ConfChangeError, changer(before).check, ConfChangeV2())

        self.assertEqual([before.progress[n].is_learner for n in (1, 2, 3)], [False, False, True])

    def test_joint_only_once(self) -> None:
        """In a joint configuration nothing but leaving it is possible; outside of one leaving is not."""
        joint = changer(ConfState((1,))).enter_joint(parse_changes("v2"), auto_leave=False)

        self.assertRaises(ConfChangeError, changer(joint).simple, parse_changes("v3"))
        self.assertRaises(ConfChangeError, changer(joint).enter_joint, parse_changes("v3"), auto_leave=False)
        self.assertRaises(ConfChangeError, changer(ConfState((1,))).leave_joint)


class TransitionTests(SynchronousTestCase):
    def change(self, text: str, transition: ConfChangeTransition = ConfChangeTransition.AUTO) -> ConfState:
        """Return the configuration after changing {1, 2, 3}."""
        return (
            changer(ConfState((1, 2, 3))).change(ConfChangeV2(transition, tuple(parse_changes(text)))).membership
        ).conf_state()

    def test_one_step_is_simple(self) -> None:
        """One step needs no joint configuration unless asked for."""
        self.assertEqual(self.change("v4"), ConfState((1, 2, 3, 4)))

    def test_several_steps_are_joint(self) -> None:
        """Several steps go through a joint configuration, which the leader leaves by itself."""
        self.assertEqual(self.change("v4 r3"), ConfState((1, 2, 4), (), (1, 2, 3), (), True))

    def test_explicit(self) -> None:
        """A joint configuration that is asked for explicitly stays until a change without steps."""
        explicit = self.change("v4", ConfChangeTransition.EXPLICIT)
        self.assertEqual(explicit, ConfState((1, 2, 3, 4), (), (1, 2, 3), (), False))

        left = changer(explicit).change(ConfChangeV2())

        self.assertEqual(left.membership.conf_state(), ConfState((1, 2, 3, 4)))


class EncodingTests(SynchronousTestCase):
    def entry(self, change: ConfChange | ConfChangeV2) -> Entry:
        """Return the entry that holds a change."""
        entry_type, data = encode_change(change)
        return Entry(1, 1, data, entry_type)

    def test_both_kinds(self) -> None:
        """A change of one step is the same whichever way it is written down."""
        step = ConfChangeSingle(ConfChangeType.ADD_LEARNER, 4)
        one = self.entry(ConfChange(step.type, step.replica_id, b"why"))
        other = self.entry(ConfChangeV2(changes=(step,), context=b"why"))

        self.assertEqual((one.type, other.type), (EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2))
        self.assertEqual(decode_change(one), decode_change(other))

    def test_leaving_has_no_data(self) -> None:
        """Leaving a joint configuration is an entry without data, so that no bound on sizes can refuse it."""
        entry = self.entry(ConfChangeV2())

        self.assertEqual((entry.data, decode_change(entry)), (b"", ConfChangeV2()))


class ReplayTests(SynchronousTestCase):
    def test_after_a_restart(self) -> None:
        """The configurations since a compaction follow from the changes in the log, each with its index."""
        entries = [
            Entry(1, 4, b"x"),
            Entry(1, 5, encode_change(ConfChange(ConfChangeType.ADD_LEARNER, 4))[1], EntryType.CONF_CHANGE),
            Entry(
                1, 6, encode_change(ConfChangeV2(changes=tuple(parse_changes("v4 r3"))))[1], EntryType.CONF_CHANGE_V2
            ),
            Entry(1, 7, b"", EntryType.CONF_CHANGE_V2),
        ]

        history = replay(ConfState((1, 2, 3)), entries)

        self.assertEqual(
            history,
            [
                (5, ConfState((1, 2, 3), (4,))),
                (6, ConfState((1, 2, 4), (), (1, 2, 3), (), True)),
                (7, ConfState((1, 2, 4))),
            ],
        )
