"""The data directory: whose it is, what is kept in it, and that it is nobody else's."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from dbnode.datadir import DataDirectory, DataDirectoryError, ServerIdentity, StoredConfig
from dbnode.wire import Endpoint, ManagedConfig, ServerFile


class DataDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a directory for a server."""
        self.path = Path(self.mktemp()) / "below" / "Server0"
        self.data = DataDirectory(self.path)
        self.data.open()
        self.addCleanup(self.data.close)

    def test_second_process_is_kept_out(self) -> None:
        """Only one process has the directory, until it closes it."""
        other = DataDirectory(self.path)
        self.assertRaises(DataDirectoryError, other.open)

        self.data.close()
        other.open()

        other.close()

    def test_identity_is_kept(self) -> None:
        """Who a server is, is decided once; to start it again no option is needed."""
        first = self.data.identify("Server0", "c", "born")
        again = self.data.identify(None, None, "later")

        self.assertEqual((first, again), (ServerIdentity("Server0", "born", "c"), first))

    def test_lost_log_is_refused(self) -> None:
        """A server whose log is gone does not begin anew under its identity (RAFT_RULES 10)."""
        self.data.check_log()
        (self.data.wal / "0000000000000001.wal").touch()
        self.data.identify("Server0", None, "born")
        self.data.check_log()

        (self.data.wal / "0000000000000001.wal").unlink()

        self.assertIn("is gone", str(self.assertRaises(DataDirectoryError, self.data.check_log)))

    def test_identity_cannot_be_taken_over(self) -> None:
        """A directory of another server or another cluster is refused, and named."""
        self.data.identify("Server0", None, "born")

        other_name = self.assertRaises(DataDirectoryError, self.data.identify, "Server1", None, "x")
        other_cluster = self.assertRaises(DataDirectoryError, self.data.identify, "Server0", "c", "x")

        self.assertIn("belongs to server Server0, not Server1", str(other_name))
        self.assertIn("belongs to cluster (none), not c", str(other_cluster))

    def test_storage_is_chosen_once(self) -> None:
        """A new server takes what it is given; later only a DSN changes, for another DSN. Nobody else may read it."""
        self.assertEqual(self.data.storage(None), "sqlite")
        self.assertEqual(self.data.storage("postgres"), "postgres")
        self.data.identify("Server0", None, "born")

        self.assertEqual(self.data.storage(None), "postgres")
        self.assertEqual(self.data.storage("sqlite"), "postgres")
        self.assertEqual(self.data.storage("postgresql://db/x"), "postgres")
        self.assertEqual(stat.S_IMODE((self.path / "storage").stat().st_mode), 0o600)

    def test_dsn_may_change(self) -> None:
        """A database that has moved is still the same."""
        self.data.storage("postgresql://old/x")
        self.data.identify("Server0", None, "born")

        self.assertEqual(self.data.storage("postgresql://new/x"), "postgresql://new/x")
        self.assertEqual(self.data.storage(None), "postgresql://new/x")

    def test_servers_without_a_choice_have_sqlite(self) -> None:
        """A directory from before there was a choice holds SQLite's files."""
        self.data.identify("Server0", None, "born")

        self.assertEqual(self.data.storage("postgres"), "sqlite")

    def test_tls_is_kept(self) -> None:
        """A server that spoke TLS speaks it when it is started on its directory alone, until it is told not to."""
        told = [self.data.tls_dir(one) for one in (None, "/a", None, "/b", None, "off", None)]

        self.assertEqual(told, [None, Path("/a"), Path("/a"), Path("/b"), Path("/b"), None, None])

    def test_new_server_needs_a_name(self) -> None:
        """An empty directory without a name is a mistake that is said."""
        self.assertIn("--name", str(self.assertRaises(DataDirectoryError, self.data.identify, None, None, "x")))

    def test_secret_is_copied_for_the_owner_only(self) -> None:
        """A secret that was given once is there the next time, and nobody else may read it."""
        given = self.path / "given"
        given.write_bytes(b" a top secret of old \n")

        first, again = self.data.secret(given), self.data.secret(None)

        self.assertEqual((first, again), (b"a top secret of old", b"a top secret of old"))
        self.assertEqual(stat.S_IMODE((self.path / "secret").stat().st_mode), 0o600)

    def test_missing_and_empty_secrets(self) -> None:
        """Without a secret there is none; a file that is not there, or empty, is a mistake."""
        empty, short = self.path / "empty", self.path / "short"
        empty.write_bytes(b"\n")
        short.write_bytes(b"fifteen letters\n")

        self.assertIsNone(self.data.secret(None))
        self.assertRaises(DataDirectoryError, self.data.secret, self.path / "nowhere")
        self.assertRaises(DataDirectoryError, self.data.secret, empty)
        refusal = self.assertRaises(DataDirectoryError, self.data.secret, short)
        self.assertIn("the secret has 15 bytes; it needs 16", str(refusal))

    def test_secrets_for_all_eyes(self) -> None:
        """A secret that others may read is taken, with a warning that names the file."""
        given = self.path / "given"
        given.write_bytes(b"a top secret of old\n")
        warnings = []
        for mode in (0o600, 0o400, 0o640, 0o604):
            given.chmod(mode)
            with capturedLogs() as events:
                self.data.secret(given)
            warnings.append([event["mode"] for event in events if "others may read it" in event["log_format"]])

        self.assertEqual(warnings, [[], [], [0o640], [0o604]])

    def test_nobody_else_looks_in(self) -> None:
        """The directory, with the rows and the log in it, is its owner's."""
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)

    def test_files_come_back_as_they_were(self) -> None:
        """Configuration and endpoints survive the process; before they are written there are none."""
        config = StoredConfig({"columns": ["id"], "dtypes": ["Number"]}, ManagedConfig("c", 1, "Server0", [], {}))
        endpoints = ServerFile("Server0", "born", "c", 1, 2, Endpoint("127.0.0.1", 3), None)
        self.assertEqual((self.data.read_config(), self.data.read_endpoints()), (None, None))

        self.data.write_config(config)
        self.data.write_endpoints(endpoints)

        self.assertEqual((self.data.read_config(), self.data.read_endpoints()), (config, endpoints))

    def test_damaged_file_is_named(self) -> None:
        """A file that is not what it must be keeps the server from starting, with the file's name."""
        for content in (b"{", b'["\xff"]', b"[" * 100_000, b""):
            (self.path / "config.json").write_bytes(content)

            self.assertIn("config.json is damaged", str(self.assertRaises(DataDirectoryError, self.data.read_config)))
