"""The fold of records, against a naive model; and that a log on disk folds to the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import Entry, Snapshot
from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.wal import Appended, Compacted, InvalidRecord, Record
from raftlog.wal.image import Images, entries_bytes
from raftlog.wal.records import Created

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 12), st.integers(1, 4)),
        st.tuples(st.just("compact"), st.integers(0, 12), st.just(0)),
        st.tuples(st.just("next segment"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


class Model:
    """A group's log as a dictionary from index to entry and the segment it lies in."""

    def __init__(self) -> None:
        self.point = 0
        self.entries: dict[int, tuple[Entry, int]] = {}

    @property
    def last(self) -> int:
        """Return the last index."""
        return max(self.entries, default=self.point)

    def append(self, entries: tuple[Entry, ...], segment: int) -> bool:
        """Append, and say whether that was possible."""
        first = entries[0].index
        if not self.point < first <= self.last + 1:
            return False
        self.entries = {index: at for index, at in self.entries.items() if index < first}
        self.entries.update({entry.index: (entry, segment) for entry in entries})
        return True

    def compact(self, index: int) -> bool:
        """Compact, and say whether that was possible."""
        if not self.point <= index <= self.last:
            return False
        self.entries = {at: entry for at, entry in self.entries.items() if at > index}
        self.point = index
        return True


class ImageTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(steps)
    def test_against_the_model(self, plan: list[tuple[str, int, int]]) -> None:
        """Appending, truncating and compacting in any order give the model's entries, size and pinned segment."""
        images, model, segment = Images(), Model(), 1
        images.apply(Created(1, 10, VOTERS), segment)
        for term, (step, index, count) in enumerate(plan, 1):
            if step == "next segment":
                segment += 1
                continue
            record: Record
            if step == "append":
                added = tuple(Entry(term, at, b"x" * (at % 3)) for at in range(index, index + count))
                record, possible = Appended(1, None, added), model.append(added, segment)
            else:
                record, possible = Compacted(1, index, 1, VOTERS), model.compact(index)
            if possible:
                images.apply(record, segment)
            else:
                self.assertRaises(InvalidRecord, images.apply, record, segment)

            group = images.groups[1]
            self.assertEqual(group.entries, [entry for entry, _ in model.entries.values()])
            self.assertEqual(group.bytes, entries_bytes(group.entries))
            self.assertEqual((group.snapshot.index, group.last_index), (model.point, model.last))
            oldest = min((at for _, at in model.entries.values()), default=None)
            self.assertEqual(group.pinned_segment, oldest)
            self.assertEqual(images.oldest_pinned(99), oldest or 99)

    @settings(max_examples=60, deadline=None)
    @given(steps)
    def test_read_back(self, plan: list[tuple[str, int, int]]) -> None:
        """Whatever was submitted, a restart finds what the model says."""
        log, model = SteppedLog(options=small_options(segment_bytes=500, segments_kept=1)), Model()
        log.write(born(1))
        for term, (step, index, count) in enumerate(plan, 1):
            added = tuple(Entry(term, at, b"x" * 40) for at in range(index, index + count))
            if step == "append" and model.append(added, 0):
                log.write([Appended(1, None, added)])
            elif step == "compact" and model.compact(index):
                log.write([Compacted(1, index, 1, VOTERS)])
            elif step == "next segment":
                log.reopen()

        log.reopen()

        self.assertEqual(log.groups[1].entries, [entry for entry, _ in model.entries.values()])
        self.assertEqual(log.groups[1].snapshot.index, model.point)

    def test_truncation_of_all_that_is_left(self) -> None:
        """A group whose only entries were replaced pins the segment of those that replaced them."""
        images = Images()
        images.apply(Created(1, 10, VOTERS), 1)
        images.apply(Appended(1, None, entries(1, 3)), 1)
        images.apply(Compacted(1, 2, 1, VOTERS), 1)

        images.apply(Appended(1, None, entries(3, 1, term=2)), 2)

        self.assertEqual(images.oldest_pinned(9), 2)

    def test_created_twice(self) -> None:
        """A group exists once."""
        images = Images()
        images.apply(Created(1, 10, VOTERS), 1)

        self.assertRaises(InvalidRecord, images.apply, Created(1, 11, VOTERS), 1)

        self.assertEqual(images.groups[1].snapshot, Snapshot(conf_state=VOTERS))
