"""The reader of single requests: where each ends, and what is refused; test_smuggling has the malicious ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp.reader import NotForUs, RequestReader

PLAIN = b"POST /write HTTP/1.1\r\nHost: a:5000\r\ncontent-LENGTH: 2\r\nX-Empty:\r\nX:  y \t\r\n\r\n{}"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class ReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a reader with small limits."""
        self.reader = RequestReader(head_bytes_max=200, body_bytes_max=100)

    def check_refused(self, data: bytes, status: int, code: str) -> None:
        """Check the refusal of a request."""
        reader = RequestReader(head_bytes_max=200, body_bytes_max=100)
        error = self.assertRaises(ApiError, reader.take, data)
        self.assertEqual((error.status, error.code), (status, code))

    def test_headers_and_body(self) -> None:
        """Names come out in lower case, values without the blanks around them, of equal names the last."""
        self.assertEqual(self.reader.take(PLAIN), b"")
        headers = {b"host": b"a:5000", b"content-length": b"2", b"x-empty": b"", b"x": b"y"}
        self.assertEqual((self.reader.headers, self.reader.body, self.reader.keep_alive), (headers, b"{}", True))

        self.assertEqual(self.reader.take(b"GET / HTTP/1.1\r\nA: 1\r\na: 2\r\nConnection: close\r\n\r\n"), b"")
        self.assertEqual((self.reader.headers[b"a"], self.reader.body, self.reader.keep_alive), (b"2", b"", False))

    def test_what_follows_is_given_back(self) -> None:
        """Not a byte after the end is read."""
        for request in (PLAIN, b"GET / HTTP/1.1\r\n\r\n", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"):
            for rest in (b"", b"G", b"\0\r\n", PLAIN):
                self.assertEqual(self.reader.take(request + rest), rest)

    def test_pieces(self) -> None:
        """A request may arrive byte by byte; until its end there is none."""
        for request, body in ((PLAIN, b"{}"), (CHUNKED + b"1\r\n{\r\n1;x\r\n}\r\n0\r\nA: b\r\n\r\n", b"{}")):
            for at in range(len(request) - 1):
                self.assertIsNone(self.reader.take(request[at : at + 1]))

            self.assertEqual((self.reader.take(request[-1:]), self.reader.body), (b"", body))

    def test_fields_after_the_last_chunk_are_no_headers(self) -> None:
        """A trailer cannot add a header, such as an Idempotency-Key (RFC 9110 §6.5.1)."""
        self.reader.take(CHUNKED + b"0\r\nA: b\r\n\r\n")

        self.assertEqual(self.reader.headers, {b"transfer-encoding": b"chunked"})

    def test_client_that_waits_to_be_told(self) -> None:
        """Whether the client waits is known once the head is there, and it does not if the body came along."""
        head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

        self.reader.take(head)
        self.assertTrue(self.reader.expects)
        self.reader.take(b"{}")
        self.assertFalse(self.reader.expects)
        self.reader.take(head + b"{")
        self.assertFalse(self.reader.expects)

    def test_limits(self) -> None:
        """A head, its number of headers, a body and its framing have limits; a length is refused before the body."""
        self.check_refused(b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413, "body_too_large")
        self.check_refused(CHUNKED + b"65\r\n" + b"x" * 101, 413, "body_too_large")
        self.check_refused(b"POST / HTTP/1.1\r\nA: " + b"x" * 200, 431, "headers_too_large")
        self.check_refused(b"POST / HTTP/1.1\r\nA: " + b"x" * 200 + b"\r\n\r\n", 431, "headers_too_large")
        self.check_refused(CHUNKED + b"1;" + b"x" * 200, 431, "headers_too_large")
        self.check_refused(CHUNKED + b"0\r\n" + b"A: b\r\n" * 50, 431, "headers_too_large")
        self.assertEqual(self.reader.take(CHUNKED + b"1\r\nx\r\n" * 100 + b"0\r\n\r\n"), b"")
        self.assertEqual(self.reader.body, b"x" * 100)

    def test_malformed_requests_say_what_is_wrong(self) -> None:
        """The refusal tells what could not be read."""
        error = self.assertRaises(ApiError, self.reader.take, b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n")

        self.assertEqual((error.status, error.code), (400, "bad_request"))
        self.assertIn("Content-Length", error.text)

    def test_upgrade_is_for_another_reader(self) -> None:
        """A request to change the protocol is given back with all that came with it, and the reader can go on."""
        request = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}"

        self.assertIsNone(self.reader.take(request[:30]))
        other = self.assertRaises(NotForUs, self.reader.take, request[30:] + PLAIN)

        self.assertEqual(other.data, request + PLAIN)
        self.assertEqual((self.reader.take(PLAIN), self.reader.body), (b"", b"{}"))
