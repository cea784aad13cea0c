"""Segments come and go: when one is opened, what pins an old one, and what is rewritten so that nothing does."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfState, HardState, Snapshot
from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.wal import Appended, Compacted, Record, Removed, SnapshotInstalled
from raftlog.wal.framing import SECTOR_BYTES, parse_header
from raftlog.wal.recovery import recover

#: Takes eleven rounds of one entry each.
SEGMENT = 13 * SECTOR_BYTES


def number(name: str) -> int:
    """Return the number of a segment from its file's name."""
    return int(name.removesuffix(".wal"))


class SegmentsSuite(SynchronousTestCase):
    """A log with a busy group 1, which fills a segment about every ten entries."""

    def setUp(self) -> None:
        """Begin with a busy group."""
        self.log = SteppedLog(options=small_options(segment_bytes=SEGMENT, segments_kept=3, rewrite_bytes_max=400))
        self.log.write(born(1))
        self.index = 0

    def work(self, count: int, *, compact: bool = True) -> None:
        """Let the busy group append, and compact what is older than a few entries."""
        for _ in range(count):
            self.index += 1
            records: list[Record] = [Appended(1, HardState(1, 0, self.index), entries(self.index, 1, size=100))]
            if compact and self.index > 3:
                records.append(Compacted(1, self.index - 3, 1, VOTERS))
            self.log.write(records)

    def numbers(self) -> list[int]:
        """Return the segments on disk."""
        return [number(name) for name in self.log.segments()]


class DeletionTests(SegmentsSuite):
    def test_segments_go(self) -> None:
        """Segments that hold no live entry are deleted."""
        self.work(100)

        self.assertLessEqual(len(self.numbers()), 2)
        self.assertGreater(self.numbers()[0], 8)

    def test_live_entries_stay(self) -> None:
        """A segment with a live entry stays, whatever else is in it."""
        self.work(60, compact=False)

        self.assertEqual(self.numbers()[0], 1)
        self.assertGreater(len(self.numbers()), 5)
        self.log.reopen()
        self.assertEqual(len(self.log.groups[1].entries), 60)

    def test_only_once_the_compaction_is_durable(self) -> None:
        """A segment is deleted after the round that made it superfluous, not before."""
        self.work(60, compact=False)
        self.log.submit([Compacted(1, 60, 1, VOTERS)])
        self.assertEqual(self.numbers()[0], 1)

        self.log.step()

        self.assertEqual(len(self.numbers()), 1)

    def test_everything_that_frees(self) -> None:
        """A snapshot that is installed, a truncation and a removal free segments as compaction does."""
        frees: list[Record] = [
            SnapshotInstalled(1, Snapshot(99, 1, VOTERS), HardState(1, 0, 99)),
            Appended(1, None, entries(1, 1, term=2)),
            Removed(1, 10),
        ]
        for record in frees:
            self.setUp()
            self.work(60, compact=False)

            self.log.write([record])

            self.assertEqual(len(self.numbers()), 1, record)

    def test_state_survives_its_segment(self) -> None:
        """Hard state, configuration and tombstones of idle groups outlive the segments they were written to."""
        self.log.write([*born(2), Appended(2, HardState(7, 3, 0), entries(1, 2)), Compacted(2, 2, 7, ConfState((5,)))])
        self.log.write([*born(3), Removed(3, 30)])
        self.work(100)
        self.assertGreater(self.numbers()[0], 2)

        self.log.reopen()

        idle = self.log.groups[2]
        self.assertEqual((idle.replica_id, idle.hard_state), (20, HardState(7, 3, 0)))
        self.assertEqual(idle.snapshot, Snapshot(2, 7, ConfState((5,))))
        self.assertEqual(self.log.wal.tombstones, {30})

    def test_tail_that_freed_a_segment(self) -> None:
        """A log whose last round freed segments, which then were deleted, opens."""
        self.work(60, compact=False)
        self.log.write([Compacted(1, 58, 1, VOTERS)])
        self.assertEqual(len(self.numbers()), 1)

        self.log.reopen()

        self.assertEqual([entry.index for entry in self.log.groups[1].entries], [59, 60])

    def test_reopening_does_not_pile_up_segments(self) -> None:
        """A process that starts again and again leaves no more files than one that runs."""
        self.log.write([*born(2), Appended(2, None, entries(1, 1))])
        for _ in range(20):
            self.work(1)
            self.log.reopen()

        self.assertLessEqual(len(self.numbers()), 5)
        self.assertEqual(self.log.groups[2].entries, list(entries(1, 1)))

    def test_reopening_deletes(self) -> None:
        """What the last process could have deleted is deleted at the start."""
        self.work(15)
        self.log.submit([Compacted(1, 15, 1, VOTERS)])
        self.log.disk.power_off_at = self.log.disk.operations + 2
        self.log.step()

        self.log.reopen()

        self.assertEqual(len(self.numbers()), 1)

    def test_a_closed_segment_gives_back_its_room(self) -> None:
        """At a start the file of the last process is cut to what it holds."""
        self.log.write([Appended(1, None, entries(1, 2))])
        self.log.write([Appended(1, None, entries(3, 1))])

        self.log.reopen(power_off=False)

        first, second = self.log.segments()
        end = parse_header(second, self.log.disk.content(second)).previous_end
        self.assertEqual(len(self.log.disk.content(first)), end)
        self.assertEqual(len(self.log.disk.content(second)), SEGMENT)


