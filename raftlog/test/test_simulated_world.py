"""The simulator's own parts: its clock, its network, its disk's delays (whole simulations: dbnode.test)."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfState, GroupMessage, Message, MessageType, RaftItem, SnapshotChunk
from raftlog.testing.disk import MemoryDisk
from raftlog.testing.simulation.clock import ProcessClock, SimulatedClock
from raftlog.testing.simulation.damage import flip_some_bit
from raftlog.testing.simulation.invariants import Invariants
from raftlog.testing.simulation.network import SimulatedNetwork, Weather
from raftlog.testing.simulation.wal import SimulatedWal
from raftlog.testing.simulation.world import Violation
from raftlog.wal import Created, Options, WalError, open_on


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a clock, a process on it, and a list of what happened."""
        self.clock = SimulatedClock()
        self.happened: list[str] = []
        self.process = ProcessClock(self.clock, lambda: None)

    def run_until(self, seconds: float) -> None:
        """Let time pass."""
        while self.clock.step(seconds):
            pass

    def test_order(self) -> None:
        """Calls are made in order of time, and of scheduling where that is the same."""
        self.clock.callLater(2, self.happened.append, "c")
        self.clock.callLater(1, self.happened.append, "a")
        self.clock.callLater(1, self.happened.append, "b")

        self.run_until(3)

        self.assertEqual((self.happened, self.clock.seconds(), self.clock.events), (["a", "b", "c"], 3, 3))

    def test_moved(self) -> None:
        """A call that is moved is made once, at its new time; one that was made or cancelled can't be moved."""
        call = self.process.callLater(1, self.happened.append, "a")
        cancelled = self.process.callLater(1, self.happened.append, "never")
        call.reset(2)
        call.delay(1)
        cancelled.cancel()

        self.run_until(2.9)
        self.assertEqual(self.happened, [])
        self.run_until(3)

        self.assertEqual(self.happened, ["a"])
        self.assertRaises(AlreadyCalled, call.reset, 1)
        self.assertRaises(AlreadyCancelled, cancelled.delay, 1)

    def test_paused(self) -> None:
        """What falls due while a process is paused waits, can still be moved or cancelled, and happens in order."""
        moved = self.process.callLater(1, self.happened.append, "moved")
        dropped = self.process.callLater(1, self.happened.append, "dropped")
        self.process.callLater(1, lambda: moved.reset(5))
        self.process.callLater(2, self.happened.append, "late")
        self.process.pause()
        self.run_until(4)
        self.process.run(self.happened.append, "arrived")
        dropped.cancel()
        moved.reset(2)

        self.process.resume()
        self.run_until(5)
        self.assertEqual(self.happened, ["late", "arrived"])
        self.run_until(9)

        self.assertEqual(self.happened, ["late", "arrived", "moved"])

    def test_killed(self) -> None:
        """Nothing happens in a process that is gone."""
        self.process.callLater(1, self.happened.append, "a")
        self.process.kill()

        self.process.run(self.happened.append, "b")
        self.run_until(2)

        self.assertEqual(self.happened, [])


class NetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a network that notes what arrives where."""
        self.clock = SimulatedClock()
        self.arrived: list[tuple[str, RaftItem]] = []
        self.network = SimulatedNetwork(
            self.clock, random.Random(1), lambda to, item: self.arrived.append((to, item)), lambda *_: None
        )

    def send(self, sender: str, to: str, count: int = 1) -> None:
        """Send messages, and wait."""
        for _ in range(count):
            self.network.send(sender, to, GroupMessage(1, Message(MessageType.HEARTBEAT)))
        while self.clock.step(self.clock.seconds() + 10):
            pass

    def test_one_way(self) -> None:
        """A direction that is cut loses everything, the other one nothing, until it heals."""
        self.network.cut("A", "B", one_way=True)

        self.send("A", "B")
        self.send("B", "A")
        self.network.heal()
        self.send("A", "B")

        self.assertEqual([to for to, _ in self.arrived], ["A", "B"])

    def test_weather(self) -> None:
        """Bad weather drops and duplicates."""
        self.network.weather = Weather(drop=0.5)
        self.send("A", "B", 100)
        lost = 100 - len(self.arrived)
        self.network.weather = Weather(duplicate=0.5)
        self.send("A", "C", 100)

        twice = sum(to == "C" for to, _ in self.arrived) - 100
        self.assertTrue(20 < lost < 80 and 20 < twice < 80, (lost, twice))

    def test_pieces_of_a_snapshot_in_order(self) -> None:
        """However long each takes, the pieces of a snapshot arrive once and in order."""
        self.network.weather = Weather(duplicate=0.5, delay_max=1.0)

        for number in range(20):
            self.network.send("A", "B", SnapshotChunk(1, 1, 2, 1, number, b"", 0))
        self.send("A", "C")

        numbers = [item.number for _, item in self.arrived if isinstance(item, SnapshotChunk)]
        self.assertEqual(numbers, list(range(20)))


class LogTests(SynchronousTestCase):
    def test_writes_until_nothing_is_left(self) -> None:
        """What is queued behind the opening of another segment is written without another submit."""
        clock = SimulatedClock()
        process = ProcessClock(clock, lambda: None)
        wal, recovered = open_on(
            MemoryDisk(random.Random(1)),
            call_from_thread=lambda call: call(),
            on_fatal=self.fail,
            options=Options(segment_bytes=2048, free_bytes_min=0),
            clock=process.seconds,
            rng=random.Random(2),
        )
        log = SimulatedWal(wal, recovered, process, lambda: 0.01, Counter())
        done: list[int] = []

        for number in range(1, 40):
            created = Created(number, number, ConfState(voters=tuple(range(20))))
            log.submit([created], partial(done.append, number))
        while clock.step(5):
            pass

        self.assertEqual(done, list(range(1, 40)))
        self.assertGreater(wal.stats.rounds, 2)

    def test_damage_is_noticed(self) -> None:
        """A bit that the simulator flips is never in the last round, whose damage no log could tell from a torn one."""
        for seed in range(30):
            disk = MemoryDisk(random.Random(seed))
            self.reopen(disk)
            self.submit_one()
            self.reopen(disk)
            flip_some_bit(disk, random.Random(seed))
            with self.subTest(seed=seed):
                try:
                    self.assertEqual(self.reopen(disk), {1: 1})
                except WalError:
                    continue

    def reopen(self, disk: MemoryDisk) -> dict[int, int]:
        """Open the log; return the replicas by group."""
        wal, recovered = open_on(
            disk,
            call_from_thread=lambda call: call(),
            on_fatal=self.fail,
            options=Options(segment_bytes=8192, free_bytes_min=0),
            clock=lambda: 0.0,
            rng=random.Random(3),
        )
        self.wal = wal
        return {group_id: found.replica_id for group_id, found in recovered.items()}

    def submit_one(self) -> None:
        """Make one record durable in the log that is open."""
        self.wal.submit([Created(1, 1, ConfState(voters=(1,)))], lambda: None)
        self.wal.commit.step(0)


class InvariantTests(SynchronousTestCase):
    def test_two_votes(self) -> None:
        """A replica that votes for two in one term is seen by what it sends."""
        invariants = Invariants(Counter())
        invariants.sent(GroupMessage(1, Message(MessageType.VOTE_RESPONSE, to=1, from_=3, term=5)))
        invariants.sent(GroupMessage(1, Message(MessageType.VOTE_RESPONSE, to=2, from_=3, term=6)))
        invariants.sent(GroupMessage(1, Message(MessageType.VOTE_RESPONSE, to=2, from_=3, term=5, reject=True)))

        second = GroupMessage(1, Message(MessageType.VOTE_RESPONSE, to=2, from_=3, term=5))
        self.assertRaises(Violation, invariants.sent, second)
