"""Real clusters over PostgreSQL: the contract, and engines beside one another in one cluster; slow."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from twisted.internet.task import LoopingCall, deferLater

from dbnode.postgres.orphans import processes_in
from dbnode.test.postgres_rig import need_postgres
from lbnode.test import conformance_changes, conformance_cluster, conformance_http, conformance_reads
from lbnode.test.door import Door, UrlDoor
from lbnode.test.slow_conformance import running_balancer
from lbnode.test.under_writes import UnderWritesCase


class OverPostgres(
    conformance_changes.Writes,
    conformance_changes.Updates,
    conformance_changes.Deletions,
    conformance_changes.Idempotency,
    conformance_reads.Reads,
    conformance_reads.ServerReads,
    conformance_cluster.Init,
    conformance_http.Bodies,
):
    """The contract, as far as storage can make a difference, over servers with a PostgreSQL of their own."""

    def open(self) -> Door:
        """Return a door to the running balancer."""
        need_postgres()
        return UrlDoor(running_balancer("lean", "postgres"))


class EnginesInOneCluster(UnderWritesCase):
    def setUp(self) -> None:
        """Need PostgreSQL."""
        need_postgres()
        super().setUp()

    def storages(self) -> dict[str, str]:
        """Return what each home keeps its shards in."""
        return {path.parent.name: path.read_text().strip() for path in self.data.glob("servers/*/storage")}

    def home(self, state: dict[str, object], server: str) -> Path:
        """Return the directory of a server."""
        states = state["server_states"]
        assert isinstance(states, dict)
        return self.data / "servers" / str(states[server]["home"])

    async def test_new_servers_with_another_engine(self) -> None:
        """Servers keep what they were made with, new ones take the new one; nothing is lost when either is killed."""
        await self.begin()
        await deferLater(self.reactor, 1)
        await self.stop_writing()
        await self.signal(signal.SIGTERM)

        self.start("--storage", "postgres")
        await self.until_ready()
        self.writes = LoopingCall(self._write)
        _ = self.writes.start(0.05)
        added = {"n": 2, "servers": {"Server3": [], "Server4": []}, "replicas": 5}
        self.assertEqual((await self.ask("POST", "/add", added))[0], 200)
        self.assertEqual(sorted(self.storages().values()), ["postgres", "postgres", "sqlite", "sqlite", "sqlite"])

        state = await self.until_whole()
        os.kill(processes_in(self.home(state, "Server3") / "postgres")[0], signal.SIGKILL)
        self.servers()["Server4"].send_signal(signal.SIGKILL)
        self.servers()["Server0"].send_signal(signal.SIGKILL)
        await deferLater(self.reactor, 0.5)
        await self.until_whole()
        await self.check()

    async def test_a_home_that_is_lost(self) -> None:
        """A server whose data is gone begins anew with the storage that new ones get now."""
        await self.begin()
        await deferLater(self.reactor, 1)
        await self.stop_writing()
        await self.signal(signal.SIGTERM)
        self.start("--storage", "postgres")
        await self.until_ready()
        before = await self.until_whole()
        home = self.home(before, "Server1")

        self.servers()["Server1"].send_signal(signal.SIGKILL)
        shutil.rmtree(home)
        await deferLater(self.reactor, 0.2)
        after = await self.until_whole()

        self.assertBegunAnew("Server1", before, after)
        self.assertEqual((self.home(after, "Server1") / "storage").read_text(), "postgres\n")
        await self.check_rows()

    servers_up = ("Server0", "Server1", "Server2")
