"""Tests of benchmarks.client, against servers in memory."""

from __future__ import annotations

from math import inf

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.client import Clocks, ClosedLoop, Follow, Load
from benchmarks.constant import Constant
from benchmarks.measure import Failed
from benchmarks.test.memory import MemoryEndpoint, Recorder

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def request(number: int) -> bytes:
    """Return a request that shows its number."""
    return b"POST /%d HTTP/1.1\r\nContent-Length: 0\r\n\r\n" % number


def accept(index: int, status: int, body: bytes) -> Failed | None:
    """Judge: a 200 is right."""
    return None if status == 200 else Failed(f"{status}", "no")


class ConstantServer(Constant):
    """Answers ANSWER."""

    def __init__(self) -> None:
        super().__init__(ANSWER)


class LoopCase(SynchronousTestCase):
    """Runs a loop of `count` requests over a memory endpoint and a clock."""

    def begin(
        self,
        count: int,
        concurrency: int,
        server: type[Protocol] = Recorder,
        follow: Follow | None = None,
        seconds_max: float = inf,
    ) -> None:
        """Start the loop; its outcome appears in `done`."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(server)
        self.watched: list[int] = []
        loop = ClosedLoop(
            self.clock,
            self.endpoint,
            Load([request(number) for number in range(count)], accept, follow),
            Clocks(wall=self.clock.seconds, cpu=lambda: 0.0),
            concurrency=concurrency,
            deadline_seconds=10,
            watch=self.watched.append,
            seconds_max=seconds_max,
        )
        self.done = loop.run()
        self.clock.advance(0)
        self.endpoint.flush()

    def recorder(self, number: int) -> Recorder:
        """Return the server end of a connection."""
        server = self.endpoint.servers[number]
        assert isinstance(server, Recorder)
        return server

    def answer(self, number: int, data: bytes = ANSWER) -> None:
        """Answer on a connection."""
        transport = self.recorder(number).transport
        assert transport is not None
        transport.write(data)
        self.endpoint.flush()


class Answers(LoopCase):
    def test_all_are_sent_once(self) -> None:
        """Every request is answered, over no more connections than asked for, and none is left open."""
        self.begin(25, 4, ConstantServer)

        measured = self.successResultOf(self.done)

        self.assertEqual(len(measured.latencies), 25)
        self.assertEqual(measured.failures, {})
        self.assertEqual(len(self.endpoint.servers), 4)
        self.assertEqual(self.watched[-1], 25)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_outstanding_per_connection(self) -> None:
        """A worker sends its next request only when the last one is answered."""
        self.begin(3, 2)

        before = [self.recorder(0).received, self.recorder(1).received]
        self.answer(1)

        self.assertEqual(before, [request(0), request(1)])
        self.assertEqual(self.recorder(1).received, request(1) + request(2))

    def test_latency_and_finish(self) -> None:
        """Latency runs from a request's sending, finish from the start of the run."""
        self.begin(2, 1)

        self.clock.advance(1)
        self.answer(0)
        self.clock.advance(2)
        self.answer(0)

        measured = self.successResultOf(self.done)
        self.assertEqual(list(measured.latencies), [1.0, 2.0])
        self.assertEqual(list(measured.finished), [1.0, 3.0])
        self.assertEqual(measured.seconds, 3.0)

    def test_wrong_answer(self) -> None:
        """What the check refuses is a failure under the check's name."""
        self.begin(1, 1)

        self.answer(0, b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")

        self.assertEqual(self.successResultOf(self.done).failures, {0: Failed("409", "no")})

    def test_server_closes_after_an_answer(self) -> None:
        """An answer with Connection: close is a success, and the rest goes over a new connection."""
        self.begin(2, 1)

        self.answer(0, CLOSING)
        self.clock.advance(0)
        self.answer(1)

        self.assertEqual(self.successResultOf(self.done).failures, {})
        self.assertEqual(self.recorder(1).received, request(1))

    def test_no_requests(self) -> None:
        """Nothing to do is done at once."""
        self.begin(0, 3)

        self.assertEqual(len(self.successResultOf(self.done).latencies), 0)


class Failures(LoopCase):
    def test_connection_lost(self) -> None:
        """A request whose connection is lost has an unknown outcome and is not sent again; the others go on."""
        self.begin(2, 1)

        transport = self.recorder(0).transport
        assert transport is not None
        transport.loseConnection()
        self.endpoint.flush()
        self.clock.advance(0)
        self.answer(1)

        self.assertEqual(self.successResultOf(self.done).failures, {0: Failed("connection lost", "unknown")})
        self.assertEqual(self.recorder(1).received, request(1))

    def test_deadline(self) -> None:
        """A request that is not answered in time is given up with its connection."""
        self.begin(1, 1)

        self.clock.pump([0.05] * 205)
        self.endpoint.flush()

        self.assertEqual(self.successResultOf(self.done).failures, {0: Failed("deadline", "unknown")})

    def test_malformed(self) -> None:
        """An answer that is no HTTP is a failure of unknown outcome."""
        self.begin(1, 1)

        self.answer(0, b"what?\r\n\r\n")

        self.assertEqual(self.successResultOf(self.done).failures, {0: Failed("malformed response", "unknown")})

    def test_refused_connections(self) -> None:
        """A refused connection costs one request, certainly not done, and the next is tried a little later."""
        self.begin(3, 1)
        self.endpoint.refuses = True
        transport = self.recorder(0).transport
        assert transport is not None
        transport.loseConnection()
        self.endpoint.flush()
        self.clock.advance(0)

        self.endpoint.refuses = False
        self.clock.advance(0.1)
        self.answer(1)

        self.assertEqual(
            self.successResultOf(self.done).failures,
            {0: Failed("connection lost", "unknown"), 1: Failed("connection refused", "no")},
        )


class Times(LoopCase):
    def test_time_is_over(self) -> None:
        """After its time a loop begins nothing more, waits for what it began, and measures that alone."""
        self.begin(100, 2, seconds_max=1.0)
        self.answer(0)
        self.clock.advance(1.0)
        self.answer(0)
        self.assertNoResult(self.done)

        self.answer(1)

        measured = self.successResultOf(self.done)
        self.assertEqual((len(measured.latencies), len(measured.finished), measured.failures), (3, 3, {}))

    def test_nothing_outstanding(self) -> None:
        """A loop whose time ends while nobody can connect ends with what was refused."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint()
        self.endpoint.refuses = True
        load = Load([request(number) for number in range(1000)], accept)
        clocks = Clocks(wall=self.clock.seconds, cpu=lambda: 0.0)
        loop = ClosedLoop(
            self.clock,
            self.endpoint,
            load,
            clocks,
            concurrency=1,
            deadline_seconds=9,
            watch=lambda over: None,
            seconds_max=0.5,
        )
        done = loop.run()

        self.clock.pump([0.05] * 20)

        measured = self.successResultOf(done)
        self.assertEqual(len(measured.failures), len(measured.latencies))
        self.assertLess(len(measured.latencies), 10)


class Seconds(LoopCase):
    def follow(self, index: int) -> bytes | None:
        """Let request 0 be followed by a second one."""
        self.asked = [*getattr(self, "asked", []), index]
        return request(100) if index == 0 and self.asked.count(0) == 1 else None

    def test_second_request(self) -> None:
        """The second request of an operation follows on the same connection, and the latency is that of both."""
        self.begin(2, 1, follow=self.follow)
        self.clock.advance(0.25)
        self.answer(0)
        self.clock.advance(0.25)
        self.answer(0)
        self.answer(0)

        measured = self.successResultOf(self.done)

        self.assertEqual(list(measured.latencies), [0.5, 0.0])
        self.assertEqual(
            [line for line in self.recorder(0).received.split(b"\r\n") if line.startswith(b"POST")],
            [b"POST /0 HTTP/1.1", b"POST /100 HTTP/1.1", b"POST /1 HTTP/1.1"],
        )

    def test_second_request_fails(self) -> None:
        """An operation whose second request is refused has failed."""
        self.begin(1, 1, follow=self.follow)
        self.answer(0)
        self.answer(0, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

        measured = self.successResultOf(self.done)

        self.assertEqual(measured.failures, {0: Failed("503", "no")})
