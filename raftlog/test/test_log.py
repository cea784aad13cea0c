"""A replica's log over storage and memory: what each part holds, and the whole against a naive model."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from raftlog.log import CommitBeyondLog, RaftLog, Unstable
from raftlog.messages import ConfState, Entry, EntryType, Message, MessageType, Snapshot
from raftlog.storage import Compacted, SnapshotTemporarilyUnavailable, Unavailable, entry_size, limit_size
from raftlog.testing.network import entries_of, log_of

_NO_LIMIT = 1 << 62


def log(stored: Sequence[int] = (), unstable: Sequence[int] = (), *, applying_size_max: int = _NO_LIMIT) -> RaftLog:
    """Return a log with entries of these terms in its storage, and more that are not durable."""
    whole = RaftLog(log_of(ConfState(voters=(1,)), stored), applying_size_max)
    more = entries_of([*stored, *unstable])[len(stored) :]
    if more:
        whole.append(more)
    return whole


def terms(whole: RaftLog) -> list[int]:
    """Return the terms of all entries."""
    return [entry.term for entry in whole.entries(whole.first_index(), _NO_LIMIT)]


class UnstableTests(SynchronousTestCase):
    def test_handed_out_once(self) -> None:
        """What was handed out for writing is not handed out again, what came since is."""
        unstable = Unstable(1)
        unstable.append(entries_of([1, 1]))
        unstable.accept_in_progress()

        unstable.append([Entry(1, 3)])

        self.assertEqual([entry.index for entry in unstable.next_entries()], [3])

    def test_overwritten_entries_are_written_anew(self) -> None:
        """Entries that replace some that are being written must be written as well."""
        unstable = Unstable(1)
        unstable.append(entries_of([1, 1, 1]))
        unstable.accept_in_progress()

        unstable.append([Entry(2, 2)])

        self.assertEqual([(entry.term, entry.index) for entry in unstable.next_entries()], [(2, 2)])

    def test_stable(self) -> None:
        """Confirmed entries leave, later ones stay."""
        unstable = Unstable(1)
        unstable.append(entries_of([1, 1, 1]))

        unstable.stable_to(2, 1)

        self.assertEqual((unstable.offset, len(unstable.entries)), (3, 1))

    def test_confirmation_of_what_was_replaced(self) -> None:
        """RAFT_RULES 3: a confirmation whose term is not the entry's is ignored; so is one of unknown entries."""
        unstable = Unstable(1)
        unstable.append(entries_of([1, 2]))

        for index, term in ((2, 1), (9, 2), (0, 0)):
            unstable.stable_to(index, term)

        self.assertEqual((unstable.offset, len(unstable.entries)), (1, 2))

    def test_snapshot_replaces_all(self) -> None:
        """A snapshot is handed out once, and its confirmation does not touch a newer one."""
        unstable = Unstable(1)
        unstable.append(entries_of([1, 1]))
        unstable.restore(Snapshot(9, 3))
        self.assertEqual((unstable.last_index(), unstable.term(9)), (9, 3))
        unstable.accept_in_progress()
        self.assertIsNone(unstable.next_snapshot())

        unstable.restore(Snapshot(12, 3))
        unstable.stable_snapshot_to(9)
        self.assertEqual(unstable.next_snapshot(), Snapshot(12, 3))
        unstable.stable_snapshot_to(12)

        self.assertIsNone(unstable.snapshot)


