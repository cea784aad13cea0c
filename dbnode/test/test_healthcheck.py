"""The check that images run, against a real port."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import ErrorPage, Resource
from twisted.web.server import Site

from dbnode.healthcheck import answers
from raftlog.tls import MutualTls, TlsRole
from raftlog.tls.authority import issue, make_authority

BALANCERS: tuple[TlsRole, ...] = ("balancer",)


class HealthcheckTests(TestCase):
    def setUp(self) -> None:
        """Serve a page, beside which there is none."""
        from twisted.internet import reactor

        anything: Any = reactor
        self.reactor = anything
        root = Resource()
        root.putChild(b"healthy", ErrorPage(200, "OK", ""))
        port = anything.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"

    async def test_in_mutual_tls(self) -> None:
        """A server that lets in only who has a certificate is healthy if it asks for one."""
        certificates = Path(self.mktemp())
        make_authority(certificates, "c1", datetime.now(UTC))
        issue(certificates, "server", "A", datetime.now(UTC))
        tls = MutualTls(self.reactor, certificates, "server", "A")
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        port: Any = await tls.server(endpoint, BALANCERS).listen(Site(Resource()))
        self.addCleanup(port.stopListening)

        self.assertTrue(await deferToThread(answers, f"http://127.0.0.1:{port.getHost().port}/heartbeat"))

    async def test_answers(self) -> None:
        """Only a 200 is an answer; no server is none."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"

        self.assertTrue(await deferToThread(answers, f"{self.url}/healthy"))
        self.assertFalse(await deferToThread(answers, f"{self.url}/elsewhere"))
        self.assertFalse(await deferToThread(answers, nobody))
