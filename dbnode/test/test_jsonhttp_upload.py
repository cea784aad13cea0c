"""A body in pieces: in order, no faster than it is taken, and never complete when it is not."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.jsonhttp.upload import UNTAKEN_BYTES_MAX, ClientGone, Upload

PIECE = b"x" * (UNTAKEN_BYTES_MAX // 4)


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin a body whose pausing is written down."""
        self.calls: list[str] = []
        self.upload = Upload(lambda: self.calls.append("pause"), lambda: self.calls.append("resume"))

    def take(self) -> Deferred[bytes]:
        """Take the next piece, now or when it comes."""
        return Deferred.fromCoroutine(self.upload.__anext__())

    def receive(self, *pieces: bytes) -> None:
        """Let pieces come together."""
        for piece in pieces:
            self.upload.received(piece)
        self.upload.deliver()

    def test_order(self) -> None:
        """What comes together is taken together, in order, whether somebody waits for it already or not."""
        waiting = self.take()
        self.receive(b"1", b"2")
        self.receive(b"3")
        self.receive(b"4", b"5")
        self.upload.end()

        found = [self.successResultOf(one) for one in (waiting, self.take())]

        self.assertEqual(found, [b"12", b"345"])
        self.failureResultOf(self.take(), StopAsyncIteration)

    def test_waiting_for_the_end(self) -> None:
        """Whoever waits for another piece learns that there is none."""
        waiting = self.take()
        self.assertNoResult(waiting)

        self.upload.end()

        self.failureResultOf(waiting, StopAsyncIteration)

    def test_client_is_held_and_let_go(self) -> None:
        """Beyond the bound the client is read no further, until it is taken."""
        for _ in range(6):
            self.receive(PIECE)
        held = list(self.calls)

        self.assertEqual(len(self.successResultOf(self.take())), 6 * len(PIECE))

        self.assertEqual(held, ["pause"])
        self.assertEqual(self.calls, ["pause", "resume"])

    def test_cut_short(self) -> None:
        """What was cut short is an error at once, not an end, and what waited is dropped."""
        self.receive(b"early")
        self.assertEqual(self.successResultOf(self.take()), b"early")
        waiting = self.take()
        self.upload.cut(ClientGone())
        self.failureResultOf(waiting, ClientGone)

        self.receive(b"late")
        self.upload.cut(ValueError())

        self.failureResultOf(self.take(), ClientGone)

    def test_lost_after_the_end(self) -> None:
        """A client that goes away after its whole body was taken in changes nothing."""
        self.receive(b"1")
        self.upload.end()
        self.upload.cut(ClientGone())

        self.assertEqual(self.successResultOf(self.take()), b"1")
        self.failureResultOf(self.take(), StopAsyncIteration)