class ReadingTests(SynchronousTestCase):
    def test_both_halves(self) -> None:
        """Entries are read over the border between storage and memory as one log."""
        whole = log([1, 1, 2], [2, 3])

        self.assertEqual(terms(whole), [1, 1, 2, 2, 3])
        self.assertEqual([entry.index for entry in whole.slice(2, 5, _NO_LIMIT)], [2, 3, 4])
        self.assertEqual([whole.term(index) for index in range(6)], [0, 1, 1, 2, 2, 3])

    def test_bounded_in_bytes(self) -> None:
        """A slice stays within its bytes but has at least one entry, over the border too."""
        whole = log([1, 1], [1, 1])
        one = entry_size(whole.entries(1, 0)[0])

        self.assertEqual(len(whole.entries(1, 0)), 1)
        self.assertEqual(len(whole.entries(1, one)), 1)
        self.assertEqual(len(whole.entries(1, 3 * one)), 3)
        self.assertEqual(len(whole.slice(1, 3, 2 * one)), 2)

    def test_compacted(self) -> None:
        """What was compacted can't be read; the term of the last compacted entry can."""
        storage = log_of(ConfState(voters=(1,)), [1, 1, 2, 2])
        storage.compact(3, ConfState(voters=(1,)))
        whole = RaftLog(storage, _NO_LIMIT)

        self.assertEqual((whole.first_index(), whole.term(3)), (4, 2))
        self.assertRaises(Compacted, whole.term, 2)
        self.assertRaises(Compacted, whole.slice, 3, 5, _NO_LIMIT)
        self.assertRaises(Unavailable, whole.term, 5)
        self.assertEqual(whole.term_or_zero(2), 0)
        self.assertFalse(whole.matches(2, 1))

    def test_up_to_date(self) -> None:
        """Raft §5.4.1: the later last term, and with equal terms the longer log."""
        whole = log([1, 2], [2])

        self.assertTrue(whole.is_up_to_date(1, 3))
        self.assertTrue(whole.is_up_to_date(3, 2))
        self.assertFalse(whole.is_up_to_date(2, 2))
        self.assertFalse(whole.is_up_to_date(9, 1))

    def test_find_conflict(self) -> None:
        """RAFT_RULES 39: the last entry at or before an index whose term is not later than one."""
        whole = log([2, 2, 5], [5, 5, 7])

        self.assertEqual(whole.find_conflict_by_term(6, 9), (6, 7))
        self.assertEqual(whole.find_conflict_by_term(6, 6), (5, 5))
        self.assertEqual(whole.find_conflict_by_term(5, 4), (2, 2))
        self.assertEqual(whole.find_conflict_by_term(5, 1), (0, 0))
        self.assertEqual(whole.find_conflict_by_term(8, 9), (8, 0))

    def test_find_conflict_in_a_compacted_log(self) -> None:
        """Where the log does not reach back any more the term is unknown."""
        storage = log_of(ConfState(voters=(1,)), [3, 3, 4])
        storage.compact(2, ConfState(voters=(1,)))
        whole = RaftLog(storage, _NO_LIMIT)

        self.assertEqual(whole.find_conflict_by_term(3, 3), (2, 3))
        self.assertEqual(whole.find_conflict_by_term(3, 1), (1, 0))
        self.assertEqual(whole.find_conflict_by_term(1, 9), (1, 0))


class CommitTests(SynchronousTestCase):
    def test_own_term_only(self) -> None:
        """Raft §5.4.2: an entry of another term than the leader's own is not committed."""
        whole = log([1, 2])

        self.assertFalse(whole.maybe_commit(1, 2))
        self.assertTrue(whole.maybe_commit(2, 2))
        self.assertFalse(whole.maybe_commit(2, 2))

        self.assertEqual(whole.committed, 2)

    def test_never_back(self) -> None:
        """A lower commit index is ignored, one beyond the log means that entries were lost (RAFT_RULES 10)."""
        whole = log([1, 1, 1])
        whole.commit_to(2)

        whole.commit_to(1)

        self.assertEqual(whole.committed, 2)
        self.assertRaises(CommitBeyondLog, whole.commit_to, 4)

    def test_committed_entries_stay(self) -> None:
        """To replace a committed entry is a bug that must not go unnoticed."""
        whole = log([1, 1, 1])
        whole.commit_to(2)

        self.assertRaises(AssertionError, whole.append, [Entry(2, 2)])


