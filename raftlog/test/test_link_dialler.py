"""Dialling: when attempts are made, what is redialled, and what is said about it."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftlog.link import Endpoint, Identity, Lane
from raftlog.link.dialler import Backoff
from raftlog.link.links import Links
from raftlog.link.options import LinkOptions
from raftlog.test.link_rigs import PipeRig, Process, decode, encode


class BackoffTests(SynchronousTestCase):
    def test_doubles_within_bounds(self) -> None:
        """The first attempt is immediate, the next ones wait twice as long each time, shortened by up to a half."""
        backoff = Backoff(Random(7), 0.05, 2.0)

        delays = [backoff.next_seconds() for _ in range(100)]

        longest = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6] + [2.0] * 93
        for delay, most in zip(delays, longest, strict=True):
            self.assertTrue(most / 2 <= delay <= most, delay)
        self.assertEqual(len(set(delays)), 100)

    def test_reset(self) -> None:
        """After a success it begins anew."""
        backoff = Backoff(Random(7), 0.05, 2.0)
        for _ in range(5):
            backoff.next_seconds()

        backoff.reset()

        self.assertEqual(backoff.next_seconds(), 0.0)


@implementer(IStreamClientEndpoint)
class Pending:
    """An endpoint that never answers, and remembers what became of the attempt."""

    def __init__(self) -> None:
        self.attempts: list[Deferred[IProtocol]] = []
        self.cancelled = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Return an attempt without an end."""
        self.attempts.append(Deferred(self._cancel))
        return self.attempts[-1]

    def _cancel(self, attempt: Deferred[IProtocol]) -> None:
        self.cancelled += 1


class PendingAttemptTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have a server dial a peer that never answers."""
        self.endpoint = Pending()
        self.clock = Clock()
        self.downs: list[tuple[str, Lane]] = []
        self.links = Links(
            self.clock,
            Identity("c1", "server", "A", "a1"),
            b"the secret",
            encode,
            decode,
            lambda connection, items: None,
            rng=Random(1),
            options=LinkOptions(queue_bytes_max=100),
            dial=lambda target: self.endpoint,
        )
        self.links.watch(lambda name, lane: None, lambda name, lane: self.downs.append((name, lane)))
        self.links.startService()
        self.links.set_peer("B", Endpoint("b", 1))

    def test_queue_is_bounded(self) -> None:
        """What is sent meanwhile is queued up to the limit in bytes."""
        accepted = []
        for _ in range(4):
            accepted.append(self.links.send("B", Lane.DATA, b"x" * 60))
            self.clock.advance(0)

        self.assertEqual(accepted, [True, True, False, False])
        self.assertEqual(self.links.counters.items_dropped, 2)

    def test_removed_meanwhile(self) -> None:
        """Removing the peer cancels the attempts and announces what they had accepted as lost; nothing is retried."""
        self.links.send("B", Lane.DATA, 1)
        self.links.remove_peer("B")
        self.clock.advance(10)

        self.assertEqual(self.endpoint.cancelled, 2)
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.assertEqual(self.downs, [("B", Lane.DATA)])

    def test_stopped_meanwhile(self) -> None:
        """Stopping does not wait for attempts."""
        stopped = self.links.stopService()

        self.successResultOf(stopped)
        self.assertEqual(self.endpoint.cancelled, 2)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])


class RedialTests(SynchronousTestCase):
    """A dials B; a pipe takes no time, only backoff does."""

    def setUp(self) -> None:
        """Have two servers that do not know each other."""
        self.rig = PipeRig()
        self.a, self.b = self.rig.start("A"), self.rig.start("B")
        self.address = self.rig.endpoint(self.b)

    def attempts(self, dialler: Process) -> int:
        """Return how many connections a process has had to others."""
        return sum(caller == dialler.identity.name for caller, _, _ in self.rig.pipes.dialled)

    def test_immediately(self) -> None:
        """The first attempt, and the first one after a loss, need no time."""
        self.a.links.set_peer("B", self.address)
        self.rig.turn()
        first = list(self.a.ups)
        for _, _, near in self.rig.pipes.dialled[:]:
            near.abortConnection()
        self.rig.turn()

        self.assertEqual(first, [("B", Lane.CONTROL), ("B", Lane.DATA)])
        self.assertEqual(self.a.downs, first)
        self.assertEqual(self.a.ups, first * 2)
        assert isinstance(self.a.links, Links)
        self.assertEqual(self.a.links.counters.connections_lost, 2)

    def test_ever_more_slowly(self) -> None:
        """A peer that accepts and drops at once is not dialled in a tight loop."""
        stranger = self.rig.start("B2", cluster_id="c2")
        self.a.links.set_peer("B2", self.rig.endpoint(stranger))
        for _ in range(1000):
            self.rig.clock.advance(0.01)
            self.rig.turn()

        # Two lanes, in ten seconds: two at once, then 50 ms doubling to 1 s.
        self.assertTrue(24 <= self.attempts(self.a) <= 48, self.attempts(self.a))

    def test_begins_anew_after_a_connection_that_lasted(self) -> None:
        """The next attempt is immediate again once a connection has stood longer than the longest wait."""
        self.rig.part(self.a, self.b)
        self.a.links.set_peer("B", self.address)
        self.rig.settle()
        self.rig.rejoin(self.a, self.b)
        self.rig.settle()
        for _ in range(10):
            self.rig.settle()
        for _, _, near in self.rig.pipes.dialled[:]:
            near.abortConnection()
        self.rig.turn()

        self.assertTrue(self.a.links.connected("B", Lane.DATA))

    def test_hurries_when_the_peer_is_heard_of(self) -> None:
        """A peer that comes back and dials us is dialled at once, however long the backoff had grown."""
        self.rig.part(self.a, self.b)
        self.a.links.set_peer("B", self.address)
        for _ in range(20):
            self.rig.settle()
        self.rig.rejoin(self.a, self.b)
        self.b.links.set_peer("A", self.rig.endpoint(self.a))
        self.rig.turn()

        self.assertTrue(self.a.links.connected("B", Lane.DATA))

    def test_wrong_server(self) -> None:
        """An address at which another server listens now does not count as the peer."""
        self.a.links.set_peer("C", self.address)
        self.rig.settle()

        self.assertEqual(self.a.ups, [])

    def test_silently_dead(self) -> None:
        """A peer that keeps the connection and says nothing more goes down within the limit."""
        self.a.links.set_peer("B", self.address)
        self.rig.turn()
        for _, _, near in self.rig.pipes.dialled:
            near.stuck = near.other.stuck = True
        for _ in range(6):
            self.rig.clock.advance(0.5)
            self.rig.turn()
        before = list(self.a.downs)
        self.rig.clock.advance(0.5)
        self.rig.turn()

        self.assertEqual(before, [])
        self.assertEqual(self.a.downs, [("B", Lane.CONTROL), ("B", Lane.DATA)])

    def test_idle_stays_up(self) -> None:
        """Connections on which nobody sends anything stay, by their signs of life."""
        self.a.links.set_peer("B", self.address)
        self.rig.turn()
        for _ in range(20):
            self.rig.clock.advance(0.5)
            self.rig.turn()

        self.assertEqual(self.a.downs, [])
        self.assertEqual(self.attempts(self.a), 2)

    def test_own_stall(self) -> None:
        """A pause of our own process is not taken for the peer's silence."""
        self.a.links.set_peer("B", self.address)
        self.rig.turn()
        self.rig.clock.advance(60)
        self.rig.turn()

        self.assertEqual(self.a.downs, [])

    def test_said_once(self) -> None:
        """A row of failures is one warning per lane, until the lane was up again."""
        with capturedLogs() as events:
            self.rig.part(self.a, self.b)
            self.a.links.set_peer("B", self.address)
            for _ in range(5):
                self.rig.settle()
            self.rig.rejoin(self.a, self.b)
            self.rig.settle()

        own = [event for event in events if event["log_namespace"].startswith("raftlog.link.dialler")]
        self.assertEqual(
            [(event["log_level"].name, event["lane"]) for event in own],
            [("warn", "CONTROL"), ("warn", "DATA"), ("info", "CONTROL"), ("info", "DATA")],
        )

    def test_watcher_fails(self) -> None:
        """A watcher that raises is logged and spares the others and the lanes."""
        self.a.links.watch(lambda name, lane: 1 // 0, lambda name, lane: 1 // 0)  # type: ignore[arg-type]
        seen: list[Lane] = []
        self.a.links.watch(lambda name, lane: seen.append(lane), lambda name, lane: None)
        self.a.links.set_peer("B", self.address)
        self.rig.turn()

        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(seen, [Lane.CONTROL, Lane.DATA])
        self.assertTrue(self.a.links.connected("B", Lane.DATA))
