"""Tests of benchmarks.door."""

from __future__ import annotations

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.door import Door, UnexpectedAnswerError, UnreachableError, host_and_port
from benchmarks.process import free_port
from benchmarks.test.serving import ServedCase


class Asking(ServedCase):
    async def test_json(self) -> None:
        """The decoded body of a 200 is returned."""
        answer = await self.door.json("POST", "/write", {"data": [{"Stud_id": 5}]})

        self.assertEqual(answer, {"message": "1 Data entries added", "status": "success"})
        self.assertEqual(self.balancer.rows, {5: {"Stud_id": 5}})

    async def test_without_status(self) -> None:
        """Answers that list shards come without the status among them."""
        leaders = await self.door.leaders()
        rows = await self.door.rows_on("Server0")

        self.assertEqual(sorted(leaders), ["sh1", "sh2", "sh3", "sh4"])
        self.assertEqual(rows, {"sh1": [], "sh2": []})

    async def test_refused(self) -> None:
        """Another status is an error that shows it and the body."""
        with self.assertRaises(UnexpectedAnswerError) as caught:
            await self.door.json("GET", "/nowhere")

        self.assertEqual(caught.exception.status, 404)
        self.assertIn("unknown_path", str(caught.exception))

    async def test_nobody(self) -> None:
        """A port where nobody listens is unreachable."""
        door = Door(self.reactor, "127.0.0.1", free_port())

        with self.assertRaises(UnreachableError):
            await door.json("GET", "/status")


class CutsOff(Protocol):
    """Answers less than it announces, and closes."""

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        self.transport.loseConnection()


class BrokenAnswers(ServedCase):
    async def test_cut_off(self) -> None:
        """An answer that breaks off is no answer, not a short one."""
        factory = Factory.forProtocol(CutsOff)
        factory.noisy = False
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        with self.assertRaises(UnreachableError):
            await Door(self.reactor, "127.0.0.1", port.getHost().port).ask("GET", "/read/Server0")


class Addresses(SynchronousTestCase):
    def test_urls(self) -> None:
        """A URL gives host and port; port 80 is HTTP's own."""
        self.assertEqual(host_and_port("http://127.0.0.1:5000"), ("127.0.0.1", 5000))
        self.assertEqual(host_and_port("http://lb/"), ("lb", 80))

    def test_others(self) -> None:
        """Anything but http://host:port is refused."""
        for url in ("127.0.0.1:5000", "https://h:1", "http://", "http://h:1/path", "http://h:1?q=1"):
            self.assertRaises(ValueError, host_and_port, url)


class Deadlines(SynchronousTestCase):
    def test_nobody_accepts(self) -> None:
        """A connection that is not made within the deadline is given up."""
        reactor = MemoryReactorClock()
        done = ensureDeferred(Door(reactor, "127.0.0.1", 1).ask("GET", "/status", deadline_seconds=5))

        reactor.advance(5)

        self.failureResultOf(done, UnreachableError)

    def test_cancelled(self) -> None:
        """A cancelled request is not taken for one that nobody answers: a loop that waits for a server must end."""
        reactor = MemoryReactorClock()
        done = ensureDeferred(Door(reactor, "127.0.0.1", 1).ask("GET", "/status"))

        done.cancel()

        self.failureResultOf(done, ConnectingCancelledError)
