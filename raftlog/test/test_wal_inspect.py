"""The inspection of a log: what it lists, and what it says about damage."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfState, HardState, Snapshot
from raftlog.test.wal_fixture import VOTERS, SteppedLog, born, entries, small_options
from raftlog.wal import Appended, Compacted, Created, Removed, SnapshotIncoming, SnapshotInstalled
from raftlog.wal.__main__ import main
from raftlog.wal.framing import SECTOR_BYTES
from raftlog.wal.inspect import inspect

FIRST = "0000000000000001.wal"


class InspectTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a log of two segments that has one record of each kind."""
        self.log = SteppedLog(options=small_options(segment_bytes=6 * SECTOR_BYTES))
        self.log.write([*born(1), Appended(1, HardState(2, 3, 2), entries(1, 4, term=2))])
        self.log.write([Compacted(1, 2, 2, VOTERS), *born(2), Removed(2, 20)])
        self.log.write([Created(3, 30, ConfState((1, 2), (4,), (1, 3)))])
        snapshot = Snapshot(9, 1, VOTERS)
        self.log.write([SnapshotIncoming(3, snapshot), SnapshotInstalled(3, snapshot, HardState(1, 0, 9))])
        self.log.write([Appended(1, None, entries(5, 3, term=2, size=50))])
        self.assertEqual(len(self.log.segments()), 2)

    def inspect(self, *, whole: bool, list_records: bool = False) -> str:
        """Return the inspection's text."""
        operations = self.log.disk.operations
        inspection = inspect(self.log.disk, list_records=list_records)
        self.assertEqual(self.log.disk.operations, operations)
        self.assertEqual(inspection.whole, whole)
        return "\n".join(inspection.lines)

    def test_segments_and_groups(self) -> None:
        """Every segment, group and tombstone is listed, and the verdict comes last."""
        text = self.inspect(whole=True)

        self.assertRegex(text, FIRST + r": format 1, 5 rounds from number 1 on, \d+ records, \d+ of 3072 bytes used")
        self.assertIn(
            "group 1: replica 10, term 2, vote 3, commit 2, voters [1, 2, 3] at index 2,"
            " entries 3 (term 2) to 7 (term 2), ",
            text,
        )
        self.assertIn("group 3: replica 30, term 1, vote none, commit 9, voters [1, 2, 3] at index 9, no entries", text)
        self.assertIn("destroyed replicas: 20", text)
        self.assertTrue(text.endswith("\nwhole"))

    def test_records(self) -> None:
        """Asked to, it lists every record with its place."""
        text = self.inspect(whole=True, list_records=True)

        for expected in (
            "round 1: segment opened with 0 groups and 0 destroyed replicas",
            "round 2: group 1 created as replica 10, voters [1, 2, 3]",
            "round 2: group 1: term 2, vote 3, commit 2, entries 1 (term 2) to 4 (term 2)",
            "round 3: group 1 compacted to index 2 of term 2",
            "round 3: group 2: replica 20 destroyed",
            "round 4: group 3 created as replica 30, voters [1, 2] outgoing [1, 3] learners [4]",
            "round 5: group 3: about to install a snapshot at 9",
            "round 5: group 3: snapshot at 9, term 1, vote none, commit 9",
            "round 6: group 1 restated as replica 10, entries 3 to 4 (0 of them here)",
            "round 7: group 1: hard state as before, entries 5 (term 2) to 7 (term 2)",
        ):
            self.assertIn(expected, text)

    def test_damage(self) -> None:
        """Damage is shown with its place, and with what it means and what to do."""
        self.log.disk.flip(FIRST, 3 * SECTOR_BYTES * 8)

        text = self.inspect(whole=False)

        self.assertIn(FIRST + ": damaged at byte ", text)
        self.assertIn("will not start with it", text)

    def test_other_version(self) -> None:
        """A log of another version is not called damaged."""
        self.log.disk.flip(FIRST, 8 * 8 + 2)

        text = self.inspect(whole=False)

        self.assertIn("format version 5", text)
        self.assertNotIn("damaged", text)

    def test_entries_in_no_segment(self) -> None:
        """A log that lost its oldest segment is damaged although what is left is intact."""
        self.log.disk.remove(FIRST)

        self.assertIn("entries 3 to 4 of group 1 are nowhere", self.inspect(whole=False))

    def test_empty(self) -> None:
        """A directory without segments is not taken for a good log without a word."""
        for name in self.log.segments():
            self.log.disk.remove(name)

        self.assertIn("no segments", self.inspect(whole=True))


class MainTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a log in a real directory."""
        log = SteppedLog(options=small_options(segment_bytes=7 * SECTOR_BYTES))
        log.write([*born(1), Appended(1, None, entries(1, 1))])
        log.write([Appended(1, None, entries(2, 1))])
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = self.directory / FIRST
        self.file.write_bytes(log.disk.content(FIRST))

    def run_main(self, *arguments: str) -> tuple[int, str]:
        """Return the exit status and what was printed."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            status = main([str(self.directory), *arguments])
        return status, printed.getvalue()

    def test_whole(self) -> None:
        """A log that is whole gives status 0, and nothing in the directory changes."""
        before = self.file.read_bytes()

        status, printed = self.run_main("--records")

        self.assertEqual(status, 0)
        self.assertIn("entries 2 (term 1) to 2 (term 1)", printed)
        self.assertEqual(list(self.directory.iterdir()), [self.file])
        self.assertEqual(self.file.read_bytes(), before)

    def test_damaged(self) -> None:
        """A damaged log gives status 1."""
        content = bytearray(self.file.read_bytes())
        content[2 * SECTOR_BYTES + 40] ^= 1
        self.file.write_bytes(content)

        status, printed = self.run_main()

        self.assertEqual(status, 1)
        self.assertIn("damaged at byte", printed)

    def test_no_directory(self) -> None:
        """What is no directory is a mistake of usage."""
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            error = self.assertRaises(SystemExit, main, [str(self.file)])

        self.assertEqual(error.code, 2)
        self.assertIn("is not a directory", printed.getvalue())
