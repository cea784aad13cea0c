"""Reads: from the replica asked first, else from another one, each attempt a request of its own."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import ReadChannel, Unavailable
from dbnode.test.client_rig import GROUP, SERVERS, ClientRig
from dbnode.wire import LINEARIZABLE, NO_REPLICA, STALE, UNAVAILABLE, Read, Reply, Rows


def rows(item: Read) -> Reply:
    """Answer with one row per id, at most as many as the limit or two, of which the id is all there is."""
    ids = list(range(item.low, item.high + 1))
    page = ids[: min(item.limit or 2, 2)]
    following = page[-1] + 1 if len(page) < len(ids) else None
    return Rows(item.request_id, len(page), b",".join(b"%d" % id_ for id_ in page), following)


class ReadTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect a client to three replicas."""
        self.rig = ClientRig()
        self.a, self.b, self.c = self.rig.servers.values()
        for server in self.rig.servers.values():
            server.answer = rows
        self.reads = ReadChannel(self.rig.clock, self.rig.requests, Random(1))

    def read(self, low: int = 1, high: int = 2, timeout_seconds: float = 10) -> Deferred[Rows]:
        """Read a range from A, B or C."""
        return self.reads.read(GROUP, SERVERS, low, high, timeout_seconds=timeout_seconds)

    def test_first_server_is_asked_alone(self) -> None:
        """A read costs one request, to the server that the caller prefers."""
        reply = self.read()
        self.rig.settle()

        self.assertEqual(self.successResultOf(reply).data, b"1,2")
        self.assertEqual(self.a.requests, [Read(1, GROUP, 1, 2, 0, 1 << 20, LINEARIZABLE, 1800)])
        self.assertEqual(self.b.requests + self.c.requests, [])

    def test_refusal_sends_a_fresh_attempt_to_the_next_server(self) -> None:
        """Every attempt has a number of its own, so no answer of an earlier one can be taken for it."""
        self.a.refuse(UNAVAILABLE)

        reply = self.read()
        self.rig.settle()

        self.assertEqual(self.successResultOf(reply).data, b"1,2")
        self.assertNotEqual(self.a.requests[0].request_id, self.b.requests[0].request_id)

    def test_lost_and_silent_servers_are_passed_over(self) -> None:
        """A dropped connection costs nothing, a silent server about an election timeout."""
        self.rig.network.cut("balancer", "A")
        self.b.ignore()

        reply = self.read()
        self.rig.run(0.25)
        self.assertNoResult(reply)
        self.rig.run(0.2)

        self.assertEqual(self.successResultOf(reply).data, b"1,2")

    def test_read_fails_at_its_deadline_with_the_last_reason(self) -> None:
        """When no replica can answer the reader hears so in time, and why."""
        for server in self.rig.servers.values():
            server.refuse(UNAVAILABLE)

        reply = self.read(timeout_seconds=1)
        self.rig.run(0.9)
        self.assertNoResult(reply)
        self.rig.run(0.2)

        self.assertIn("unavailable here", self.failureResultOf(reply, Unavailable).value.text)
        self.assertTrue(15 <= len(self.a.requests) <= 50, len(self.a.requests))

    def test_servers_of_later_rounds(self) -> None:
        """When all were asked in vain, those are asked who have the group by then."""
        self.a.refuse(NO_REPLICA)
        self.b.refuse(NO_REPLICA)
        asked_about: list[int] = []

        def later(group_id: int) -> tuple[str, ...]:
            asked_about.append(group_id)
            return ("A", "C") if len(asked_about) > 1 else ("B",)

        reply = self.reads.read(GROUP, ("A",), 1, 2, timeout_seconds=10, later=later)
        self.rig.run(0.3)

        self.assertEqual(self.successResultOf(reply).data, b"1,2")
        self.assertEqual(asked_about, [GROUP, GROUP])
        self.assertEqual([len(server.requests) for server in (self.a, self.b, self.c)], [2, 1, 1])

    def test_no_servers_at_all(self) -> None:
        """A group without a replica anywhere is unavailable at once."""
        reply = self.reads.read(GROUP, [], 1, 2, timeout_seconds=1)

        self.failureResultOf(reply, Unavailable)

    def test_cancelled_read_makes_no_further_attempt(self) -> None:
        """Nobody waits any more, so nobody else is asked."""
        self.a.ignore()
        reply = self.read()
        self.rig.settle()

        reply.cancel()
        self.failureResultOf(reply)
        self.rig.run(3)

        self.assertEqual(self.b.requests, [])

    def test_pages_go_on_where_the_last_one_ended(self) -> None:
        """All pages of a range come in order, each asked for when the one before was taken."""
        pages = self.pages(5, STALE)

        self.assertEqual(pages, [b"1,2", b"3,4", b"5"])
        self.assertEqual([item.low for item in self.a.requests if isinstance(item, Read)], [1, 3, 5])

    def test_pages_end_at_the_limit(self) -> None:
        """A limit counts over all pages."""
        self.assertEqual(self.pages(9, LINEARIZABLE, limit=3), [b"1,2", b"3"])

    def pages(self, high: int, consistency: int, limit: int = 0) -> list[bytes]:
        """Take all pages from 1 to `high`."""

        async def take() -> list[bytes]:
            source = self.reads.pages(GROUP, SERVERS, 1, high, timeout_seconds=1, consistency=consistency, limit=limit)
            return [page.data async for page in source]

        taken = Deferred.fromCoroutine(take())
        self.rig.run(0.1)
        return self.successResultOf(taken)
