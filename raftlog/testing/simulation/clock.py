"""Simulated time: a heap of calls for the whole cluster, and each process's own view of it.

What a process scheduled waits while the process is paused and dies with it, as timers and sockets do.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class Call:
    """One scheduled call. `count` is that of its newest place in the heap; places with another one are void."""

    __slots__ = ("_call", "_clock", "_state", "count", "process", "time")

    def __init__(
        self, clock: SimulatedClock, process: ProcessClock | None, time: float, call: Callable[[], object]
    ) -> None:
        self._clock = clock
        self._call = call
        #: Why it is not active any more.
        self._state: type[Exception] | None = None
        self.process = process
        self.time = time
        self.count = 0

    def run(self) -> None:
        """Make the call."""
        self._state = AlreadyCalled
        self._call()

    def active(self) -> bool:
        """See IDelayedCall."""
        return self._state is None

    def getTime(self) -> float:  # noqa: N802 - IDelayedCall
        """See IDelayedCall."""
        return self.time

    def cancel(self) -> None:
        """See IDelayedCall."""
        self._must_be_active()
        self._state = AlreadyCancelled

    def delay(self, seconds: float) -> None:
        """See IDelayedCall."""
        self._must_be_active()
        self._clock.schedule(self, self.time + seconds)

    def reset(self, seconds: float) -> None:
        """See IDelayedCall."""
        self._must_be_active()
        self._clock.schedule(self, self._clock.seconds() + seconds)

    def _must_be_active(self) -> None:
        if self._state is not None:
            raise self._state


@implementer(IReactorTime)
class SimulatedClock:
    """Time in seconds that moves from one call to the next. Calls due at the same time run in order of scheduling."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, Call]] = []
        self._count = 0
        #: Calls made so far.
        self.events = 0

    def seconds(self) -> float:
        """Return the time since the beginning."""
        return self._now

    def callLater(  # noqa: N802 - IReactorTime
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> Call:
        """Schedule a call; see IReactorTime."""
        call = Call(self, None, 0.0, (lambda: callable(*args, **kw)) if args or kw else callable)
        self.schedule(call, self._now + delay)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:  # noqa: N802 - IReactorTime
        """Return the calls that are still to come."""
        return [call for _, count, call in sorted(self._heap) if call.active() and call.count == count]

    def schedule(self, call: Call, time: float) -> None:
        """Put a call at its place in time, whatever place it had before."""
        self._count = call.count = self._count + 1
        call.time = time
        heappush(self._heap, (time, call.count, call))

    def step(self, until: float) -> bool:
        """Make the next call that is due by `until`; without one move to that time and return False."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            due, count, call = heappop(heap)
            if call.count != count or not call.active():
                continue
            if due > self._now:
                self._now = due
            process = call.process
            if process is None:
                self.events += 1
                call.run()
                return True
            if process.take(call):
                self.events += 1
                return True
        self._now = max(self._now, until)
        return False


@implementer(IReactorTime)
class ProcessClock:
    """The clock of one process; `kill` ends it for good. `ran` is called after everything that ran in the process."""

    def __init__(self, clock: SimulatedClock, ran: Callable[[], None]) -> None:
        self._clock = clock
        self._ran = ran
        self._alive = True
        self._paused = False
        self._held: list[Call] = []

    def seconds(self) -> float:
        """Return the time; it goes on while the process is paused."""
        return self._clock.seconds()

    def callLater(  # noqa: N802 - IReactorTime
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> Call:
        """Schedule a call that is made only if the process lives, and not before it is resumed."""
        call = Call(self._clock, self, 0.0, (lambda: callable(*args, **kw)) if args or kw else callable)
        self._clock.schedule(call, self._clock.seconds() + delay)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:  # noqa: N802 - IReactorTime
        """Return the calls of all processes that are still to come."""
        return self._clock.getDelayedCalls()

    def take(self, call: Call) -> bool:
        """Make a call that is due, or keep it while the process is paused; say whether it was made."""
        if self._paused:
            self._held.append(call)
            return False
        if not self._alive:
            return False
        call.run()
        self._ran()
        return True

    def run(self, callable: Callable[..., object], *args: object) -> None:
        """Do something in the process now, or as soon as it is resumed; nothing if it is dead."""
        if self._paused:
            self._held.append(Call(self._clock, self, self._clock.seconds(), lambda: callable(*args)))
        elif self._alive:
            callable(*args)
            self._ran()

    def pause(self) -> None:
        """Stop the process (SIGSTOP)."""
        self._paused = True

    def resume(self) -> None:
        """Let it go on; what fell due meanwhile happens now, in order."""
        self._paused = False
        held, self._held = self._held, []
        for call in held:
            if call.active() and call.time <= self._clock.seconds():
                self._clock.schedule(call, self._clock.seconds())

    def kill(self) -> None:
        """End the process."""
        self._alive = self._paused = False
