"""The check that images run, against a real port."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import ErrorPage, Resource
from twisted.web.server import Site

from dbnode.healthcheck import answers


class HealthcheckTests(TestCase):
    def setUp(self) -> None:
        """Serve a page, beside which there is none."""
        from twisted.internet import reactor

        anything: Any = reactor
        root = Resource()
        root.putChild(b"healthy", ErrorPage(200, "OK", ""))
        port = anything.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"

    async def test_answers(self) -> None:
        """Only a 200 is an answer; no server is none."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"

        self.assertTrue(await deferToThread(answers, f"{self.url}/healthy"))
        self.assertFalse(await deferToThread(answers, f"{self.url}/elsewhere"))
        self.assertFalse(await deferToThread(answers, nobody))