class ApplyingTests(SynchronousTestCase):
    def test_only_what_is_durable(self) -> None:
        """RAFT_RULES 8: committed entries are handed out once they are durable here."""
        whole = log([1], [1, 1])
        whole.commit_to(3)

        self.assertEqual([entry.index for entry in whole.next_committed(allow_unstable=False)], [1])
        self.assertEqual([entry.index for entry in whole.next_committed(allow_unstable=True)], [1, 2, 3])

    def test_bounded(self) -> None:
        """No more is handed out than the bound until some of it is confirmed."""
        size = entry_size(entries_of([1])[0])
        whole = log([1, 1, 1, 1], applying_size_max=2 * size)
        whole.commit_to(4)
        first = whole.next_committed(allow_unstable=False)
        whole.accept_applying(first, allow_unstable=False)
        self.assertEqual([entry.index for entry in first], [1, 2])
        self.assertFalse(whole.has_next_committed(allow_unstable=False))

        whole.applied_to(2, 2 * size)

        self.assertEqual([entry.index for entry in whole.next_committed(allow_unstable=False)], [3, 4])

    def test_not_while_a_snapshot_is_installed(self) -> None:
        """RAFT_RULES 9: nothing is applied until the snapshot is in place."""
        whole = log([1, 1])
        whole.restore(Snapshot(9, 2))

        self.assertFalse(whole.has_next_committed(allow_unstable=True))
        self.assertEqual((whole.committed, whole.last_index(), whole.last_term()), (9, 9, 2))

    def test_confirmed_in_order(self) -> None:
        """Applied never goes back and never passes the commit index."""
        whole = log([1, 1, 1])
        whole.commit_to(2)
        whole.applied_to(1, 0)

        self.assertRaises(AssertionError, whole.applied_to, 0, 0)
        self.assertRaises(AssertionError, whole.applied_to, 3, 0)

    def test_unapplied_changes_of_membership(self) -> None:
        """Only a committed change that is not applied counts (RAFT_RULES 30)."""
        whole = log([1])
        whole.append([Entry(1, 2, b"", EntryType.CONF_CHANGE_V2), Entry(1, 3)])
        whole.commit_to(1)
        self.assertFalse(whole.has_unapplied_conf_change())
        whole.commit_to(3)
        self.assertTrue(whole.has_unapplied_conf_change())

        whole.applied_to(2, 0)

        self.assertFalse(whole.has_unapplied_conf_change())


class MemoryLogTests(SynchronousTestCase):
    def test_no_gap(self) -> None:
        """An append that does not follow the end is a bug."""
        storage = log_of(ConfState(), [1, 1])

        self.assertRaises(AssertionError, storage.append, [Entry(1, 4)])

    def test_size(self) -> None:
        """The bytes held are those of the entries, through appends, truncations and compactions."""
        storage = log_of(ConfState(), [1, 1, 1, 1])

        storage.append([Entry(2, 3, b"xyz")])
        storage.compact(1, ConfState())

        held = storage.entries(2, 4, _NO_LIMIT)
        self.assertEqual(storage.size_bytes, sum(map(entry_size, held)))

    def test_append_below_the_compaction(self) -> None:
        """What is compacted already is skipped."""
        storage = log_of(ConfState(), [1, 1, 1])
        storage.compact(2, ConfState())

        storage.append(entries_of([1, 1]))
        storage.append(entries_of([1, 1, 1, 1]))

        self.assertEqual((storage.first_index(), storage.last_index()), (3, 4))

    def test_snapshot(self) -> None:
        """There is none before the first compaction; a log that was compacted twice at one index is a bug."""
        storage = log_of(ConfState(voters=(1, 2)), [1, 1])
        self.assertRaises(SnapshotTemporarilyUnavailable, storage.snapshot)

        storage.compact(1, ConfState(voters=(1, 2)))

        self.assertEqual(storage.snapshot(), Snapshot(1, 1, ConfState(voters=(1, 2))))
        self.assertRaises(Compacted, storage.compact, 1, ConfState())

    def test_stores_in_order(self) -> None:
        """A storage append with a snapshot and entries is a log that begins behind the snapshot."""
        storage = log_of(ConfState(), [1, 1])

        storage.store(Message(MessageType.STORAGE_APPEND, term=4, vote=2, commit=9, snapshot=Snapshot(9, 3)))
        storage.store(Message(MessageType.STORAGE_APPEND, entries=(Entry(4, 10),)))

        self.assertEqual((storage.hard_state.term, storage.first_index(), storage.last_index()), (4, 10, 10))
        self.assertEqual((storage.term(9), storage.term(10)), (3, 4))

    def test_limit(self) -> None:
        """A head within the bound, at least one entry; all of it if all fits."""
        some = entries_of([1, 1, 1])

        self.assertEqual(len(limit_size(some, 0)), 1)
        self.assertEqual(len(limit_size(some, _NO_LIMIT)), 3)
        self.assertEqual(limit_size([], 0), [])


