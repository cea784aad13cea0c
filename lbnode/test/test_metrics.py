"""What is counted of requests, whatever way they end."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp import Answer, Endpoint, Headers, Response
from lbnode.metrics import Metrics

OK = Response(200, b"{}")


class Requests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make figures under a clock."""
        self.clock = Clock()
        self.metrics = Metrics(self.clock.seconds, {("shardlb_waiting", "What waits."): lambda: 42.0})

    def lines(self) -> set[str]:
        """Return what /metrics says."""
        return set(self.metrics.text().decode().splitlines())

    def measured(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint under measurement."""
        return self.metrics.measured("write", endpoint)

    def test_every_kind_of_end(self) -> None:
        """At once, later, as a coroutine, with a refusal or by our own mistake: each request is counted once."""
        later: Deferred[Answer] = Deferred()
        failing: Deferred[Answer] = Deferred()

        async def coroutine(headers: Headers, body: bytes) -> Answer:
            return OK

        def refuse(headers: Headers, body: bytes) -> Answer:
            raise ApiError("duplicate", "again", status=409)

        self.measured(lambda headers, body: OK)({}, b"")
        pending = self.measured(lambda headers, body: later)({}, b"")
        broken = self.measured(lambda headers, body: failing)({}, b"")
        at_once = self.measured(coroutine)({}, b"")
        self.assertRaises(ApiError, self.measured(refuse), {}, b"")
        self.clock.advance(0.3)
        later.callback(OK)
        failing.errback(ZeroDivisionError())

        for outcome in (at_once, pending):
            assert isinstance(outcome, Deferred)
            self.assertIs(self.successResultOf(outcome), OK)
        assert isinstance(broken, Deferred)
        self.failureResultOf(broken, ZeroDivisionError)
        self.assertLessEqual(
            {
                'shardlb_requests_total{endpoint="write",status="200"} 3.0',
                'shardlb_requests_total{endpoint="write",status="409"} 1.0',
                'shardlb_requests_total{endpoint="write",status="500"} 1.0',
                'shardlb_request_seconds_bucket{endpoint="write",le="0.001"} 3.0',
                'shardlb_request_seconds_bucket{endpoint="write",le="0.25"} 3.0',
                'shardlb_request_seconds_bucket{endpoint="write",le="0.5"} 5.0',
                'shardlb_request_seconds_bucket{endpoint="write",le="+Inf"} 5.0',
                'shardlb_request_seconds_count{endpoint="write"} 5.0',
                'shardlb_request_seconds_sum{endpoint="write"} 0.6',
            },
            self.lines(),
        )

    def test_gauges_are_read_when_asked(self) -> None:
        """What waits is looked at when the figures are asked for, and the process has figures too."""
        lines = self.lines()

        self.assertIn("shardlb_waiting 42.0", lines)
        self.assertTrue(any(line.startswith("process_resident_memory_bytes ") for line in lines))
