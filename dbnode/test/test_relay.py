"""A proposal is passed on to the leader by a server that has a connection to it, and by no other."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client.outcome import Unanswered
from dbnode.relay import Relay
from dbnode.wire import LOST, UNAVAILABLE, Applied, Done, Propose, Refused, Reply, Request

PROPOSE = Propose(7, 1, b"command", 1500, "A")


class RelayTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin with a connection to A."""
        self.connected = {"A"}
        self.asked: list[tuple[str, Request, float]] = []
        self.reply: Deferred[Reply] = Deferred()
        self.relay = Relay(self, self.connected.__contains__)

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """Take a request as dbnode.client.requests.Requests does."""
        self.asked.append((server, build(99), timeout_seconds))
        return self.reply

    def test_passed_on(self) -> None:
        """The leader is asked once, to do it itself; what it says goes back under the asker's number."""
        answer = self.relay.pass_on(PROPOSE)
        self.reply.callback(Applied(99, (Done(),)))

        self.assertEqual(self.asked, [("A", Propose(99, 1, b"command", 1500), 1.5)])
        self.assertEqual(self.successResultOf(answer), Applied(7, (Done(),)))

    def test_no_connection(self) -> None:
        """It is refused at once, for certain: to wait for a connection would be to wait for a server that is dead."""
        self.connected.clear()

        answer = self.successResultOf(self.relay.pass_on(PROPOSE))

        self.assertEqual(answer, Refused(7, UNAVAILABLE, "A is not connected", maybe_applied=False))
        self.assertEqual(self.asked, [])

    def test_not_sent(self) -> None:
        """What could not be sent is certainly not applied."""
        answer = self.relay.pass_on(PROPOSE)
        self.reply.errback(Unanswered(UNAVAILABLE, "too much waits", sent=False))

        self.assertEqual(self.successResultOf(answer), Refused(7, UNAVAILABLE, "A: too much waits"))

    def test_lost(self) -> None:
        """What was sent and not answered may be applied."""
        answer = self.relay.pass_on(PROPOSE)
        self.reply.errback(Unanswered(UNAVAILABLE, "the connection dropped", sent=True))

        self.assertEqual(
            self.successResultOf(answer), Refused(7, LOST, "A: the connection dropped", maybe_applied=True)
        )
