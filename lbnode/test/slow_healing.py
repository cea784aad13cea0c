"""Real servers that die, lose their data and are paused under writes, and a balancer that lost its disk; slow."""

from __future__ import annotations

import shutil
import signal

from twisted.internet.task import deferLater

from lbnode.test.under_writes import UnderWritesCase


class HealingTests(UnderWritesCase):
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

        self.assertBegunAnew("Server1", before, after)
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