class LogMachine(RuleBasedStateMachine):
    """A follower's log under appends, writes, applications and compactions, beside the plain list it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = log_of(ConfState(voters=(1,)))
        self.log = RaftLog(self.storage, 200)
        self.model: list[Entry] = []
        self.committed = 0
        self.term = 1
        self.writes: list[tuple[list[Entry], int, int]] = []

    @rule(back=st.integers(0, 4), count=st.integers(0, 4), new_term=st.booleans(), commit_ahead=st.integers(-2, 3))
    def append(self, back: int, count: int, new_term: bool, commit_ahead: int) -> None:
        """Take an append of the leader, behind any entry that is not committed-over, perhaps of a new term."""
        self.term += new_term
        index = max(self.committed, len(self.model) - back)
        entries = [Entry(self.term, index + place, b"%d" % (index + place)) for place in range(1, count + 1)]
        term = self.model[index - 1].term if index else 0
        kept = self.model[index : index + count]
        if [entry.term for entry in kept] != [self.term] * count:
            same = next((n for n, e in enumerate(kept) if e.term != self.term), len(kept))
            self.model = self.model[: index + same] + entries[same:]
        leader_commit = max(0, self.committed + commit_ahead)

        last = self.log.maybe_append(index, term, entries, leader_commit)

        self.committed = max(self.committed, min(leader_commit, index + count))
        assert last == index + count

    @rule(ahead=st.integers(1, 3))
    def refuse(self, ahead: int) -> None:
        """Refuse an append behind an entry that is not there, and change nothing."""
        assert self.log.maybe_append(len(self.model) + ahead, self.term, [], 0) is None

    @rule()
    def hand_out(self) -> None:
        """Hand out what is to be written."""
        entries = list(self.log.unstable.next_entries())
        self.log.unstable.accept_in_progress()
        if entries:
            self.writes.append((entries, self.log.last_index(), self.log.last_term()))

    @precondition(lambda self: self.writes)
    @rule()
    def write(self) -> None:
        """Do the oldest write and confirm it."""
        entries, last, term = self.writes.pop(0)
        self.storage.append(entries)
        self.log.unstable.stable_to(last, term)

    @rule()
    def apply(self) -> None:
        """Apply what may be applied: the next committed and durable entries."""
        entries = self.log.next_committed(allow_unstable=False)
        if entries:
            assert list(entries) == self.model[self.log.applied : self.log.applied + len(entries)]
            assert self.storage.term(entries[-1].index) == entries[-1].term
            self.log.accept_applying(entries, allow_unstable=False)
            self.log.applied_to(entries[-1].index, sum(map(entry_size, entries)))

    @rule()
    def compact(self) -> None:
        """Drop what is applied."""
        if self.log.applied >= self.storage.first_index():
            self.storage.compact(self.log.applied, ConfState(voters=(1,)))

    @invariant()
    def like_the_list(self) -> None:
        """Read like the list behind the compaction, with the indexes in order."""
        first = self.log.first_index()
        assert list(self.log.entries(first, _NO_LIMIT)) == self.model[first - 1 :]
        assert self.log.last_index() == len(self.model)
        assert self.log.committed == self.committed
        assert self.log.applied <= self.log.applying <= self.log.committed <= self.log.last_index()


class ModelTests(SynchronousTestCase):
    def test_log_machine(self) -> None:
        """Whatever is appended, written, applied and compacted, the log reads like a plain list."""
        case = LogMachine.TestCase
        case.settings = settings(
            max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
        )

        case("runTest").debug()
