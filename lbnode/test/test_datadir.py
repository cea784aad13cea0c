"""The balancer's data directory: one balancer at a time, one cluster, one secret."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from lbnode.datadir import DataDirectory, DirectoryUnusable


class DataDirectoryTests(SynchronousTestCase):
    def opened(self, path: Path) -> DataDirectory:
        """Return the directory at a path, locked until the test ends."""
        directory = DataDirectory(path)
        directory.open()
        self.addCleanup(directory.close)
        return directory

    def test_is_made(self) -> None:
        """A directory that is not there is made, for its owner only."""
        directory = self.opened(Path(self.mktemp()) / "data")

        self.assertTrue(directory.servers.is_dir())
        self.assertTrue(directory.catalog.is_dir())
        self.assertEqual(directory.path.stat().st_mode & 0o777, 0o700)

    def test_one_balancer_at_a_time(self) -> None:
        """A second one is refused until the first lets go."""
        path = Path(self.mktemp())
        first = self.opened(path)

        error = self.assertRaises(DirectoryUnusable, DataDirectory(path).open)
        first.close()
        self.opened(path)

        self.assertIn("in use by another balancer", str(error))

    def test_servers_without_a_catalog(self) -> None:
        """Their data is not taken for that of a new cluster, which would end in its removal."""
        path = Path(self.mktemp())
        directory = self.opened(path)
        (directory.servers / "Server0").mkdir()
        directory.close()

        self.assertIn("catalog", str(self.assertRaises(DirectoryUnusable, DataDirectory(path).open)))
        (directory.catalog / "log").mkdir()
        self.opened(path)

    def test_a_path_that_cannot_be_a_directory(self) -> None:
        """The reason is told."""
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a file")

        self.assertIn(str(path), str(self.assertRaises(DirectoryUnusable, DataDirectory(path).open)))

    def test_the_cluster_stays_the_same(self) -> None:
        """The first id given is kept."""
        directory = self.opened(Path(self.mktemp()))

        self.assertEqual([directory.cluster_id("c1"), directory.cluster_id("c2")], ["c1", "c1"])

    def test_the_secret_stays_the_same_and_private(self) -> None:
        """The first secret given is kept, in a file for its owner only."""
        directory = self.opened(Path(self.mktemp()))

        self.assertEqual([directory.secret("one" * 8), directory.secret("two" * 8)], [b"one" * 8] * 2)
        self.assertEqual((directory.path / "secret").stat().st_mode & 0o777, 0o600)

    def test_damage_is_noticed(self) -> None:
        """A broken identity or an empty secret is no reason to begin a new cluster."""
        directory = self.opened(Path(self.mktemp()))
        (directory.path / "secret").write_text("\n")

        for identity in (b"{", b'["\xff"]', b"[" * 100_000):
            (directory.path / "identity.json").write_bytes(identity)
            self.assertRaises(DirectoryUnusable, directory.cluster_id, "c1")
        self.assertRaises(DirectoryUnusable, directory.secret, "one")
