"""How the addresses of peers are dialled."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link.identity import Endpoint
from raftlog.link.links import dial_tcp
from raftlog.link.options import LinkOptions


class DialTests(SynchronousTestCase):
    def test_refused_at_once(self) -> None:
        """That nobody listens at a number is known with the first answer, of either version of IP."""
        for host in ("192.0.2.1", "2001:db8::1"):
            reactor = MemoryReactorClock()
            dialled = dial_tcp(reactor, LinkOptions(dial_seconds=3.5))(Endpoint(host, 4000)).connect(Factory())
            self.assertNoResult(dialled)
            (attempt,) = reactor.tcpClients
            self.assertEqual((attempt[0], attempt[1], attempt[3]), (host, 4000, 3.5))

            attempt[2].clientConnectionFailed(reactor.connectors[0], Failure(ConnectionRefusedError()))

            self.failureResultOf(dialled, ConnectionRefusedError)
