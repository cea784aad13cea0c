"""Requests and their replies: matched by number, given up when they must be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import Requests, Unanswered
from dbnode.test.client_rig import ClientRig, status
from dbnode.wire import OVERLOADED, Statuses


class RequestsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect a client to servers that leave every request unanswered."""
        self.rig = ClientRig()
        for server in self.rig.servers.values():
            server.ignore()

    def test_replies_find_their_requests_in_any_order(self) -> None:
        """Each reply reaches who asked, whatever the order."""
        server = self.rig.servers["A"]
        first = self.rig.requests.ask("A", status, 1)
        second = self.rig.requests.ask("A", status, 1)
        self.rig.settle()

        for item in reversed(server.requests):
            server.reply(Statuses(item.request_id, ()))
        self.rig.settle()

        self.assertEqual(
            [self.successResultOf(reply).request_id for reply in (first, second)],
            [item.request_id for item in server.requests],
        )
        self.assertEqual(len(self.rig.requests), 0)

    def test_request_without_reply_is_given_up_in_time(self) -> None:
        """A deadline is met to a tenth of a second, and the request may have arrived."""
        reply = self.rig.requests.ask("A", status, 1)

        self.rig.run(0.99)
        self.assertNoResult(reply)
        self.rig.run(0.12)

        self.assertTrue(self.failureResultOf(reply, Unanswered).value.sent)

    def test_late_reply_is_dropped(self) -> None:
        """A reply to a request that was given up disturbs nobody."""
        server = self.rig.servers["A"]
        reply = self.rig.requests.ask("A", status, 0.1)
        self.rig.run(0.3)
        self.failureResultOf(reply, Unanswered)

        server.reply(Statuses(server.requests[0].request_id, ()))
        self.rig.settle()

        self.assertEqual(len(self.rig.requests), 0)

    def test_dropped_connection_gives_up_at_once(self) -> None:
        """What was sent to a server that went away fails when the connection does; other servers' goes on."""
        lost, kept = self.rig.requests.ask("A", status, 10), self.rig.requests.ask("B", status, 10)
        self.rig.settle()

        self.rig.network.cut("balancer", "A")
        self.rig.settle()

        self.assertTrue(self.failureResultOf(lost, Unanswered).value.sent)
        self.assertNoResult(kept)

    def test_unconnected_server_fails_at_once_and_for_certain(self) -> None:
        """What could not be sent has certainly not arrived."""
        reply = self.rig.requests.ask("nobody", status, 10)

        self.assertFalse(self.failureResultOf(reply, Unanswered).value.sent)

    def test_requests_are_bounded(self) -> None:
        """Beyond the limit of requests in flight the next one fails as overloaded, unsent."""
        requests = Requests(self.rig.clock, self.rig.links, in_flight_max=1)
        waiting = requests.ask("A", status, 1)

        error = self.failureResultOf(requests.ask("A", status, 1), Unanswered).value

        self.assertEqual((error.code, error.sent), (OVERLOADED, False))
        self.assertNoResult(waiting)

    def test_cancelled_waiter_is_dropped_quietly(self) -> None:
        """Who cancels gets no reply; the reply, when it comes, is no error."""
        server = self.rig.servers["A"]
        reply = self.rig.requests.ask("A", status, 1)
        self.rig.settle()
        reply.cancel()
        self.failureResultOf(reply)

        server.reply(Statuses(server.requests[0].request_id, ()))
        self.rig.settle()

        self.assertEqual(len(self.rig.requests), 0)

    def test_stopping_gives_up_everything(self) -> None:
        """Nothing waits for a process that ends, and no timer is left of the requests."""
        reply = self.rig.requests.ask("A", status, 10)
        self.rig.settle()

        self.rig.requests.stop()

        self.failureResultOf(reply, Unanswered)
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])
