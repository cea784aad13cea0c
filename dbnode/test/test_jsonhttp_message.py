"""The bytes of whole answers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.jsonhttp import Response
from dbnode.jsonhttp.message import Messages


class MessageTests(SynchronousTestCase):
    def test_whole_answer(self) -> None:
        """An answer is its status line, the date, its headers, its length and its body."""
        response = Response(503, b"{}", ((b"Retry-After", b"1"),))

        self.assertEqual(
            Messages(b"now").whole(response, keep_alive=True),
            b"HTTP/1.1 503 Service Unavailable\r\nDate: now\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
        )

    def test_last_answer_of_a_connection_says_so(self) -> None:
        """An answer after which the connection ends tells the client, whatever was written before."""
        messages = Messages(b"now")
        kept, last = (messages.whole(Response(200, b"", ()), keep_alive=keep) for keep in (True, False))

        self.assertNotIn(b"Connection", kept)
        self.assertIn(b"\r\nConnection: close\r\n", last)

    def test_date_moves_on(self) -> None:
        """Answers of the next second have its date."""
        messages = Messages(b"now")
        messages.whole(Response(200, b""), keep_alive=True)

        messages.turn(b"then")

        self.assertIn(b"\r\nDate: then\r\n", messages.whole(Response(200, b""), keep_alive=True))
