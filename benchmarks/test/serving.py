"""A fake balancer on a real port, for tests that need one."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from benchmarks.door import Door
from benchmarks.test.balancer import FakeBalancer
from benchmarks.workloads import A_1


class ServedCase(TestCase):
    """Serves `balancer` of workload A-1 at `door` while a test runs."""

    def setUp(self) -> None:
        """Listen on a free port."""
        from twisted.internet import reactor

        self.reactor = cast(Any, reactor)
        self.balancer = FakeBalancer(A_1)
        site = Site(self.balancer)
        site.noisy = False
        site.log = lambda request: None  # type: ignore[method-assign]  # no access log among the test's output
        port = self.reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port_number: int = port.getHost().port
        self.door = Door(reactor, "127.0.0.1", self.port_number)
