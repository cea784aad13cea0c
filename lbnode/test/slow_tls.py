"""A cluster in mutual TLS that loses processes, grows, and has its certificates renewed while it runs."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path

from twisted.internet.task import deferLater

from lbnode.test.test_tap import ALL, ROWS, BalancerProcessCase
from raftlog.tls.authority import cluster_id_of, issue, make_authority, processes_in


class TlsClusterTests(BalancerProcessCase):
    timeout = 240

    def setUp(self) -> None:
        """Make an authority and nothing else."""
        super().setUp()
        self.certificates = Path(self.mktemp()).absolute()
        make_authority(self.certificates, "c1", datetime.now(UTC))

    async def begin(self) -> None:
        """Start a balancer with three servers in TLS, and write."""
        self.start("--auto-init", "default", "--tls-dir", str(self.certificates), SERVER_NUMBER="3")
        await self.until_ready()
        self.assertEqual((await self.ask("POST", "/write", {"data": ROWS}))[0], 200)

    async def until_read(self) -> None:
        """Wait until everything is read as it was written."""
        await self.until_ready()
        self.assertEqual((await self.ask("POST", "/read", ALL))[1]["data"], ROWS)

    async def test_through_deaths(self) -> None:
        """Servers come back in TLS, also with a new balancer that finds them running; new ones get certificates."""
        await self.begin()
        first = self.servers()
        self.assertEqual(cluster_id_of(self.certificates), (await self.ask("GET", "/status"))[1]["cluster_id"])

        await self.signal(signal.SIGKILL)
        self.start("--tls-dir", str(self.certificates))
        await self.until_read()
        self.assertEqual(self.servers(), first)

        first["Server0"].send_signal(signal.SIGKILL)
        while self.servers()["Server0"] == first["Server0"]:
            await deferLater(self.reactor, 0.05)
        grown = await self.ask("POST", "/add", {"n": 1, "servers": {"Server9": []}})
        await self.until_read()

        self.assertEqual(grown[0], 200, grown)
        self.assertIn(("server", "Server9"), [process[:2] for process in processes_in(self.certificates)])
        await self.signal(signal.SIGTERM)
        self.assertFalse(any(process.is_alive() for process in self.servers().values()))

    async def test_renewed_while_it_runs(self) -> None:
        """With new keys and certificates for all, connections that break come up again, and nothing is restarted."""
        await self.begin()
        first = self.servers()
        for role, name, _ in processes_in(self.certificates):
            issue(self.certificates, role, name, datetime.now(UTC))

        # A paused server is silent for so long that its links break.
        first["Server1"].send_signal(signal.SIGSTOP)
        await deferLater(self.reactor, 5.0)
        first["Server1"].send_signal(signal.SIGCONT)
        log = self.data / "servers" / "Server1" / "server.log"
        while b"again" not in log.read_bytes():
            await deferLater(self.reactor, 0.05)
        await self.until_read()

        self.assertEqual(self.servers(), first)

    async def test_certificates_of_another_cluster(self) -> None:
        """A balancer whose certificates are for another cluster says which it needs."""
        self.start()
        await self.until_listening()
        await self.signal(signal.SIGTERM)

        foreign = self.start("--tls-dir", str(self.certificates))
        await foreign.ended

        self.assertIn(b"is for cluster c1", foreign.output)
        self.assertIn(b"bin/certificates DIR --cluster-id", foreign.output)

    async def until_listening(self) -> None:
        """Wait until the balancer says that it serves."""
        running, _ = self.balancers[-1]
        while b"serving at" not in running.output:
            self.assertFalse(running.ended.called, running.output)
            await deferLater(self.reactor, 0.05)
