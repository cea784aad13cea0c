"""Tests of benchmarks.constant."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.constant import Constant

REQUEST = b"POST /write HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n{  }"


class Answers(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect."""
        self.protocol = Constant(b"answer;")
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def test_byte_by_byte(self) -> None:
        """A request is answered when its last byte is there, and not before."""
        for position in range(len(REQUEST) - 1):
            self.protocol.dataReceived(REQUEST[position : position + 1])
        before = self.transport.value()
        self.protocol.dataReceived(REQUEST[-1:])

        self.assertEqual(before, b"")
        self.assertEqual(self.transport.value(), b"answer;")

    def test_several_at_once(self) -> None:
        """Requests that come together are all answered."""
        self.protocol.dataReceived(REQUEST * 3)

        self.assertEqual(self.transport.value(), b"answer;" * 3)
