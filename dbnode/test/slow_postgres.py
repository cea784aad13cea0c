"""Servers over PostgreSQL, alone and beside SQLite, killed under load as their PostgreSQL is: `make test-slow`.

SEED=n chooses victims and pauses (the default is another one each time), KILLS=n how many of each test.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dbnode.postgres.private import PrivatePostgres
from dbnode.test.postgres_rig import need_postgres
from dbnode.testing.kill_loop import KillLoop

SERVERS = ("Server0", "Server1", "Server2")


class SlowPostgresTests(TestCase):
    timeout = 600

    def setUp(self) -> None:
        """Need PostgreSQL."""
        need_postgres()

    def survived(self, kills: int, storages: Mapping[str, str], shared: Path | None = None) -> Deferred[None]:
        """Run a loop of kills, and say what happened."""
        from twisted.internet import reactor

        seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
        kills = int(os.environ.get("KILLS") or kills)
        began = reactor.seconds()
        loop = KillLoop(reactor, Path(self.mktemp()).absolute(), seed, kills, storages, shared)

        ran = Deferred.fromCoroutine(loop.run())

        def show(outcome: object) -> object:
            seconds = reactor.seconds() - began
            told = [f"seed {seed}, {seconds:.0f} s:", *(f"  {what}: {n}" for what, n in sorted(loop.happened.items()))]
            sys.stdout.write("\n" + "\n".join(told) + "\n")
            return outcome

        return ran.addBoth(show).addCallback(lambda _: self.assertGreater(loop.happened["changes acknowledged"], kills))

    def test_nothing_acknowledged_is_lost(self) -> Deferred[None]:
        """Whoever is killed, nothing acknowledged is lost, nothing is applied twice, and replicas end up equal."""
        return self.survived(25, dict.fromkeys(SERVERS, "postgres"))

    def test_engines_beside_one_another(self) -> Deferred[None]:
        """So it is where one server keeps its shards in SQLite, and replicas are equal across engines."""
        return self.survived(25, {"Server0": "postgres", "Server1": "postgres"})

    def test_shared_database(self) -> Deferred[None]:
        """Servers that share a database keep out of each other's tables, and all wait together while it is gone."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        return Deferred.fromCoroutine(self.with_shared_database(directory))

    async def with_shared_database(self, directory: Path) -> None:
        """Have a PostgreSQL of the test's own for all servers."""
        from twisted.internet import reactor

        server = PrivatePostgres(reactor, directory, None)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        socket = server.parameters("postgres")["host"].replace("self", str(os.getpid()))
        dsn = f"postgresql://shardlb@/postgres?host={quote(socket, safe='')}"

        await self.survived(15, dict.fromkeys(SERVERS, dsn), directory / "postgres")
