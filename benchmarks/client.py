"""A lean HTTP/1.1 load client: a closed loop of workers on keep-alive connections, one request outstanding on each.

It is written to cost little beside the server it measures, for both share the machine: requests are bytes made
beforehand, an answer is parsed once and judged by one call, and nothing else happens per request. Deadlines and
progress are looked at by one timer, not one per request; so a deadline may strike late by that timer's interval.

A request that was sent and not answered has an unknown outcome and is never sent again here: it may have been done.
An operation may have a second request, which follows the answer to the first on the same connection; its latency is
that of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from benchmarks.http1 import Response
from benchmarks.measure import Failed, Measurement, new_times
from benchmarks.worker import IDLE, Crew, Worker

#: Judges the answer to request `index` by status and body: None if it is right.
Check: TypeAlias = Callable[[int, int, bytes], Failed | None]
#: Gets the number of requests that are over, a few times a second.
Watch: TypeAlias = Callable[[int], None]

#: Gets the index of a request whose answer was right; returns the second request of the same operation, if it has one
#: and this answer was to the first.
Follow: TypeAlias = Callable[[int], bytes | None]

#: How often deadlines and progress are looked at.
_SWEEP_SECONDS = 0.05
#: How long a worker waits after a refused connection; a server that is starting needs longer than this anyway.
_RETRY_SECONDS = 0.1


class Requests(Protocol):
    """Whole HTTP requests by their number: a list of bytes, or what makes them as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send, each a whole HTTP request, and what judges their answers.

    Each is looked up once, when it is sent, in the order of sending.
    """

    requests: Requests
    check: Check
    follow: Follow | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where the client gets its time: wall seconds, and the processor seconds of this process."""

    wall: Callable[[], float]
    cpu: Callable[[], float]


class ClosedLoop:
    """Sends a load once, each worker the next request as soon as its last one is answered.

    After `seconds_max` it begins no further request; the measurement has those that were begun.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamClientEndpoint,
        load: Load,
        clocks: Clocks,
        *,
        concurrency: int,
        deadline_seconds: float,
        watch: Watch,
        seconds_max: float = inf,
    ) -> None:
        self._reactor = reactor
        self._requests = load.requests
        self._check = load.check
        self._follow = load.follow
        self._clock = clocks.wall
        self._cpu = clocks.cpu
        self._concurrency = concurrency
        self._deadline_seconds = deadline_seconds
        self._watch = watch
        self._seconds_max = seconds_max
        self._crew = Crew(reactor, endpoint, self, self._refused)
        #: The next request to send; grows to `_end`, the number of requests unless time ends the run earlier.
        self._next = 0
        self._end = len(load.requests)
        #: Requests that are over, well or not; the run ends when all are.
        self._over = 0
        self._latencies = new_times(len(load.requests))
        self._finished = new_times(len(load.requests))
        self._failures: dict[int, Failed] = {}
        self._sweep = LoopingCall(self._look)
        self._sweep.clock = reactor
        self._result: Measurement | None = None
        self._done: Deferred[Measurement] = Deferred()

    def run(self) -> Deferred[Measurement]:
        """Send everything; fires when all is answered, failed or past its deadline, and all connections are closed."""
        self._started = self._clock()
        self._cpu_started = self._cpu()
        _ = self._sweep.start(_SWEEP_SECONDS, now=False)
        for _ in range(self._concurrency):
            self._connect(0)
        if not self._requests:
            self._finish()
        return self._done

    # ---- what workers report --------------------------------------------------------------------------------

    def joined(self, worker: Worker) -> None:
        """Take a worker that is connected."""
        self._crew.workers.add(worker)
        self._feed(worker, self._clock())

    def answered(self, worker: Worker, response: Response) -> None:
        """Note an answer and give the worker its next request."""
        now = self._clock()
        index = worker.index
        worker.index = IDLE
        failed = self._check(index, response.status, response.body)
        if failed is None:
            if self._follow is not None and (second := self._follow(index)) is not None:
                worker.index = index
                worker.transport.write(second)
                return
            self._latencies[index] = now - worker.sent_at
            self._finished[index] = now - self._started
        else:
            self._failures[index] = failed
        if response.reusable:
            self._feed(worker, now)
        else:
            worker.transport.loseConnection()
        self._count()

    def broken(self, worker: Worker, kind: str) -> None:
        """Note that the answer to what the worker sent will not come, or cannot be read."""
        index = worker.index
        worker.index = IDLE
        self._failures[index] = Failed(kind, "unknown")
        worker.transport.abortConnection()
        self._count()

    def left(self, worker: Worker) -> None:
        """Forget a worker whose connection is gone, and open another connection while there is work."""
        if worker.index != IDLE:
            self.broken(worker, "connection lost")
        self._crew.workers.discard(worker)
        self._connect(0)
        self._end_if_alone()

    # ---- inside -----------------------------------------------------------------------------------------------

    def _feed(self, worker: Worker, now: float) -> None:
        index = self._next
        if index == self._end:
            worker.transport.loseConnection()
            return
        self._next = index + 1
        worker.send(index, self._requests[index], now)

    def _connect(self, delay_seconds: float) -> None:
        if self._next == self._end:
            return
        self._crew.connect(delay_seconds)

    def _refused(self, failure: Failure) -> None:
        if self._next < self._end:
            self._failures[self._next] = Failed("connection refused", "no")
            self._next += 1
            self._connect(_RETRY_SECONDS)
            self._count()

    def _look(self) -> None:
        with self._log.failuresHandled("while watching a run"):
            latest = self._clock() - self._deadline_seconds
            for worker in list(self._crew.workers):
                if worker.index != IDLE and worker.sent_at < latest:
                    self.broken(worker, "deadline")
            self._watch(self._over)
            if self._clock() - self._started >= self._seconds_max and self._next < self._end:
                self._cut()

    def _cut(self) -> None:
        """Begin no further request, and end once those that were begun are over."""
        self._end = self._next
        if self._over == self._end:
            self._finish()

    def _count(self) -> None:
        self._over += 1
        if self._over == self._end:
            self._finish()

    def _finish(self) -> None:
        self._result = Measurement(
            latencies=self._latencies[: self._end],
            finished=self._finished[: self._end],
            failures=self._failures,
            seconds=self._clock() - self._started,
            cpu_seconds=self._cpu() - self._cpu_started,
        )
        self._sweep.stop()
        self._watch(self._over)
        self._crew.dismiss()
        self._end_if_alone()

    def _end_if_alone(self) -> None:
        if self._result is not None and not self._crew.workers and not self._done.called:
            self._done.callback(self._result)
