"""Real servers that die, lose their data and are paused under writes, and a balancer that lost its disk; slow."""

from __future__ import annotations

import shutil
import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from lbnode.test.test_tap import BalancerProcessCase


class HealingTests(BalancerProcessCase):
    timeout = 300

    def setUp(self) -> None:
        """Have no row yet."""
        super().setUp()
        self.acknowledged: set[int] = set()
        self.refused: list[Any] = []
        self._next = 0
        self._writing: set[Deferred[None]] = set()

    async def begin(self) -> None:
        """Start a balancer with three servers of all shards, and write on."""
        self.start("--auto-init", "default", SERVER_NUMBER="3")
        await self.until_ready()
        self.writes = LoopingCall(self._write)
        _ = self.writes.start(0.05)

    def _write(self) -> None:
        self._next += 1
        writing = Deferred.fromCoroutine(self._one(self._next * 977 % 16384))
        self._writing.add(writing)
        _ = writing.addBoth(lambda _: self._writing.discard(writing))

    async def _one(self, key: int) -> None:
        row = {"Stud_id": key, "Stud_name": "x", "Stud_marks": key}
        status, answer = await self.ask("POST", "/write", {"data": [row]})
        if status == 200:
            self.acknowledged.add(key)
        else:
            self.refused.append(answer)

    async def stop_writing(self) -> None:
        """Write no more, and wait for what is on its way."""
        self.writes.stop()
        for writing in list(self._writing):
            await writing

    async def until_whole(self) -> dict[str, Any]:
        """Wait until every server is up and every replica serves; return the state."""
        while True:
            await deferLater(self.reactor, 0.1)
            _, state = await self.ask("GET", "/status")
            replicas = [replica for shard in state["shards"] for replica in shard["replicas"]]
            servers = state["server_states"].values()
            if all(server["state"] == "up" for server in servers) and all(
                replica["state"] == "serving" and not replica["joining"] and not replica["leaving"]
                for replica in replicas
            ):
                return state  # type: ignore[no-any-return]  # it is JSON

    async def check(self) -> None:
        """Check that no client was refused anything, and that every replica holds every acknowledged row."""
        await self.stop_writing()
        self.assertEqual(self.refused, [])
        self.assertGreater(len(self.acknowledged), 20)
        for server in self.servers_up:
            _, held = await self.ask("GET", f"/read/{server}")
            rows = {row["Stud_id"] for shard, rows in held.items() if shard != "status" for row in rows}
            self.assertEqual(rows, self.acknowledged, server)

    servers_up = ("Server0", "Server1", "Server2")

    async def test_killed(self) -> None:
        """A leader killed with -9 is respawned with its data; no client sees an error."""
        await self.begin()
        for _ in range(3):
            leader = (await self.ask("GET", "/primary_elect"))[1]["sh1"]
            before = self.servers()[leader]
            before.send_signal(signal.SIGKILL)
            await deferLater(self.reactor, 0.2)

            await self.until_whole()

            self.assertNotEqual(self.servers()[leader], before)
        await self.check()

    async def test_data_deleted(self) -> None:
        """Killed and its directory deleted it is back, complete, under new replica ids."""
        await self.begin()
        before = await self.until_whole()
        home = before["server_states"]["Server1"]["home"]
        self.servers()["Server1"].send_signal(signal.SIGKILL)
        shutil.rmtree(self.data / "servers" / home)
        await deferLater(self.reactor, 0.2)

        after = await self.until_whole()

        was, now = (state["server_states"]["Server1"]["incarnation"] for state in (before, after))
        self.assertNotEqual(now, was)
        for shard in range(4):
            old, new = (
                {one["server"]: one["replica_id"] for one in state["shards"][shard]["replicas"]}
                for state in (before, after)
            )
            self.assertGreater(new.pop("Server1"), max(old.values()))
            self.assertLess(new.items(), old.items())
        await self.check()

    async def test_paused(self) -> None:
        """A paused server is down and left alone, and does no harm when it goes on."""
        await self.begin()
        process = self.servers()["Server2"]
        process.send_signal(signal.SIGSTOP)
        await deferLater(self.reactor, 12)

        state = (await self.ask("GET", "/status"))[1]["server_states"]["Server2"]
        process.send_signal(signal.SIGCONT)
        await self.until_whole()

        self.assertEqual(state["state"], "down")
        self.assertIn("no answer within", state["reason"])
        self.assertEqual(self.servers()["Server2"], process)
        await self.check()

    async def test_every_disk_gone(self) -> None:
        """All data deleted: the shards say that they have no majority, and stay so."""
        await self.begin()
        await self.stop_writing()
        for process in self.servers().values():
            process.send_signal(signal.SIGKILL)
        for home in list((self.data / "servers").iterdir()):
            shutil.rmtree(home)
        await deferLater(self.reactor, 15)

        answers = [await self.ask("POST", "/read", {"Stud_id": {"low": 0, "high": 10}}) for _ in range(2)]

        self.assertEqual([(status, answer["code"]) for status, answer in answers], [(503, "no_quorum")] * 2)
        self.assertFalse(list((self.data / "servers").iterdir()))

    async def test_balancer_without_its_disk(self) -> None:
        """Everything of the balancer's is deleted; --rebuild takes the servers up again, with every row."""
        await self.begin()
        await self.until_whole()
        await self.stop_writing()
        before = self.servers()
        await self.signal(signal.SIGKILL)
        for path in (self.data / "catalog", self.data / "identity.json", self.data / "secret"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

        refused = self.start()
        await refused.ended
        self.start("--rebuild")
        await self.until_ready()
        await self.until_whole()

        self.assertIn(b"--rebuild", refused.output)
        self.assertEqual(self.servers(), before)
        _ = self.writes.start(0.05)
        await deferLater(self.reactor, 1)
        await self.check()
