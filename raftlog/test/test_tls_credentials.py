"""A process's own files for TLS: what is wrong with them is told, and new ones are taken up while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from raftlog.tls import CertifiedName, TlsUnusable
from raftlog.tls.authority import issue, make_authority
from raftlog.tls.credentials import Credentials
from raftlog.tls.name import authorities, process_file


class CredentialsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make the certificate of server A."""
        self.directory = Path(self.mktemp())
        make_authority(self.directory, "c1", datetime.now(UTC))
        self.file = issue(self.directory, "server", "A", datetime.now(UTC))

    def load(self) -> Credentials:
        """Read the files."""
        return Credentials(self.directory, "server", "A")

    def check_unusable(self, why: str) -> None:
        """Check that the files are refused, and that the text names the one that is to blame."""
        with self.assertRaisesRegex(TlsUnusable, why):
            self.load()

    def warnings(self) -> list[str]:
        """Return what is warned of while the files are read."""
        with capturedLogs() as events:
            self.load()
        return [event["log_format"] for event in events if event["log_level"].name == "warn"]

    def test_good_files(self) -> None:
        """They say who we are, and nothing is to be warned of."""
        self.assertEqual(self.load().own, CertifiedName("c1", "server", "A"))
        self.assertEqual(self.warnings(), [])

    def test_a_key_for_all_eyes(self) -> None:
        """A key that others may read is used, and warned of."""
        self.file.chmod(0o640)

        self.assertIn("others may use it", self.warnings()[0])

    def test_near_its_end(self) -> None:
        """A certificate that should be renewed is used, and warned of."""
        issue(self.directory, "server", "A", datetime.now(UTC) - timedelta(days=25), 30)

        self.assertIn("expires at", self.warnings()[0])

    def test_files_that_do_not_fit(self) -> None:
        """Another's certificate, a foreign key, damage and absence are told apart."""
        good = self.file.read_bytes()
        key, certificate = good.split(b"-----BEGIN CERT", 1)
        other = issue(self.directory, "server", "B", datetime.now(UTC)).read_bytes()
        self.file.write_bytes(other)
        self.check_unusable("server-A.pem is of server B of cluster c1; it must be of server A")
        self.file.write_bytes(other.split(b"-----BEGIN CERT")[0] + b"-----BEGIN CERT" + certificate)
        self.check_unusable("server-A.pem cannot be used for TLS: .*mismatch")
        self.file.write_bytes(b"-----BEGIN CERT" + certificate)
        self.check_unusable("server-A.pem cannot be used for TLS")
        self.file.write_bytes(key)
        self.check_unusable("server-A.pem holds no certificate")
        self.file.write_bytes(good)
        authorities(self.directory).write_bytes(b"")
        self.check_unusable("ca.pem cannot be used for TLS")
        self.file.unlink()
        self.check_unusable("server-A.pem cannot be read")

    def test_taken_up_while_it_runs(self) -> None:
        """Files that change are read for the next connection; those that are no good leave the former in force."""
        credentials = self.load()
        first = credentials.context()
        self.assertIs(credentials.context(), first)

        issue(self.directory, "server", "A", datetime.now(UTC))
        second = credentials.context()
        process_file(self.directory, "server", "A").write_bytes(b"damaged")
        with capturedLogs() as events:
            third, again = credentials.context(), credentials.context()

        self.assertIsNot(second, first)
        self.assertIs(third, second)
        self.assertIs(again, second)
        self.assertEqual([event["log_format"] for event in events], ["the certificate in use stays: {error}"])
