"""What has arrived of incomplete requests is bounded over all connections, on both lanes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp import Endpoint, Limits
from dbnode.jsonhttp.receiving import Receiving
from dbnode.test.test_jsonhttp_site import Echo
from dbnode.test.web_rig import Client, Reply, Web


class Connection:
    """A connection that notes its refusal."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def refuse(self, error: ApiError) -> None:
        """Take note."""
        self.refused.append(error.code)


class BoundTests(SynchronousTestCase):
    def test_who_holds_most_goes_first(self) -> None:
        """Beyond the bound the largest is refused, whoever came last; the others go on."""
        bound, small, large = Receiving(100), Connection(), Connection()

        bound.hold(large, 80)
        bound.hold(small, 15)
        bound.hold(small, 30)

        self.assertEqual((small.refused, large.refused), ([], ["overloaded"]))
        self.assertEqual(bound.total_bytes, 30)

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60))))
    @settings(derandomize=True, deadline=None, max_examples=200)
    def test_never_more(self, steps: list[tuple[int, int]]) -> None:
        """Whatever arrives or is released, the sum is what is held, and within the bound."""
        bound, connections = Receiving(100), [Connection() for _ in range(5)]
        held: dict[int, int] = {}
        for number, size in steps:
            if size:
                held[number] = size
                bound.hold(connections[number], size)
            else:
                held.pop(number, None)
                bound.release(connections[number])
            for refused, connection in enumerate(connections):
                if connection.refused:
                    connection.refused.clear()
                    held.pop(refused)

            self.assertEqual(bound.total_bytes, sum(held.values()))
            self.assertLessEqual(bound.total_bytes, 100)


class LaneTests(SynchronousTestCase):
    """twisted.web's lane."""

    def setUp(self) -> None:
        """Make a site where 1,000 bytes may be arriving."""
        self.web = Web(Echo().app.resource(), Limits(body_bytes_max=900, receiving_bytes_max=1000), self.direct())

    def direct(self) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that are served directly."""
        return {}

    def begin(self, size: int) -> Client:
        """Send so much of a body that is longer, which gets no answer yet."""
        client = self.web.client()
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 600\r\n\r\n"
        self.assertEqual(client.send(head + b" " * (size // 2)), b"")
        self.assertEqual(client.send(b" " * (size - size // 2)), b"")
        return client

    def test_the_largest_is_refused(self) -> None:
        """One body too many costs the connection that holds most; the others come to their end."""
        small, large = self.begin(300), self.begin(500)

        newest = self.begin(250)
        refusal = Reply(large.received())

        self.assertEqual((refusal.status, refusal.code, refusal.json["applied"]), (503, "overloaded", "no"))
        self.assertEqual(refusal.headers["Retry-After"], "1")
        self.assertEqual(Reply(small.send(b" " * 298 + b"{}")).json, {})
        self.assertEqual(Reply(newest.send(b" " * 348 + b"{}")).json, {})
        self.assertEqual(self.web.site.receiving.total_bytes, 0)

    def test_what_was_refused_is_dropped(self) -> None:
        """A refused connection that goes on sending holds nothing."""
        self.begin(500)
        large = self.begin(400)
        refusal = Reply(large.send(b" " * 101))

        large.send(b" " * 99)

        self.assertEqual(refusal.code, "overloaded")

        self.assertEqual(self.web.site.receiving.total_bytes, 500)

    def test_who_leaves_holds_nothing(self) -> None:
        """A client that goes away in the middle gives back what it held; so does one that is too slow."""
        self.begin(500).closed(ConnectionError())
        slow = self.begin(500)
        self.web.clock.pump([1] * 40)

        self.assertEqual(Reply(slow.received()).status, 408)
        self.assertEqual(self.web.site.receiving.total_bytes, 0)

    def test_chunks_count(self) -> None:
        """Bodies without a length are counted as they grow."""
        first, second = self.web.client(), self.web.client()
        for client in (first, second):
            client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(b"1f4\r\n" + b" " * 500 + b"\r\n")
        self.assertEqual(self.web.site.receiving.total_bytes, 1000)

        refusal = Reply(first.send(b"1\r\n \r\n"))

        self.assertEqual(refusal.code, "overloaded")
        self.assertEqual(self.web.site.receiving.total_bytes, 500)


class LeanLaneTests(LaneTests):
    """The lean lane."""

    def direct(self) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that are served directly."""
        return {(b"POST", b"/echo"): Echo().echo}
