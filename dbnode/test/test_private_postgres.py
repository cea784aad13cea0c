"""A server's own PostgreSQL: made, ended, killed, and found again, wherever its directory is."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dbnode.postgres import programs
from dbnode.postgres.dialling import Dial
from dbnode.postgres.orphans import processes_in
from dbnode.postgres.private import PrivatePostgres
from dbnode.postgres.programs import Programs, find_programs
from dbnode.store import StoreError, StoreUnavailable
from dbnode.test.postgres_rig import need_postgres, turned, waited

_made: list[Path] = []


def made() -> Path:
    """Return a server's directory with a PostgreSQL in it, where no other user may go, far longer than a socket's path.

    It is made once: that is the part that takes long.
    """
    if not _made:
        top = Path(tempfile.mkdtemp(prefix="shardlb-test-"))
        atexit.register(shutil.rmtree, top, ignore_errors=True)
        directory = top / ("x" * 60) / ("y" * 60)
        directory.mkdir(parents=True)
        os.chmod(top, 0o700)
        _made.append(directory)
    return _made[0]


class Running(SynchronousTestCase):
    def setUp(self) -> None:
        """Choose the directory; whatever is started there is ended."""
        from twisted.internet import reactor

        need_postgres()
        self.reactor: Any = reactor
        self.directory = made()
        self.data = self.directory / "postgres"
        self.servers: list[PrivatePostgres] = []
        self.addCleanup(self.stop_all)

    def stop_all(self) -> None:
        """Leave no process behind."""
        for server in self.servers:
            waited(Deferred.fromCoroutine(server.stop()))
        self.assertEqual(processes_in(self.data), [])

    def started(self) -> PrivatePostgres:
        """Return a PostgreSQL that takes connections."""
        self.servers.append(PrivatePostgres(self.reactor, self.directory, None))
        waited(Deferred.fromCoroutine(self.servers[-1].start()))
        return self.servers[-1]

    def sql(self, server: PrivatePostgres, text: str) -> list[tuple[Any, ...]]:
        """Ask it something, as soon as it takes connections."""
        dial = Dial(self.reactor, execute, "test")
        while isinstance(connection := turned(dial(server.parameters("postgres"))), Failure):
            connection.trap(StoreUnavailable)
            waited(deferLater(self.reactor, 0.02))
        try:
            return waited(connection.run((text, ())))
        finally:
            connection.close()

    def test_nobody_else_may_enter(self) -> None:
        """It listens on a socket in its directory only, which belongs to whom it runs as, and never to root."""
        server = self.started()

        found = self.data.stat()
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o700)
        self.assertNotEqual(found.st_uid, 0)
        self.assertTrue((self.data / ".s.PGSQL.5432").is_socket())
        self.assertEqual(self.sql(server, "SHOW listen_addresses"), [("",)])
        self.assertEqual(Path(f"/proc/{server.pid}").stat().st_uid, found.st_uid)

    def test_it_keeps_what_it_has(self) -> None:
        """What was stored is there after the end and another start, and nothing runs in between."""
        server = self.started()
        self.sql(server, "CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS number")

        waited(Deferred.fromCoroutine(server.stop()))

        self.assertEqual(processes_in(self.data), [])
        self.assertEqual(self.sql(self.started(), "SELECT number FROM kept"), [(7,)])

    def test_killed_it_is_started_again(self) -> None:
        """A PostgreSQL that dies under a running server comes back by itself."""
        server = self.started()
        before = server.pid

        os.kill(before, signal.SIGKILL)
        self.assertEqual(self.sql(server, "SELECT 1"), [(1,)])
        while server.pid in (0, before):
            waited(deferLater(self.reactor, 0.02))

        self.assertEqual(self.sql(server, "SELECT 1"), [(1,)])

    def test_what_a_killed_server_left_is_ended(self) -> None:
        """A PostgreSQL that still runs on the directory is shut down before there is another one."""
        left = self.started()
        left._stopping = True
        before = left.pid

        server = self.started()

        self.assertNotEqual(server.pid, before)
        self.assertNotIn(before, processes_in(self.data))
        self.assertEqual(self.sql(server, "SELECT 1"), [(1,)])

    def test_a_number_that_is_another_process_now(self) -> None:
        """A file that names some other process as the running PostgreSQL holds nothing up."""
        waited(Deferred.fromCoroutine(self.started().stop()))
        (self.data / "postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n0\n5432\n.\n\n")
        shutil.chown(self.data / "postmaster.pid", self.data.stat().st_uid)

        self.assertEqual(self.sql(self.started(), "SELECT 1"), [(1,)])

    def test_it_ends_with_its_server(self) -> None:
        """When the process that started it is killed, the kernel has it shut down."""
        server = self.started()

        fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()

        self.assertEqual(fields[1], str(os.getpid()))
        self.assertEqual(fields[3], str(server.pid), "it has a session of its own")


class Failing(SynchronousTestCase):
    def test_missing_programs(self) -> None:
        """Without PostgreSQL's programs there is a word on how to get them."""
        from twisted.internet import reactor

        directory = Path(self.mktemp())
        (directory / "empty").mkdir(parents=True)
        server = PrivatePostgres(reactor, directory, directory / "empty")

        failure = turned(Deferred.fromCoroutine(server.start()))

        assert isinstance(failure, Failure)
        self.assertIn("--postgres-programs must name PostgreSQL's folder", str(failure.value))
        self.assertFalse((directory / "postgres").exists())

    def test_failing_programs(self) -> None:
        """An initdb that fails leaves nothing behind, and its words are in the error."""
        from twisted.internet import reactor

        # Where whom it runs as may enter.
        directory = Path(tempfile.mkdtemp(prefix="shardlb-test-"))
        self.addCleanup(shutil.rmtree, directory)
        directory.chmod(0o755)
        folder = folder_of_programs(directory / "bin", "#!/bin/sh\necho no room here >&2\nexit 1\n")
        server = PrivatePostgres(reactor, directory, folder)

        failure = turned(Deferred.fromCoroutine(server.start()))

        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, StoreError)
        self.assertIn("no room here", str(failure.value))
        self.assertFalse((directory / "postgres").exists())


