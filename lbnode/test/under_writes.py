"""Tests of a real balancer that is written to all the time: nothing acknowledged is lost, nothing is refused."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from lbnode.test.test_tap import BalancerProcessCase


class UnderWritesCase(BalancerProcessCase):
    """A balancer with three servers of all shards, and rows on their way to it."""

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
        await self.check_rows()

    async def check_rows(self) -> None:
        """Check that every replica holds every acknowledged row, and no other."""
        for server in self.servers_up:
            _, held = await self.ask("GET", f"/read/{server}")
            rows = {row["Stud_id"] for shard, rows in held.items() if shard != "status" for row in rows}
            self.assertEqual(rows, self.acknowledged, server)

    def assertBegunAnew(self, server: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Check that a server has other data than before, and new replica ids, and that nobody else has."""
        was, now = (state["server_states"][server]["incarnation"] for state in (before, after))
        self.assertNotEqual(now, was)
        for shard in range(4):
            old, new = (
                {one["server"]: one["replica_id"] for one in state["shards"][shard]["replicas"]}
                for state in (before, after)
            )
            self.assertGreater(new.pop(server), max(old.values()))
            self.assertLess(new.items(), old.items())

    servers_up = ("Server0", "Server1", "Server2")