class RewritingTests(SegmentsSuite):
    def test_idle_group_pins_nothing(self) -> None:
        """The few live entries of an idle group move forward, and the segments behind them go."""
        self.log.write([*born(2), Appended(2, HardState(3, 1, 1), entries(1, 2, term=3))])
        self.work(150)

        self.assertGreater(self.numbers()[0], 10)
        self.assertLessEqual(len(self.numbers()), 5)
        self.log.reopen()
        self.assertEqual(self.log.groups[2].entries, list(entries(1, 2, term=3)))

    def test_many_idle_groups(self) -> None:
        """However many groups are idle, the log stays within a few segments and loses none of them."""
        for group_id in range(2, 42):
            self.log.write([*born(group_id), Appended(group_id, None, entries(1, 1, size=30))])
        before = len(self.numbers())
        self.work(300)

        self.assertLessEqual(len(self.numbers()), before + 20)
        self.log.reopen()
        self.assertEqual(len(self.log.groups), 41)
        for group_id in range(2, 42):
            self.assertEqual(self.log.groups[group_id].entries, list(entries(1, 1, size=30)))

    def test_large_group_is_named(self) -> None:
        """An idle group that is too large to be rewritten is named, so that its owner compacts it; then it is free."""
        self.log.write([*born(2), Appended(2, None, entries(1, 3, size=200))])
        self.work(100)
        self.assertEqual(self.numbers()[0], 1)
        self.assertEqual(self.log.wal.pinning_groups(), [2])

        self.log.write([Compacted(2, 3, 1, VOTERS)])

        self.assertEqual(self.log.wal.pinning_groups(), [])
        self.assertLessEqual(len(self.numbers()), 2)

    def test_appending_after_a_rewrite(self) -> None:
        """A group that was rewritten goes on, and truncates what was rewritten."""
        self.log.write([*born(2), Appended(2, None, entries(1, 3))])
        self.work(100)
        self.log.write([Appended(2, HardState(2, 0, 0), entries(2, 1, term=2))])

        self.log.reopen()

        self.assertEqual(self.log.groups[2].entries, [*entries(1, 1), *entries(2, 1, term=2)])


class SpareTests(SegmentsSuite):
    def test_recycling(self) -> None:
        """A segment that is done with is written over instead of being made anew."""
        self.work(100)
        created = self.log.disk.created

        self.work(100)

        self.assertEqual(self.log.disk.created, created)

    def test_old_rounds_are_not_taken_for_new(self) -> None:
        """What is left of an earlier segment behind the end of a recycled one is no part of the log."""
        self.work(200)
        name = self.log.segments()[-1]
        self.assertGreater(self.log.disk.content(name).count(b"ROUN"), self.rounds_in_last_segment())

        self.log.reopen()

        self.assertEqual([entry.index for entry in self.log.groups[1].entries], [198, 199, 200])

    def rounds_in_last_segment(self) -> int:
        """Return how many rounds the newest segment really has."""
        recovered = recover(self.log.disk)
        name = self.log.segments()[-1]
        return recovered.next_round + 1 - parse_header(name, self.log.disk.content(name)).first_round

    def test_leftovers_are_removed(self) -> None:
        """What a crash left of a segment that never got its name is removed at the next start."""
        self.log.disk.replace("next", b"half a segment")
        self.log.disk.replace("spare", b"an old one")

        self.log.reopen()

        self.assertNotIn("next", self.log.disk.names())
        self.assertNotIn("spare", self.log.disk.names())

    def test_larger_than_a_segment(self) -> None:
        """A submit that is larger than a segment gets one that is long enough."""
        self.log.write([Appended(1, None, entries(1, 1, size=10_000))])

        self.log.reopen()

        self.assertEqual(self.log.groups[1].entries, list(entries(1, 1, size=10_000)))