def folder_of_programs(folder: Path, text: str = "#!/bin/sh\n") -> Path:
    """Return a folder with both programs."""
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


class Finding(SynchronousTestCase):
    def setUp(self) -> None:
        """Stand in for the places of distributions."""
        self.root = Path(self.mktemp()).absolute()
        self.patch(programs, "_PATTERNS", (f"{self.root}/lib/*/bin",))

    def test_the_path_comes_first(self) -> None:
        """What is on the path is what the operator means; else the newest release there is."""
        old, new = (folder_of_programs(self.root / "lib" / release / "bin") for release in ("9", "15"))
        on_path = folder_of_programs(self.root / "mine")

        self.assertEqual(find_programs(None, str(on_path), None), Programs(on_path / "initdb", on_path / "postgres"))
        self.assertEqual(find_programs(None, "/nowhere", None).postgres, new / "postgres")
        self.assertEqual(find_programs(None, str(on_path), "9").postgres, old / "postgres")

    def test_half_is_nothing(self) -> None:
        """A folder with one of the two (a client's) does not count."""
        folder = folder_of_programs(self.root / "lib" / "15" / "bin")
        (folder / "initdb").unlink()

        error = self.assertRaises(StoreError, find_programs, None, "/nowhere", None)

        self.assertIn("apt-get install postgresql", str(error))
        self.assertIn("--storage postgresql://", str(error))

    def test_another_release_is_missing(self) -> None:
        """Files of one release need that release."""
        error = self.assertRaises(StoreError, find_programs, None, "/nowhere", "14")

        self.assertIn("of release 14", str(error))
        self.assertIn("postgresql-14", str(error))
