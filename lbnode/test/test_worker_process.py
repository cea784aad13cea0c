"""A worker as a real process: what it serves, and that it knows what it promised for another."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater

from lbnode.launchers.processes import Process, with_argument
from lbnode.test.test_tap import BalancerProcessCase


class WorkerCase(BalancerProcessCase):
    async def end_all(self) -> None:
        """Leave nothing running, workers included."""
        await super().end_all()
        for worker in self.workers():
            worker.send_signal(signal.SIGKILL)

    def workers(self) -> list[Process]:
        """Return the workers of the balancer, in any order."""
        return with_argument("--secret-file", str(self.data / "secret"))

    async def answering(self, least: int) -> set[int]:
        """Ask again and again until so many processes have answered; return their ids."""
        pids: set[int] = set()
        while len(pids) < least:
            pids.add((await self.ask("GET", "/status"))[1]["follower"]["pid"])
        return pids

    async def until(self, condition: Any) -> None:
        """Wait until something is so."""
        while not condition():
            await deferLater(self.reactor, 0.05)

    async def until_it_answers(self) -> None:
        """Wait until somebody listens."""
        while True:
            try:
                await self.answering(2)
                return
            except ConnectError:
                await deferLater(self.reactor, 0.05)

    async def serving(self, *arguments: str) -> None:
        """Start a balancer with two workers, and wait until both answer."""
        self.start("--workers", "2", *arguments)
        await self.until_ready()
        await self.until(lambda: len(self.workers()) == 2)
        await self.answering(2)


class WorkerTests(WorkerCase):
    def file_with(self, content: bytes | None) -> Path:
        """Return the path of a file with this content, or of none."""
        path = Path(self.mktemp()).absolute()
        if content is not None:
            path.write_bytes(content)
        return path

    async def test_a_table_made_through_a_worker(self) -> None:
        """What changes the cluster goes to the balancer, and all workers know the result when it is answered."""
        self.start("--workers", "2")
        await self.until(lambda: len(self.workers()) == 2)
        await self.until_it_answers()
        table = {"N": 1, "schema": {"columns": ["Id"], "dtypes": ["Number"]}, "replicas": 1}
        shards = [{"Id_low": 0, "Shard_id": "sh1", "Shard_size": 10}]

        self.assertEqual((await self.ask("POST", "/init", {**table, "shards": shards}))[0], 200)

        for id_ in range(10):
            self.assertEqual((await self.ask("POST", "/write", {"data": [{"Id": id_}]}))[0], 200)

    async def test_what_keeps_a_follower_from_starting(self) -> None:
        """Without the cluster's secret nobody follows; which file was meant is told."""
        for content, words in ((None, b"No such file"), (b"short", b"needs")):
            secret = self.file_with(content)
            unable = self.run_shardlb("--follow", "http://127.0.0.1:1", "--secret-file", str(secret))
            await unable.ended

            self.assertIn(f"cannot start: --secret-file {secret}".encode(), unable.output)
            self.assertIn(words, unable.output)
