"""Certificates: whom they name, who may read them, when they are made anew; and the command that makes them."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.tls import CertifiedName, TlsUnusable, name_of
from raftlog.tls.__main__ import main
from raftlog.tls.authority import (
    cluster_id_of,
    ensure,
    is_due,
    issue,
    make_authority,
    parse_process,
    processes_in,
    read_certificate,
)
from raftlog.tls.name import process_file

#: Names made of what separates the parts of a URI, above all.
ODD = st.text(st.sampled_from("/%2F:?#aé"), min_size=1, max_size=4)
NOW = datetime(2030, 6, 1, tzinfo=UTC)


def mode_of(path: Path) -> int:
    """Return a file's permissions."""
    return path.stat().st_mode & 0o777


class NameTests(SynchronousTestCase):
    def test_a_name_covers_itself_only(self) -> None:
        """A server's certificate is for that server, of that cluster, in that role."""
        name = CertifiedName("c1", "server", "A")

        self.assertTrue(name.covers("c1", "server", "A"))
        for other in (("c2", "server", "A"), ("c1", "balancer", "A"), ("c1", "server", "B"), ("c1", "server", "A/1")):
            self.assertFalse(name.covers(*other), other)

    def test_a_balancer_may_tell_its_lives_apart(self) -> None:
        """What a balancer says after a slash is its own business; nobody else's name begins so."""
        name = CertifiedName("c1", "balancer", "lb")

        for own in ("lb", "lb/3f", "lb/3f init"):
            self.assertTrue(name.covers("c1", "balancer", own), own)
        for other in ("lb2", "lb 2", "lb-2", "", "/lb", "l"):
            self.assertFalse(name.covers("c1", "balancer", other), other)

    @given(st.tuples(ODD, ODD), st.tuples(ODD, ODD))
    @settings(derandomize=True, deadline=None, max_examples=200)
    def test_uris_keep_names_apart(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Whatever is in the names of a cluster and a process, their URI is ASCII and nobody else's."""
        uris = [CertifiedName(cluster, "server", name).uri for cluster, name in (one, other)]

        self.assertTrue(all(uri.isascii() for uri in uris))
        self.assertEqual(uris[0] == uris[1], one == other)


class AuthorityTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an authority."""
        self.directory = Path(self.mktemp())
        make_authority(self.directory, "c/1", NOW)

    def test_a_certificate_names_its_process(self) -> None:
        """The name comes back as it was given, odd characters included, and the key is nobody else's to read."""
        for name in ("Server0", "Server 0", "Zoë:é%", "x" * 200):
            path = issue(self.directory, "server", name, NOW)

            self.assertEqual(name_of(read_certificate(path)), CertifiedName("c/1", "server", name))
            self.assertEqual(mode_of(path), 0o600)
        self.assertEqual((mode_of(self.directory), mode_of(self.directory / "ca.key")), (0o700, 0o600))
        self.assertEqual(cluster_id_of(self.directory), "c/1")

    def test_an_authority_is_no_process(self) -> None:
        """The authority's own certificate names nobody, and cannot make further authorities."""
        certificate = read_certificate(self.directory / "ca.pem")

        self.assertIsNone(name_of(certificate))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        self.assertEqual((constraints.ca, constraints.path_length), (True, 0))

    def test_times(self) -> None:
        """A certificate is good for clocks that are a little late, and never outlives its authority."""
        short = read_certificate(issue(self.directory, "server", "A", NOW, 30))
        late = read_certificate(issue(self.directory, "server", "B", NOW, 100_000))

        self.assertTrue(NOW - timedelta(hours=2) < short.not_valid_before_utc < NOW)
        self.assertEqual(short.not_valid_after_utc, NOW + timedelta(days=30))
        self.assertEqual(late.not_valid_after_utc, read_certificate(self.directory / "ca.pem").not_valid_after_utc)

    def test_made_when_needed(self) -> None:
        """A certificate is made if it is not there, and again once less than a third of its time is left."""
        made = [
            ensure(self.directory, "server", "A", NOW + timedelta(days=days), 30) for days in (0, 1, 19, 21, 22, 40, 60)
        ]

        self.assertEqual(made, [True, False, False, True, False, False, True])
        self.assertEqual([(role, name) for role, name, _ in processes_in(self.directory)], [("server", "A")])

    def test_without_the_authoritys_key(self) -> None:
        """Where the key is not, what is there is used however old, and what is not there is asked for by name."""
        issue(self.directory, "server", "A", NOW)
        (self.directory / "ca.key").unlink()

        self.assertFalse(ensure(self.directory, "server", "A", NOW + timedelta(days=400)))
        with self.assertRaisesRegex(TlsUnusable, "server-B.pem is not there.*bin/certificates DIR server:B"):
            ensure(self.directory, "server", "B", NOW)

    def test_bad_names_and_files(self) -> None:
        """Names that no process can have, a second authority and damaged files are refused with the file's name."""
        for name in ("", " ", "a/b", "a\nb"):
            with self.assertRaisesRegex(TlsUnusable, "is no name of a balancer"):
                issue(self.directory, "balancer", name, NOW)
        with self.assertRaisesRegex(TlsUnusable, "has an authority already"):
            make_authority(self.directory, "c2", NOW)
        (self.directory / "ca.key").write_text("no key")
        with self.assertRaisesRegex(TlsUnusable, "ca.key holds no private key"):
            issue(self.directory, "server", "A", NOW)
        with self.assertRaisesRegex(TlsUnusable, "cannot be read"):
            cluster_id_of(self.directory / "nowhere")

    def test_processes_by_name(self) -> None:
        """NAME is a server, ROLE:NAME what it says."""
        self.assertEqual(parse_process("A"), ("server", "A"))
        self.assertEqual(parse_process("balancer:lb"), ("balancer", "lb"))
        with self.assertRaisesRegex(ValueError, "king is no role"):
            parse_process("king:A")


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Choose a directory."""
        self.directory = Path(self.mktemp())

    def run_command(self, *arguments: str) -> tuple[int, str]:
        """Return the command's status and what it said."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main([str(self.directory), *arguments])
        return status, said.getvalue()

    def test_first_run(self) -> None:
        """The first run makes the authority and who is named; the second leaves them."""
        first = self.run_command("Server0", "balancer:lb1", "operator:ops", "--cluster-id", "c1")
        second = self.run_command("Server0")

        self.assertEqual(first[0], 0)
        self.assertIn("the authority of cluster c1", first[1])
        self.assertEqual(second, (0, "server Server0: is there already\n"))
        self.assertEqual(
            sorted(path.name for path in self.directory.iterdir()),
            ["balancer-lb1.pem", "ca.key", "ca.pem", "operator-ops.pem", "server-Server0.pem"],
        )

    def test_renewal(self) -> None:
        """--renew makes anew what is near its end and leaves the rest."""
        self.run_command("A", "B")
        issue(self.directory, "server", "A", datetime.now(UTC) - timedelta(days=300))

        renewed = self.run_command("--renew")

        self.assertEqual(renewed, (0, "server A: made\n"))
        self.assertFalse(is_due(read_certificate(process_file(self.directory, "server", "A")), datetime.now(UTC)))

    def test_replacement(self) -> None:
        """--replace makes anew in any case: the old key is out of use."""
        self.run_command("A")
        before = process_file(self.directory, "server", "A").read_bytes()

        self.assertEqual(self.run_command("A", "--replace"), (0, "server A: made\n"))
        self.assertNotEqual(process_file(self.directory, "server", "A").read_bytes(), before)

    def test_mistakes(self) -> None:
        """Another cluster's id, a role that is none and a missing key are told, and nothing is made."""
        self.run_command("--cluster-id", "c1")

        self.assertIn("is for cluster c1; take another", self.run_command("--cluster-id", "c2")[1])
        self.assertEqual(self.run_command("king:A")[0], 1)
        (self.directory / "ca.key").unlink()
        self.assertIn("nothing can be renewed", self.run_command("--renew")[1])
        self.assertEqual([path.name for path in self.directory.iterdir()], ["ca.pem"])
