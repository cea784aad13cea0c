"""The disk as the log sees it: one suite for the real one and the one in memory, and what only the latter can do."""

from __future__ import annotations

import errno
import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from raftlog.testing.disk import SECTOR_BYTES, MemoryDisk, PowerLost
from raftlog.wal.directory import Directory, OsDirectory, segment_name, segment_numbers


class Suites:
    """Keeps the suite from being run by itself."""

    class DirectorySuite(SynchronousTestCase):
        """The behaviour of a Directory and its files."""

        directory: Directory

        def test_new_file(self) -> None:
            """A new file is all zeros and in the list of names."""
            self.directory.create("b", 1000).close()
            self.directory.create("a", 10).close()

            self.assertEqual(self.directory.names(), ["a", "b"])
            self.assertEqual(self.directory.open("b").read(), bytes(1000))

        def test_write(self) -> None:
            """What is written is read, by this file and by any other that is opened on it."""
            file = self.directory.create("a", 10)

            file.write(3, b"xyz")

            self.assertEqual(file.read(), b"\0\0\0xyz\0\0\0\0")
            self.assertEqual(self.directory.open("a").read(5), b"\0\0\0xy")
            self.assertEqual(file.read(99), file.read())

        def test_create_replaces(self) -> None:
            """A file that is created anew has nothing of the one before."""
            self.directory.create("a", 10).write(0, b"old")

            self.directory.create("a", 5).close()

            self.assertEqual(self.directory.open("a").read(), bytes(5))

        def test_truncate(self) -> None:
            """A file that was truncated ends there."""
            file = self.directory.create("a", 10)

            file.truncate(4)

            self.assertEqual(self.directory.open("a").read(), bytes(4))

        def test_rename_and_remove(self) -> None:
            """Names change and go, also that of a file that is open."""
            file = self.directory.create("a", 3)
            self.directory.create("c", 3).close()

            self.directory.rename("a", "b")
            self.directory.remove("c")
            self.directory.sync()
            file.write(0, b"new")

            self.assertEqual(self.directory.names(), ["b"])
            self.assertEqual(self.directory.open("b").read(), b"new")

        def test_missing_files(self) -> None:
            """What is not there can be neither opened nor removed."""
            self.assertRaises(FileNotFoundError, self.directory.open, "a")
            self.assertRaises(FileNotFoundError, self.directory.remove, "a")

        def test_too_large(self) -> None:
            """A file for which there is no room fails with ENOSPC and leaves nothing behind."""
            error = self.assertRaises(OSError, self.directory.create, "a", self.directory.free_bytes() + (1 << 30))

            self.assertEqual(error.errno, errno.ENOSPC)
            self.assertEqual(self.directory.names(), [])


class OsDirectoryTests(Suites.DirectorySuite):
    def setUp(self) -> None:
        """Begin with an empty directory."""
        path = Path(self.mktemp())
        path.mkdir()
        self.path = path
        self.directory = OsDirectory(path)

    def test_read_only(self) -> None:
        """A read-only directory's files cannot be written."""
        self.directory.create("a", 3).close()
        file = OsDirectory(self.path, read_only=True).open("a")

        self.assertEqual(file.read(), bytes(3))
        self.assertRaises(OSError, file.write, 0, b"x")

    def test_file_system_without_room(self) -> None:
        """Room is set aside when a file is made, so that it cannot be missing when the file is written."""
        self.directory.create("a", 1 << 20).close()

        self.assertGreaterEqual((self.path / "a").stat().st_blocks * 512, 1 << 20)


class MemoryDiskTests(Suites.DirectorySuite):
    def setUp(self) -> None:
        """Begin with an empty disk."""
        self.disk = MemoryDisk(random.Random(1))
        self.directory = self.disk

    def power_off_during(self, seed: int, data: bytes) -> bytes:
        """Return what a file of as many bytes holds after the power went off while they were written."""
        disk = MemoryDisk(random.Random(seed))
        file = disk.create("a", len(data))
        disk.sync()
        disk.power_off_at = disk.operations + 1
        self.assertRaises(PowerLost, file.write, 0, data)
        disk.restart()
        return disk.content("a")

    def test_written_is_durable(self) -> None:
        """What was written survives a power cut if the file's name does."""
        file = self.disk.create("a", 10)
        self.disk.sync()
        file.write(0, b"durable")

        self.disk.restart()

        self.assertEqual(self.disk.content("a"), b"durable\0\0\0")

    def test_names_need_a_sync(self) -> None:
        """Without a sync a new name may or may not survive a power cut."""
        survived = set()
        for seed in range(20):
            disk = MemoryDisk(random.Random(seed))
            disk.create("a", 1).close()
            disk.restart()
            survived.add(tuple(disk.names()))

        self.assertEqual(survived, {(), ("a",)})

    def test_torn_write(self) -> None:
        """A power cut during a write leaves some of its sectors, each of them whole or not at all."""
        data = b"x" * SECTOR_BYTES * 6
        outcomes = {self.power_off_during(seed, data) for seed in range(100)}

        self.assertIn(data, outcomes)
        self.assertIn(bytes(len(data)), outcomes)
        self.assertGreater(len(outcomes), 20)
        for outcome in outcomes:
            for begin in range(0, len(data), SECTOR_BYTES):
                self.assertIn(outcome[begin : begin + SECTOR_BYTES], (b"x" * SECTOR_BYTES, bytes(SECTOR_BYTES)))

    def test_no_power(self) -> None:
        """After the power went off nothing works until the restart."""
        self.disk.power_off_at = 1
        self.assertRaises(PowerLost, self.disk.create, "a", 1)
        self.assertRaises(PowerLost, self.disk.sync)

        self.disk.restart()

        self.disk.sync()

    def test_failed_write(self) -> None:
        """A write that fails can be read back, but a power cut shows what really reached the disk."""
        outcomes = set()
        for seed in range(20):
            disk = MemoryDisk(random.Random(seed))
            file = disk.create("a", 3)
            disk.sync()
            disk.fail_next("write", errno.EIO)
            self.assertRaises(OSError, file.write, 0, b"xyz")
            self.assertEqual(file.read(), b"xyz")
            disk.restart()
            outcomes.add(disk.content("a"))

        self.assertEqual(outcomes, {b"xyz", b"\0\0\0"})

    def test_flip(self) -> None:
        """A bit that was flipped stays so."""
        self.disk.create("a", 2).close()
        self.disk.sync()

        self.disk.flip("a", 9)

        self.disk.restart()
        self.assertEqual(self.disk.content("a"), b"\0\2")

    def test_same_seed_same_disk(self) -> None:
        """What a power cut does depends on the seed alone."""
        data = bytes(range(256)) * 20

        self.assertEqual(self.power_off_during(7, data), self.power_off_during(7, data))


class NamesTests(SynchronousTestCase):
    def test_segment_names(self) -> None:
        """Segments are found among other files, in order."""
        names = [segment_name(12), segment_name(3), "lock", "next", "12.wal", "x" + segment_name(4)]

        self.assertEqual(segment_numbers(names), [3, 12])
