"""Workers: kept running with growing pauses, and ended with the balancer. Their processes are pretended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lbnode.workers import Workers, WorkerTimes

TIMES = WorkerTimes(
    pause_seconds_min=0.25, pause_seconds_max=1.0, steady_seconds=10.0, stop_seconds=5.0, hung_seconds=30.0
)


class PretendedProcess:
    """A process that dies when it is told to, or not even then."""

    def __init__(self, pid: int, protocol: ProcessProtocol, arguments: list[str]) -> None:
        self.pid = pid
        self.arguments = arguments
        self.signals: list[str] = []
        self.is_stubborn = False
        self.has_exited = False
        self._protocol = protocol

    def signalProcess(self, signalID: str) -> None:
        """See IProcessTransport.signalProcess."""
        if self.has_exited:
            raise ProcessExitedAlready
        self.signals.append(signalID)
        if signalID == "KILL" or not self.is_stubborn:
            self.die()

    def die(self) -> None:
        """End."""
        self.has_exited = True
        self._protocol.processEnded(Failure(ProcessTerminated(1)))


class PretendedProcesses:
    """Starts nothing, and remembers what."""

    def __init__(self) -> None:
        self.started: list[PretendedProcess] = []
        #: What of the process the last start was given.
        self.given: dict[str, Any] = {}
        self.is_out_of_memory = False

    def spawnProcess(
        self, protocol: ProcessProtocol, executable: str, args: list[str], **given: Any
    ) -> PretendedProcess:
        """See IReactorProcess.spawnProcess."""
        if self.is_out_of_memory:
            raise BlockingIOError("fork: out of memory")
        self.given = given
        process = PretendedProcess(100 + len(self.started), protocol, args)
        self.started.append(process)
        return process


class WorkersTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start two workers."""
        self.clock = Clock()
        self.processes = PretendedProcesses()
        #: When each process was last heard of.
        self.heard_seconds: dict[int, float] = {}
        self.directory = Path(self.mktemp()) / "workers"
        processes: Any = self.processes  # of IReactorProcess what is used
        self.workers = Workers(
            self.clock,
            processes,
            self.directory,
            2,
            ["--follow", "http://x:1"],
            {"LANG": "C"},
            lambda pid: self.heard_seconds.get(pid, 0.0),
            TIMES,
        )
        self.workers.startService()

    @property
    def started(self) -> list[PretendedProcess]:
        """All processes that were started, those that ended included."""
        return self.processes.started

    def stop(self) -> Deferred[None]:
        """Stop the workers."""
        return self.workers.stopService()

    def test_started_as_told(self) -> None:
        """Each gets the arguments, the environment, a pipe as standard input and a log of its own."""
        self.assertEqual([one.arguments[-3:] for one in self.started], [["shardlb", "--follow", "http://x:1"]] * 2)
        self.assertEqual(self.processes.given["env"], {"LANG": "C"})
        self.assertEqual(self.processes.given["childFDs"][0], "w")
        logs = [one.arguments[-4] for one in self.started]
        self.assertEqual(logs, [f"--logfile={self.directory}/worker-{number}.log" for number in range(2)])

    def test_one_that_died_is_replaced(self) -> None:
        """After a short pause there is another one; the others are left alone."""
        self.started[0].die()
        self.clock.advance(0.24)
        self.assertEqual(len(self.started), 2)

        self.clock.advance(0.02)

        self.assertEqual(len(self.started), 3)
        self.assertIn("worker-0.log", self.started[2].arguments[-4])
        self.assertEqual(self.started[1].signals, [])

    def test_one_that_keeps_dying(self) -> None:
        """Pauses grow up to a limit, and are short again once a worker has lived for a while."""
        pauses = [self.pause_after_death() for _ in range(5)]
        self.clock.advance(10.0)

        self.assertEqual(pauses, [0.25, 0.5, 1.0, 1.0, 1.0])
        self.assertEqual(self.pause_after_death(), 0.25)

    def pause_after_death(self) -> float:
        """Let the worker die that was started last, and return after how many seconds there is another one."""
        count = len(self.started)
        self.started[-1].die()
        for steps in range(64):
            if len(self.started) > count:
                return steps / 32
            self.clock.advance(1 / 32)
        raise AssertionError("there is no other one")

    def test_one_that_cannot_be_started(self) -> None:
        """It is tried again, as if it had died at once."""
        self.processes.is_out_of_memory = True
        self.started[0].die()
        self.clock.advance(0.25)
        self.processes.is_out_of_memory = False
        self.clock.advance(0.5)

        self.assertEqual(len(self.started), 3)

    def test_one_that_hangs(self) -> None:
        """A process that has not been heard of for too long is killed and replaced, others are not."""
        for _ in range(29):
            self.clock.advance(1)
            self.heard_seconds[101] = self.clock.seconds()
        self.assertEqual(self.started[0].signals, [])

        self.clock.pump([1, 1, 0.25])

        self.assertEqual([one.signals for one in self.started], [["KILL"], [], []])

    def test_a_balancer_that_was_paused(self) -> None:
        """Who has heard of nobody because it stood still itself kills nobody."""
        self.clock.advance(3600)
        self.clock.advance(1)

        self.assertEqual([one.signals for one in self.started], [[], []])

    def test_stopping(self) -> None:
        """All are told to end, and none is started again."""
        self.successResultOf(self.stop())

        self.assertEqual([one.signals for one in self.started], [["TERM"], ["TERM"]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_one_that_does_not_want_to(self) -> None:
        """It is killed after a while."""
        self.started[1].is_stubborn = True
        stopped = self.stop()
        self.clock.advance(4.9)
        self.assertNoResult(stopped)

        self.clock.advance(0.2)

        self.successResultOf(stopped)
        self.assertEqual(self.started[1].signals, ["TERM", "KILL"])

    def test_stopping_in_a_pause(self) -> None:
        """A worker that would come back soon does not."""
        self.started[0].die()

        self.successResultOf(self.stop())
        self.clock.advance(60)

        self.assertEqual(len(self.started), 2)

    def test_stopping_one_that_just_ended(self) -> None:
        """A process that is gone but was not told of yet cannot be signalled, and is waited for."""
        self.started[0].has_exited = True
        stopped = self.stop()
        self.assertNoResult(stopped)

        self.started[0].die()

        self.successResultOf(stopped)
