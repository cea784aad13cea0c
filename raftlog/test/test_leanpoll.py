"""The lean poller dispatches what Twisted's own does, and ends turns."""

from __future__ import annotations

import errno
import select
import socket
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftlog.leanpoll import poll_leanly
from raftlog.turnclock import TurnClock


class Listener:
    """What a reactor reads from: notes what came."""

    def __init__(self, heard: list[bytes]) -> None:
        self.near, self.far = socket.socketpair()
        self._heard = heard

    def fileno(self) -> int:
        """Return what is polled."""
        return self.near.fileno()

    def doRead(self) -> Exception | None:
        """Read; return why there is no more."""
        came = self.near.recv(100)
        self._heard.append(came)
        return None if came else CONNECTION_LOST

    def connectionLost(self, reason: object) -> None:
        """Fail at what nobody around it expects to fail."""
        raise RuntimeError("the end of it failed")

    def logPrefix(self) -> str:
        """Return what nobody needs."""
        raise AssertionError("nobody asks for it")

    def close(self) -> None:
        """Close both ends."""
        self.near.close()
        self.far.close()


class Poller:
    """Takes down how long it may wait, and has the events or the error of the test's choice at once."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.waits: list[float] = []
        self.events: list[tuple[int, int]] = []
        self.error = 0

    def __getattr__(self, name: str) -> Any:
        """Register and unregister as the real one does."""
        return getattr(self._real, name)

    def poll(self, timeout_seconds: float, events_max: int) -> list[tuple[int, int]]:
        """Return or raise."""
        self.waits.append(timeout_seconds)
        if self.error:
            raise OSError(self.error, "the test's choice")
        return self.events


class LeanPollTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a reactor of the test's own, which never runs but is turned by hand."""
        self.reactor: Any = EPollReactor()
        self.addCleanup(self.reactor.removeAll)
        self.clock = TurnClock(self.reactor)
        self.heard: list[bytes] = []

    def listener(self) -> Listener:
        """Return one whose other end the test holds."""
        listener = Listener(self.heard)
        self.addCleanup(listener.close)
        self.addCleanup(self.reactor.removeReader, listener)
        self.reactor.addReader(listener)
        return listener

    def turn(self) -> None:
        """Let the reactor take one turn, at most a moment long."""
        self.reactor.runUntilCurrent()
        self.reactor.doIteration(0.01)

    def test_events(self) -> None:
        """Everybody hears what came for him, in one turn and without being asked for a name."""
        for text in (b"one", b"two"):
            self.listener().far.send(text)

        self.turn()

        self.assertEqual(sorted(self.heard), [b"one", b"two"])

    def test_one_that_fails_spares_the_others(self) -> None:
        """Its failure is logged."""
        self.listener().far.close()
        self.listener().far.send(b"one")

        self.turn()
        self.turn()

        self.assertIn(b"one", self.heard)
        self.assertEqual([str(each.value) for each in self.flushLoggedErrors(RuntimeError)], ["the end of it failed"])

    def test_the_end_of_a_turn(self) -> None:
        """Calls due at once follow the events, without a timer and without waiting for anything else."""
        self.clock.callLater(0, self.heard.append, b"called")
        self.listener().far.send(b"one")

        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.turn()

        self.assertEqual(self.heard, [b"one", b"called"])

    def test_what_is_due_is_not_slept_over(self) -> None:
        """A call that a timer asked for is made at once, not after the next event; else the poller waits as told."""
        poller = self.reactor._poller = Poller(self.reactor._poller)

        self.reactor.doIteration(1)
        self.reactor.doIteration(None)
        self.clock.callLater(0, self.heard.append, b"called")
        self.reactor.doIteration(1)

        self.assertEqual(poller.waits, [1, -1, 0])
        self.assertEqual(self.heard, [b"called"])

    def test_a_signal_meanwhile(self) -> None:
        """A poll that a signal ended has no events; any other error is the reactor's."""
        poller = self.reactor._poller = Poller(self.reactor._poller)
        self.clock.callLater(0, self.heard.append, b"called")

        poller.error = errno.EINTR
        self.reactor.doIteration(1)
        self.assertEqual(self.heard, [b"called"])

        poller.error = errno.EBADF
        self.assertRaises(OSError, self.reactor.doIteration, 1)

    def test_closed_by_an_event_before(self) -> None:
        """Who is gone by the time his event is looked at hears nothing."""
        listener = self.listener()
        poller = self.reactor._poller = Poller(self.reactor._poller)
        poller.events = [(listener.fileno(), select.EPOLLIN), (1 << 20, select.EPOLLIN)]
        listener.far.send(b"one")

        self.reactor.doIteration(1)

        self.assertEqual(self.heard, [b"one"])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_what_goes_on_for_ever(self) -> None:
        """Sockets have their turn between calls that ask for calls without end."""

        def again() -> None:
            self.heard.append(b"again")
            self.clock.callLater(0, again)

        self.clock.callLater(0, again)
        self.turn()
        before = len(self.heard)
        self.listener().far.send(b"one")
        self.turn()

        self.assertLess(before, 10)
        self.assertEqual(self.heard[before], b"one")

    def test_who_else_is_left_alone(self) -> None:
        """Another reactor, and one that somebody ends turns of already, goes on as it does."""
        taken = [poll_leanly(one, lambda: False, lambda: None) for one in (self.reactor, Clock())]
        second = TurnClock(self.reactor)
        second.callLater(0, self.heard.append, b"second")

        self.turn()

        self.assertEqual(taken, [False, False])
        self.assertEqual(self.heard, [b"second"])
