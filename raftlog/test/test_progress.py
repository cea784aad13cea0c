"""What a leader knows of a follower: the states of its progress, its window, and both against naive models."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.progress import Inflights, Progress, ProgressState

same_each_time = settings(derandomize=True, deadline=None, database=None)


def progress(match: int = 0, next: int = 1, *, window: int = 4) -> Progress:
    """Return the progress of a follower that is being probed."""
    return Progress(match, next, Inflights(window), is_learner=False, recent_active=True)


class WindowTests(SynchronousTestCase):
    def test_bounded_in_messages(self) -> None:
        """It is full with as many messages as allowed, whatever their size."""
        window = Inflights(2)
        window.add(5, 1 << 40)
        self.assertFalse(window.full)

        window.add(6, 0)

        self.assertTrue(window.full)
        self.assertRaises(AssertionError, window.add, 7, 0)

    def test_bounded_in_bytes(self) -> None:
        """It is full once its bytes reach the bound; the message that crosses it is still taken."""
        window = Inflights(100, max_bytes=10)
        window.add(5, 9)
        self.assertFalse(window.full)

        window.add(6, 50)

        self.assertTrue(window.full)

    def test_freed_by_acknowledgements(self) -> None:
        """An acknowledgement frees every message whose entries it covers."""
        window = Inflights(3, max_bytes=30)
        for last in (5, 7, 9):
            window.add(last, 10)

        window.free_to(8)

        self.assertEqual((len(window), window.full), (1, False))

    @given(
        st.integers(1, 5),
        st.integers(0, 20),
        st.lists(
            st.one_of(st.tuples(st.just("add"), st.integers(0, 9)), st.tuples(st.just("free"), st.integers(0, 30)))
        ),
    )
    @same_each_time
    def test_like_a_list(self, size: int, max_bytes: int, actions: list[tuple[str, int]]) -> None:
        """Whatever is added and freed, it holds what a plain list would."""
        window, model, last = Inflights(size, max_bytes), list[tuple[int, int]](), 0
        for action, number in actions:
            if action == "free":
                window.free_to(number)
                model = [sent for sent in model if sent[0] > number]
            elif not window.full:
                last += 1
                window.add(last, number)
                model.append((last, number))
            held_bytes = sum(sent[1] for sent in model)
            full = len(model) >= size or (max_bytes > 0 and held_bytes >= max_bytes)
            self.assertEqual((len(window), window.full), (len(model), full))


class ProbeTests(SynchronousTestCase):
    def test_one_append_at_a_time(self) -> None:
        """A probe with entries pauses it until there is an answer."""
        probed = progress()

        probed.sent_entries(2, 10)

        self.assertTrue(probed.is_paused)
        self.assertEqual(probed.next, 1)

    def test_goes_back_to_the_hint(self) -> None:
        """A rejection moves `next` behind the follower's guess and lets another probe out."""
        probed = progress(next=9)
        probed.sent_entries(1, 10)

        self.assertTrue(probed.maybe_decrease(8, 3))

        self.assertEqual((probed.next, probed.is_paused), (4, False))

    def test_never_behind_what_is_known(self) -> None:
        """No hint moves `next` to what the follower has acknowledged."""
        probed = progress(match=5, next=9)

        self.assertTrue(probed.maybe_decrease(8, 2))

        self.assertEqual(probed.next, 6)

    def test_old_rejection(self) -> None:
        """A rejection of another append than the one that is out does not count."""
        probed = progress(next=9)

        self.assertFalse(probed.maybe_decrease(5, 2))

        self.assertEqual(probed.next, 9)


class ReplicateTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a follower that has entries up to 3 and takes two messages at a time."""
        self.progress = progress(match=3, next=4, window=2)
        self.progress.become_replicate()

    def test_streams_until_the_window_is_full(self) -> None:
        """`next` runs ahead of the acknowledgements until the window is full."""
        self.progress.sent_entries(2, 10)
        self.assertFalse(self.progress.is_paused)

        self.progress.sent_entries(3, 10)

        self.assertEqual((self.progress.next, self.progress.is_paused), (9, True))

    def test_acknowledgement_goes_on(self) -> None:
        """An acknowledgement that is news lifts the pause; an old one says so and does not."""
        self.progress.sent_entries(1, 10)
        self.progress.sent_entries(1, 10)

        self.assertFalse(self.progress.maybe_update(3))
        self.assertTrue(self.progress.is_paused)
        self.assertTrue(self.progress.maybe_update(4))
        self.progress.inflights.free_to(4)

        self.assertEqual((self.progress.match, self.progress.next, self.progress.is_paused), (4, 6, False))

    def test_probes_a_full_window_once(self) -> None:
        """After a sign of life one empty append passes into a full window, then it is paused again."""
        self.progress.sent_entries(1, 10)
        self.progress.sent_entries(1, 10)
        self.progress.paused = False

        self.progress.sent_entries(0, 0)

        self.assertTrue(self.progress.is_paused)

    def test_rejection_of_what_is_known(self) -> None:
        """A rejection at or below what was acknowledged is old; another one goes back to there."""
        self.progress.sent_entries(4, 10)

        self.assertFalse(self.progress.maybe_decrease(3, 0))
        self.assertTrue(self.progress.maybe_decrease(7, 3))

        self.assertEqual(self.progress.next, 4)

    def test_lost_messages(self) -> None:
        """Probing again forgets what was in flight."""
        self.progress.sent_entries(2, 10)

        self.progress.become_probe()

        self.assertEqual((self.progress.next, len(self.progress.inflights)), (4, 0))


class SnapshotTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a follower that a snapshot at 20 is on its way to."""
        self.progress = progress(match=1, next=2)
        self.progress.become_snapshot(20)

    def test_nothing_is_appended(self) -> None:
        """Until it has arrived nothing else is sent."""
        self.assertTrue(self.progress.is_paused)
        self.assertEqual(self.progress.next, 21)

    def test_arrived(self) -> None:
        """Then it goes on behind the snapshot, before the follower has acknowledged it."""
        self.progress.become_probe()

        self.assertEqual((self.progress.state, self.progress.next), (ProgressState.PROBE, 21))

    def test_failed(self) -> None:
        """If it did not arrive, it goes on behind what the follower has."""
        self.progress.pending_snapshot = 0
        self.progress.become_probe()

        self.assertEqual(self.progress.next, 2)


class CommitTests(SynchronousTestCase):
    def test_commit_is_told_once(self) -> None:
        """A follower is told of a commit index it was not told of, if it has entries for it."""
        told = progress(match=5, next=6)
        self.assertTrue(told.can_bump_commit(4))

        told.sent_commit = 4

        self.assertFalse(told.can_bump_commit(4))
        self.assertTrue(told.can_bump_commit(9))
        told.sent_commit = 5
        self.assertFalse(told.can_bump_commit(9))


class AnyHistoryTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(st.sampled_from(["send", "ack", "reject", "probe", "replicate", "snapshot"]), st.integers(0, 30))
        )
    )
    @same_each_time
    def test_invariants(self, events: list[tuple[str, int]]) -> None:
        """`match` never goes back and stays below `next`; a full window pauses."""
        follower, match = progress(), 0
        for event, number in events:
            if event == "send" and not follower.is_paused:
                follower.sent_entries(number % 3, number)
                self.assertTrue(follower.paused or not follower.inflights.full)
            elif event == "ack":
                follower.maybe_update(number)
                follower.inflights.free_to(number)
            elif event == "reject":
                follower.maybe_decrease(number, number // 2)
            elif event == "probe":
                follower.become_probe()
            elif event == "replicate":
                follower.become_replicate()
            elif event == "snapshot":
                follower.become_snapshot(follower.match + number)
            self.assertGreaterEqual(follower.match, match)
            self.assertLess(follower.match, follower.next)
            match = follower.match
