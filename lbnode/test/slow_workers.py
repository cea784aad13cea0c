"""`twistd shardlb --workers 2` as real processes: they share the work, come back, and end with their balancer."""

from __future__ import annotations

import os
import signal
import socket

from twisted.internet.task import deferLater

from lbnode.test.test_tap import ALL, ROWS
from lbnode.test.test_worker_process import WorkerCase

_THREE_SERVERS = ("--auto-init", "default", "--server-number", "3")


class WorkerTests(WorkerCase):
    async def test_both_serve(self) -> None:
        """Connections are dealt out among the workers, which all see what any of them wrote."""
        await self.serving(*_THREE_SERVERS)

        pids = await self.answering(2)

        self.assertEqual(pids, {worker.pid for worker in self.workers()})
        self.assertEqual((await self.ask("POST", "/write", {"data": ROWS}))[0], 200)
        for _ in range(10):
            self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)

    async def test_a_worker_is_killed(self) -> None:
        """The other one goes on serving whoever connects; soon there are two again."""
        await self.serving(*_THREE_SERVERS)
        victim = self.workers()[0]

        victim.send_signal(signal.SIGKILL)
        # Until its last thread is gone its socket may take connections, which it then loses.
        await self.until(lambda: not os.path.exists(f"/proc/{victim.pid}"))
        for _ in range(20):
            self.assertEqual((await self.ask("POST", "/read", ALL))[0], 200)
        await self.until(lambda: len(self.workers()) == 2)

        self.assertNotIn(victim.pid, await self.answering(2))

    async def test_the_balancer_is_killed(self) -> None:
        """Its workers end by themselves; the next balancer takes the port at once, and has others."""
        await self.serving(*_THREE_SERVERS)
        self.assertEqual((await self.ask("POST", "/write", {"data": ROWS}))[0], 200)
        before = self.workers()

        await self.signal(signal.SIGKILL)
        self.start("--workers", "2")
        await self.until(lambda: not any(worker.is_alive() for worker in before))
        await self.until_ready()

        self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)

    async def test_an_orderly_end(self) -> None:
        """Nothing is left behind, and nobody listens any more."""
        await self.serving(*_THREE_SERVERS)

        await self.signal(signal.SIGTERM)

        self.assertEqual((self.workers(), any(one.is_alive() for one in self.servers().values())), ([], False))
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port))

    async def test_what_keeps_workers_from_serving(self) -> None:
        """A port that is taken, or cannot be shared, ends the balancer before anything is started."""
        taken = socket.create_server(("127.0.0.1", self.port))
        self.addCleanup(taken.close)
        unable = self.start("--workers", "1", *_THREE_SERVERS)
        await unable.ended
        anywhere = self.start("--workers", "1", "--port", "tcp:0")
        await anywhere.ended

        self.assertIn(b"cannot start: Couldn't listen on 127.0.0.1", unable.output)
        self.assertIn(b"--port tcp:0 with --workers: port 0 cannot be shared", anywhere.output)
        self.assertEqual((self.workers(), self.servers()), ([], {}))


class FollowerTests(WorkerCase):
    async def test_a_follower_outlives_its_balancer(self) -> None:
        """It serves on by what it knows while there is no balancer, and follows the next one."""
        self.start(*_THREE_SERVERS)
        await self.until_ready()
        balancer_port, balancer = self.port, self.balancers.pop()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.run_shardlb("--follow", f"http://127.0.0.1:{balancer_port}", "--secret-file", str(self.data / "secret"))
        await self.until_ready()
        self.balancers.insert(0, balancer)

        balancer[1].signalProcess("KILL")
        await balancer[0].ended
        self.assertEqual((await self.ask("POST", "/write", {"data": ROWS}))[0], 200)
        self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)
        self.assertIsNone((await self.ask("GET", "/readyz"))[1]["follower"]["balancer"])
        self.assertEqual((await self.ask("POST", "/rm", {"n": 1}))[1]["code"], "no_controller")

        self.start(PORT=str(balancer_port))
        while (await self.ask("GET", "/readyz"))[1].get("follower", {}).get("balancer") is None:
            await deferLater(self.reactor, 0.05)
        self.assertEqual((await self.ask("POST", "/rm", {"n": 1}))[0], 200)
        self.assertEqual((await self.ask("GET", "/rep"))[1]["message"]["N"], 2)
        self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)
