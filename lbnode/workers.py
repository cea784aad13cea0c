"""Worker processes: followers of this balancer that listen at its public port, so that it uses more than one core.

Each is a `twistd shardlb --follow` in a session of its own, so that Ctrl-C reaches only the balancer, which then stops
them. Its standard input is a pipe from here: when the balancer dies, however it dies, the pipe ends and so does the
worker. Nothing is adopted, since a worker has nothing to lose.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbnode.concurrent import together
from lbnode.launchers.process import PROGRAM

#: Starts a process in a worker's place.
_Spawn: TypeAlias = Callable[[int, ProcessProtocol], IProcessTransport]


class WorkerTimes(msgspec.Struct, frozen=True):
    """Pauses before a worker is started again, how long it may be silent, and how long it may take to stop.

    The pause doubles with each death, and is the shortest again once a worker has lived for `steady_seconds`. Workers
    are looked at every `look_seconds`; they are heard of every few seconds (lbnode.following.FollowTimes).
    """

    pause_seconds_min: float = 0.2
    pause_seconds_max: float = 10.0
    steady_seconds: float = 10.0
    stop_seconds: float = 5.0
    hung_seconds: float = 15.0
    look_seconds: float = 1.0


class Workers(Service):
    """`count` workers, while the service runs.

    `arguments` are those of `twistd shardlb`, `environment` is theirs; each writes its log below `directory`.
    `heard_seconds` says of a pid when it was last heard of; one that is silent for too long is killed.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        processes: IReactorProcess,
        directory: Path,
        count: int,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        heard_seconds: Callable[[int], float],
        times: WorkerTimes,
    ) -> None:
        self._directory = directory
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._processes = processes
        self._times = times
        self._workers = [_Worker(clock, number, self._spawn, heard_seconds, times) for number in range(count)]
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock

    def startService(self) -> None:
        """Start them."""
        super().startService()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for worker in self._workers:
            worker.start()
        self._looking = self._looks.start(self._times.look_seconds, now=False)

    def stopService(self) -> Deferred[None]:
        """Stop them; fires when they have ended."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def _look(self) -> None:
        for worker in self._workers:
            with self._log.failuresHandled("looking after a worker failed"):
                worker.look()

    async def _stop(self) -> None:
        self._looks.stop()
        await together(worker.stop() for worker in self._workers)

    def _spawn(self, number: int, protocol: ProcessProtocol) -> IProcessTransport:
        log = self._directory / f"worker-{number}.log"
        command = [sys.executable, "-P", "-c", PROGRAM, "--nodaemon", "--pidfile=", f"--logfile={log}", "shardlb"]
        with open(log.with_suffix(".start.log"), "wb") as output:
            return self._processes.spawnProcess(
                protocol,
                sys.executable,
                [*command, *self._arguments],
                env=self._environment,
                childFDs={0: "w", 1: output.fileno(), 2: output.fileno()},
            )


class _Worker(ProcessProtocol):
    """One place for a worker, and the process that fills it."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        number: int,
        spawn: _Spawn,
        heard_seconds: Callable[[int], float],
        times: WorkerTimes,
    ) -> None:
        self._clock = clock
        self._number = number
        self._spawn = spawn
        self._heard_seconds = heard_seconds
        self._times = times
        self._process: IProcessTransport | None = None
        self._started_at = 0.0
        self._pause_seconds = times.pause_seconds_min
        self._again: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._last_heard_seconds = 0.0
        self._silent_looks = 0

    def start(self) -> None:
        """Start a process."""
        self._again = None
        self._started_at = self._clock.seconds()
        self._silent_looks = 0
        try:
            self._process = self._spawn(self._number, self)
        except OSError:  # no memory, no more processes, no room for its log
            self.processEnded(Failure())
            return
        self._log.info("started worker {number}, process {pid}", number=self._number, pid=self._process.pid)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - called by Twisted
        """Start another one after a pause, unless we stop."""
        self._process = None
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        if self._clock.seconds() - self._started_at >= self._times.steady_seconds:
            self._pause_seconds = self._times.pause_seconds_min
        self._log.warn(
            "worker {number} ended: {reason}; another one starts in {pause:g} s, see its log",
            number=self._number,
            reason=reason.getErrorMessage(),
            pause=self._pause_seconds,
        )
        self._again = self._clock.callLater(self._pause_seconds, self.start)
        self._pause_seconds = min(2 * self._pause_seconds, self._times.pause_seconds_max)

    def look(self) -> None:
        """Kill the process if it has been silent for too long: its share of the connections is lost on it."""
        process = self._process
        if process is None or process.pid is None or self._stopped is not None:
            return
        heard_seconds = self._heard_seconds(process.pid)
        # Looks are counted, since a balancer that was paused itself has heard of nobody meanwhile.
        self._silent_looks = self._silent_looks + 1 if heard_seconds == self._last_heard_seconds else 0
        self._last_heard_seconds = heard_seconds
        if self._silent_looks * self._times.look_seconds >= self._times.hung_seconds:
            self._log.warn("worker {number}, process {pid}, hangs: killed", number=self._number, pid=process.pid)
            self._signal("KILL")

    async def stop(self) -> None:
        """End it, by force if it must be, and start no other one."""
        if self._again is not None:
            self._again.cancel()
        if self._process is None:
            return
        self._stopped = stopped = Deferred[None]()
        self._signal("TERM")
        killing = self._clock.callLater(self._times.stop_seconds, self._signal, "KILL")
        await stopped
        if killing.active():
            killing.cancel()

    def _signal(self, name: str) -> None:
        assert self._process is not None
        with suppress(ProcessExitedAlready):  # we shall be told in a moment
            self._process.signalProcess(name)
