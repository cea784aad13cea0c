"""An open-loop load client: requests begin when they are due, not when an earlier one is answered.

Request i is due i / rate seconds after the start. Its latency counts from then on, whether it could be sent or had to
wait for a free connection: a server that stalls delays all that were due meanwhile, and all of them show it. A closed
loop would have sent one request less per connection and seen one slow answer ("coordinated omission", Tene).
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from benchmarks.client import Clocks, Load, Watch
from benchmarks.http1 import Response
from benchmarks.measure import Failed, Measurement, new_times
from benchmarks.worker import IDLE, Crew, Worker

#: How often deadlines and progress are looked at.
_SWEEP_SECONDS = 0.05
_RECONNECT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class OpenMeasurement:
    """A measurement with latencies since each request was due, and how late each was sent (seconds).

    Lateness is waiting for a connection, which is the server's doing, and for this process to run, which is not: where
    connections are many and lateness is large all the same, the client was the limit.
    """

    measured: Measurement
    lateness: array[float]


class OpenLoop:
    """Sends a load at a constant rate over a fixed number of connections, which are opened before the first is due."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        load: Load,
        clocks: Clocks,
        *,
        rate_per_second: float,
        connections: int,
        deadline_seconds: float,
        watch: Watch,
    ) -> None:
        self._reactor = reactor
        self._load = load
        self._clock = clocks.wall
        self._cpu = clocks.cpu
        self._interval = 1 / rate_per_second
        self._connections = connections
        self._deadline_seconds = deadline_seconds
        self._watch = watch
        self._count = len(load.requests)
        self._crew = Crew(reactor, endpoint, self, self._refused)
        self._idle: list[Worker] = []
        #: Requests that are due and wait for a connection, oldest first.
        self._waiting: deque[int] = deque()
        #: The next request that becomes due, and those that are over.
        self._next = 0
        self._over = 0
        self._begun = False
        self._latencies = new_times(self._count)
        self._finished = new_times(self._count)
        self._lateness = new_times(self._count)
        self._failures: dict[int, Failed] = {}
        self._timer: IDelayedCall | None = None
        self._sweep = LoopingCall(self._look)
        self._sweep.clock = reactor
        self._done: Deferred[OpenMeasurement] = Deferred()

    def run(self) -> Deferred[OpenMeasurement]:
        """Send everything; fires when all is answered, failed or past its deadline, and all connections are closed."""
        for _ in range(self._connections):
            self._crew.connect()
        return self._done

    # ---- what workers report --------------------------------------------------------------------------------

    def joined(self, worker: Worker) -> None:
        """Take a worker; the first request is due once all are there."""
        self._crew.workers.add(worker)
        self._give(worker)
        if not self._begun and len(self._crew.workers) == self._connections:
            self._begin()

    def answered(self, worker: Worker, response: Response) -> None:
        """Note an answer and give the worker what waits."""
        now = self._clock()
        index = worker.index
        worker.index = IDLE
        failed = self._load.check(index, response.status, response.body)
        if failed is None:
            if self._load.follow is not None and (second := self._load.follow(index)) is not None:
                worker.send(index, second, worker.sent_at)
                return
            self._latencies[index] = now - self._due(index)
            self._finished[index] = now - self._started
        else:
            self._failures[index] = failed
        if response.reusable:
            self._give(worker)
        else:
            worker.transport.loseConnection()
        self._count_over()

    def broken(self, worker: Worker, kind: str) -> None:
        """Note that the answer to what the worker sent will not come, or cannot be read."""
        index = worker.index
        worker.index = IDLE
        worker.transport.abortConnection()
        if index != IDLE:
            self._fail(index, Failed(kind, "unknown"))

    def left(self, worker: Worker) -> None:
        """Forget a worker whose connection is gone, and open another one."""
        self._crew.workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.index != IDLE:
            index, worker.index = worker.index, IDLE
            self._fail(index, Failed("connection lost", "unknown"))
        if self._over < self._count:
            self._crew.connect()
        self._end_if_alone()

    # ---- inside -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._begun = True
        self._started = self._clock()
        self._cpu_started = self._cpu()
        _ = self._sweep.start(_SWEEP_SECONDS, now=False)
        self._send_due()

    def _due(self, index: int) -> float:
        return self._started + index * self._interval

    def _send_due(self) -> None:
        """Send what is due, or let it wait for a connection, and come back when the next one is due."""
        self._timer = None
        now = self._clock()
        while self._next < self._count and self._due(self._next) <= now:
            index = self._next
            self._next += 1
            if self._idle:
                self._send(self._idle.pop(), index, now)
            else:
                self._waiting.append(index)
        if self._next < self._count:
            self._timer = self._reactor.callLater(max(0.0, self._due(self._next) - now), self._send_due)

    def _send(self, worker: Worker, index: int, now: float) -> None:
        self._lateness[index] = now - self._due(index)
        worker.send(index, self._load.requests[index], now)

    def _give(self, worker: Worker) -> None:
        if self._over == self._count:
            worker.transport.loseConnection()
        elif self._waiting:
            self._send(worker, self._waiting.popleft(), self._clock())
        else:
            self._idle.append(worker)

    def _refused(self, failure: Failure) -> None:
        if self._begun:
            self._crew.connect(_RECONNECT_SECONDS)
        elif not self._done.called:
            self._done.errback(failure)

    def _look(self) -> None:
        with self._log.failuresHandled("while watching an open loop"):
            latest = self._clock() - self._deadline_seconds
            while self._waiting and self._due(self._waiting[0]) < latest:
                self._fail(self._waiting.popleft(), Failed("never sent", "no"))
            for worker in list(self._crew.workers):
                if worker.index != IDLE and self._due(worker.index) < latest:
                    self.broken(worker, "deadline")
            self._watch(self._over)

    def _fail(self, index: int, failed: Failed) -> None:
        self._failures[index] = failed
        self._count_over()

    def _count_over(self) -> None:
        self._over += 1
        if self._over == self._count:
            self._finish()

    def _finish(self) -> None:
        measured = Measurement(
            latencies=self._latencies,
            finished=self._finished,
            failures=self._failures,
            seconds=self._clock() - self._started,
            cpu_seconds=self._cpu() - self._cpu_started,
        )
        self._result = OpenMeasurement(measured, self._lateness)
        self._sweep.stop()
        self._watch(self._over)
        self._crew.dismiss()
        self._end_if_alone()

    def _end_if_alone(self) -> None:
        if self._over == self._count and not self._crew.workers and not self._done.called:
            self._done.callback(self._result)
