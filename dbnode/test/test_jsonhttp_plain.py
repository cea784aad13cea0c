"""What a plain request is: anything in doubt is left to twisted.web."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.jsonhttp import Response
from dbnode.jsonhttp.plain import parse, whole

PLAIN = b"POST /write HTTP/1.1\r\nHost: a:5000\r\ncontent-LENGTH: 2\r\nX-Empty:\r\nX:  y \t\r\n\r\n{}"


class PlainTests(SynchronousTestCase):
    def test_headers_and_body(self) -> None:
        """Names come out in lower case, values without the blanks around them."""
        found = parse(PLAIN, 1000)

        self.assertEqual(found, ({b"host": b"a:5000", b"content-length": b"2", b"x-empty": b"", b"x": b"y"}, b"{}"))
        self.assertEqual(
            parse(b"GET / HTTP/1.1\r\nConnection: Keep-Alive\r\n\r\n", 1000), ({b"connection": b"Keep-Alive"}, b"")
        )

    def test_whatever_is_in_doubt_is_not_plain(self) -> None:
        """Incomplete, pipelined, unusual, ambiguous and malformed requests are not read here."""
        head = b"POST / HTTP/1.1\r\n"
        for data in (
            PLAIN[:-1],
            PLAIN + b"\r\n",
            PLAIN + PLAIN,
            PLAIN[:40],
            head + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            head + b"Content-Length: +2\r\n\r\n{}",
            head + b"Content-Length: 2, 2\r\n\r\n{}",
            head + b"Content-Length: " + b"2" * 5000 + b"\r\n\r\n{}",
            head + b"Transfer-Encoding: chunked\r\n\r\n",
            head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
            head + b"Connection: close\r\n\r\n",
            head + b"Upgrade: websocket\r\n\r\n",
            head + b"no colon\r\n\r\n",
            head + b"Bad Name: x\r\n\r\n",
            head + b": x\r\n\r\n",
            head + b"A: b\r\n folded: c\r\n\r\n",
            head + b"A: b\nContent-Length: 2\r\n\r\n",
            head + b"A: b\rc\r\n\r\n",
            head + b"A: \0\r\n\r\n",
            head + b"A: " + b"x" * 10_000 + b"\r\n\r\n",
        ):
            self.assertIsNone(parse(data, 10_000), data)

    def test_names_are_remembered_within_bounds(self) -> None:
        """However many names clients invent, each is read correctly."""
        for number in range(3000):
            found = parse(b"GET / HTTP/1.1\r\nX-%d: 1\r\n\r\n" % number, 1000)
            self.assertEqual(found, ({b"x-%d" % number: b"1"}, b""))

    def test_whole_answer(self) -> None:
        """An answer is its status line, its headers, its length and its body."""
        response = Response(503, b"{}", ((b"Retry-After", b"1"),))

        self.assertEqual(
            whole(response, (b"Date", b"now")),
            b"HTTP/1.1 503 Service Unavailable\r\nDate: now\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
        )
