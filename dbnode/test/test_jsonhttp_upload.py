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

    def test_order(self) -> None:
        """Pieces come in order, whether somebody waits for them already or not."""
        waiting = self.take()
        for piece in (b"1", b"2", b"3"):
            self.upload.received(piece)
        self.upload.end()

        found = [self.successResultOf(one) for one in (waiting, self.take(), self.take())]

        self.assertEqual(found, [b"1", b"2", b"3"])
        self.failureResultOf(self.take(), StopAsyncIteration)

    def test_waiting_for_the_end(self) -> None:
        """Whoever waits for another piece learns that there is none."""
        waiting = self.take()
        self.assertNoResult(waiting)

        self.upload.end()

        self.failureResultOf(waiting, StopAsyncIteration)

    def test_client_is_held_and_let_go(self) -> None:
        """Beyond the bound the client is read no further, until half of it is taken."""
        for _ in range(6):
            self.upload.received(PIECE)
        held = list(self.calls)
        taken = []
        for _ in range(6):
            self.successResultOf(self.take())
            taken.append(len(self.calls))

        self.assertEqual(held, ["pause"])
        self.assertEqual(self.calls, ["pause", "resume"])
        self.assertEqual(taken, [1, 1, 1, 2, 2, 2])

    def test_cut_short(self) -> None:
        """What was cut short is an error at once, not an end, and what waited is dropped."""
        self.upload.received(b"early")
        self.assertEqual(self.successResultOf(self.take()), b"early")
        waiting = self.take()
        self.upload.cut(ClientGone())
        self.failureResultOf(waiting, ClientGone)

        self.upload.received(b"late")
        self.upload.cut(ValueError())

        self.failureResultOf(self.take(), ClientGone)

    def test_lost_after_the_end(self) -> None:
        """A client that goes away after its whole body was taken in changes nothing."""
        self.upload.received(b"1")
        self.upload.end()
        self.upload.cut(ClientGone())

        self.assertEqual(self.successResultOf(self.take()), b"1")
        self.failureResultOf(self.take(), StopAsyncIteration)
