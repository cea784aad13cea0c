"""Tests of benchmarks.process and of the servers of benchmarks.ceiling, as real processes."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.door import Door
from benchmarks.process import Child, StartError, answers, free_port, to_the_end


class Children(TestCase):
    def child(self, *arguments: str) -> Child:
        """Make a Python child, stopped when the test ends."""
        from twisted.internet import reactor

        self.reactor = reactor
        self.log = Path(self.mktemp())
        child = Child(reactor, [sys.executable, *arguments], self.log)
        self.addCleanup(lambda: child.stop())
        return child

    async def test_bare_klein(self) -> None:
        """The bare Klein app decodes what it gets and answers writes and reads like a balancer."""
        port = free_port()
        child = self.child("-m", "benchmarks.ceiling", "klein", f"--port={port}", "--width=3")
        door = Door(self.reactor, "127.0.0.1", port)

        child.start()
        await child.until(lambda: answers(door, "POST", "/write", {}), 30)

        rows = await door.json("POST", "/read", {"Stud_id": {"low": 1, "high": 1}})
        malformed = await door.ask("POST", "/write")
        self.assertEqual(rows["data"], [{"Stud_id": 10000, "Stud_name": "xxx", "Stud_marks": 50}])
        self.assertEqual(malformed.status, 500)
        await child.stop()
        self.assertFalse(child.running)

    async def test_ends_while_starting(self) -> None:
        """A child that ends before it serves is told at once, with the end of its log."""
        child = self.child("-c", "raise SystemExit('no such thing')")
        child.start()

        with self.assertRaises(StartError) as caught:
            await child.until(never, 30)

        self.assertIn("no such thing", str(caught.exception))

    async def test_does_not_serve(self) -> None:
        """A child that does not serve in time is told as well, and stopped by its signal."""
        child = self.child("-c", "import time; time.sleep(60)")
        child.start()

        with self.assertRaises(StartError):
            await child.until(never, 0.2)

        await child.stop()
        self.assertFalse(child.running)

    async def test_stop_before_start(self) -> None:
        """Stopping what never ran does nothing."""
        child = self.child("-c", "pass")

        await child.stop()

        self.assertFalse(child.running)


class Endings(SynchronousTestCase):
    def test_cancelled_waiter(self) -> None:
        """Work that must be finished goes on when its waiter is cancelled, which then ends as cancelled."""
        first: Deferred[None] = Deferred()
        done: list[str] = []

        async def work() -> None:
            await first
            done.append("work")

        waiter = ensureDeferred(to_the_end(work()))
        waiter.cancel()
        self.assertNoResult(waiter)

        first.callback(None)

        self.assertEqual(done, ["work"])
        self.failureResultOf(waiter, CancelledError)

    def test_failing_work(self) -> None:
        """A failure of the work is its waiter's."""

        async def work() -> None:
            raise StartError("no")

        waiter = ensureDeferred(to_the_end(work()))

        self.failureResultOf(waiter, StartError)


async def never() -> bool:
    """Be never ready."""
    return False
