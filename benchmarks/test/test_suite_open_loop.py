"""Tests of benchmarks.suite.open_loop under a clock of the test's own."""

from __future__ import annotations

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.client import Clocks, Load
from benchmarks.constant import Constant
from benchmarks.measure import Failed
from benchmarks.suite.latency import open_sample, worst_by_second
from benchmarks.suite.open_loop import OpenLoop
from benchmarks.test.memory import MemoryEndpoint, Recorder
from benchmarks.usage import Usage

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
TICK = 0.01


def accept(index: int, status: int, body: bytes) -> Failed | None:
    """Judge: a 200 is right."""
    return None if status == 200 else Failed(f"{status}", "no")


class Answering(Constant):
    """Answers every request at once."""

    def __init__(self) -> None:
        super().__init__(ANSWER)


class OpenCase(SynchronousTestCase):
    """Sends 100 requests per second; bytes move every 10 ms unless the network stands still."""

    def begin(self, count: int, connections: int, server: type[Protocol] = Answering, deadline: float = 60.0) -> None:
        """Start a loop; its outcome appears in `done`."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(server)
        loop = OpenLoop(
            self.clock,
            self.endpoint,
            Load([REQUEST] * count, accept),
            Clocks(wall=self.clock.seconds, cpu=lambda: 0.0),
            rate_per_second=100,
            connections=connections,
            deadline_seconds=deadline,
            watch=lambda over: None,
        )
        self.done = loop.run()
        self.clock.advance(0)
        self.endpoint.flush()

    def pass_time(self, seconds: float, *, stalled: bool = False) -> None:
        """Let time pass in ticks."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            if not stalled:
                self.endpoint.flush()

    def recorder(self, number: int) -> Recorder:
        """Return the server's end of a connection that answers nothing by itself."""
        server = self.endpoint.servers[number]
        assert isinstance(server, Recorder)
        return server


class Schedule(OpenCase):
    def test_rate(self) -> None:
        """Requests go when they are due, one every 10 ms, whether or not earlier ones were answered."""
        self.begin(100, 50, Recorder)

        self.pass_time(0.3)

        sent = sum(self.recorder(number).received.count(b"POST") for number in range(50))
        self.assertIn(sent, (30, 31))
        self.assertNoResult(self.done)

    def test_all_connections_first(self) -> None:
        """All connections are open before the first request is due."""
        self.begin(5, 4)

        self.assertEqual(len(self.endpoint.servers), 4)
        self.pass_time(1)
        self.assertEqual(len(self.endpoint.servers), 4)
        self.assertEqual(self.successResultOf(self.done).measured.failures, {})

    def test_stalled_server(self) -> None:
        """A stall of one second shows in all requests that were due meanwhile, not only in those outstanding."""
        self.begin(300, 2)
        self.pass_time(1)
        self.pass_time(1, stalled=True)
        self.pass_time(2)

        found = self.successResultOf(self.done)

        latencies = list(found.measured.latencies)
        self.assertLessEqual(max(latencies[:95]), 2 * TICK)
        self.assertGreaterEqual(max(latencies), 0.98)
        slow = sum(latency > 0.5 for latency in latencies)
        self.assertGreaterEqual(slow, 48)
        sample = open_sample(found, Usage({}, []))
        self.assertGreater(sample.figures["p99_ms"], 900)
        self.assertGreater(sample.figures["pause_ms"], 900)
        self.assertGreater(sample.figures["late_p99_ms"], 900)

    def test_figures(self) -> None:
        """A sample has the spectrum up to the worst, and the worst of each second."""
        self.begin(200, 5)
        self.pass_time(3)

        sample = open_sample(self.successResultOf(self.done), Usage({}, []))

        self.assertEqual(sample.curves["spectrum_ms"][-1], sample.figures["max_ms"])
        self.assertEqual(sample.curves["spectrum_ms"], sorted(sample.curves["spectrum_ms"]))
        self.assertIn(len(sample.curves["worst_ms_by_second"]), (2, 3))
        self.assertLess(abs(sample.figures["rate_per_second"] - 100), 2)

    def test_worst_by_second(self) -> None:
        """A second without answers has no worst."""
        self.assertEqual(worst_by_second([(0.1, 5.0), (0.9, 3.0), (2.5, 7.0)]), [5.0, 0.0, 7.0])


class Failures(OpenCase):
    def test_deadline(self) -> None:
        """What is not answered in time has an unknown outcome; what was never sent was not done."""
        self.begin(10, 1, Recorder, deadline=0.5)

        self.pass_time(3, stalled=True)
        self.pass_time(3)

        failures = self.successResultOf(self.done).measured.failures
        self.assertEqual(len(failures), 10)
        self.assertEqual(failures[0], Failed("deadline", "unknown"))
        self.assertIn(Failed("never sent", "no"), failures.values())

    def test_connection_lost(self) -> None:
        """A lost connection fails its request alone, and another one is opened."""
        self.begin(20, 1, Recorder)
        self.pass_time(0.02)
        transport = self.recorder(0).transport
        assert transport is not None
        transport.loseConnection()
        self.pass_time(0.1)

        self.assertEqual(len(self.endpoint.servers), 2)
        for _ in range(20):
            connection = self.recorder(1).transport
            assert connection is not None
            connection.write(ANSWER)
            self.pass_time(0.05)

        failures = self.successResultOf(self.done).measured.failures
        self.assertEqual(list(failures.values()), [Failed("connection lost", "unknown")])

    def test_nobody_listens(self) -> None:
        """Where not even the first connections can be opened there is no measurement."""
        self.clock = Clock()
        endpoint = MemoryEndpoint()
        endpoint.refuses = True
        clocks = Clocks(wall=self.clock.seconds, cpu=lambda: 0.0)
        load = Load([REQUEST], accept)
        loop = OpenLoop(
            self.clock,
            endpoint,
            load,
            clocks,
            rate_per_second=1,
            connections=2,
            deadline_seconds=1,
            watch=lambda over: None,
        )

        done = loop.run()
        self.clock.advance(0)

        self.failureResultOf(done)
