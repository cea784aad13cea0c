"""Tests of benchmarks.http1."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.http1 import MalformedResponseError, Response, ResponseParser

SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"
UNSIZED = b"HTTP/1.1 200 OK\r\n\r\nhello"


def feed_in_pieces(parser: ResponseParser, data: bytes, cuts: list[int]) -> list[Response]:
    """Feed `data` cut at the given places; return all responses."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[low:high] for low, high in pairwise(edges)]
    return [response for piece in pieces if piece and (response := parser.feed(piece)) is not None]


class WholeResponses(SynchronousTestCase):
    def test_sized(self) -> None:
        """An answer with a length is returned at once, with its status and body."""
        parser = ResponseParser()

        response = parser.feed(SIZED)

        self.assertEqual(response, Response(200, b"hello", True))

    def test_several_on_one_connection(self) -> None:
        """A parser is ready for the next answer after each, whichever way the one before was framed."""
        parser = ResponseParser()

        responses = [parser.feed(answer) for answer in (SIZED, CHUNKED, SIZED)]

        self.assertEqual([response.body for response in responses if response], [b"hello"] * 3)

    def test_field_names_in_any_case(self) -> None:
        """Field names are matched in any case."""
        parser = ResponseParser()

        response = parser.feed(SIZED.replace(b"Content-Length", b"content-length"))

        self.assertEqual(response, Response(200, b"hello", True))

    def test_length_in_the_body_is_not_a_field(self) -> None:
        """Only the head says how long an answer is."""
        parser = ResponseParser()
        body = b"\r\nContent-Length: 99\r\n"

        response = parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        self.assertEqual(response, Response(200, body, True))

    def test_close_is_noticed(self) -> None:
        """An answer that announces the end of its connection is not reusable."""
        closing = SIZED.replace(b"Content-Type: application/json", b"Connection: close")

        whole = ResponseParser().feed(closing)
        in_pieces = feed_in_pieces(ResponseParser(), closing, [20])

        self.assertEqual(whole, Response(200, b"hello", False))
        self.assertEqual(in_pieces, [whole])

    def test_no_content(self) -> None:
        """A 204 ends with its head."""
        response = ResponseParser().feed(b"HTTP/1.1 204 No Content\r\n\r\n")

        self.assertEqual(response, Response(204, b"", True))


class PiecewiseResponses(SynchronousTestCase):
    @given(st.lists(st.integers(min_value=0), max_size=8))
    def test_cut_anywhere(self, cuts: list[int]) -> None:
        """However the bytes are cut, a sized and a chunked answer come out the same."""
        sized = feed_in_pieces(ResponseParser(), SIZED, cuts)
        chunked = feed_in_pieces(ResponseParser(), CHUNKED, cuts)

        self.assertEqual(sized, [Response(200, b"hello", True)])
        self.assertEqual(chunked, [Response(201, b"hello", True)])

    def test_until_close(self) -> None:
        """An answer without a length is what came until the connection closed."""
        parser = ResponseParser()

        before = parser.feed(UNSIZED)
        response = parser.close()

        self.assertIsNone(before)
        self.assertEqual(response, Response(200, b"hello", False))


class BadResponses(SynchronousTestCase):
    def test_cut_off(self) -> None:
        """A sized or chunked answer that the connection's end cuts off is an error, not a short answer."""
        for answer in (SIZED, CHUNKED):
            parser = ResponseParser()
            self.assertIsNone(parser.feed(answer[:-1]))

            self.assertRaises(MalformedResponseError, parser.close)

    def test_close_between_answers(self) -> None:
        """A connection that closes with nothing begun ends nothing."""
        self.assertIsNone(ResponseParser().close())

    def test_not_http(self) -> None:
        """Other protocols are refused."""
        self.assertRaises(MalformedResponseError, ResponseParser().feed, b"SSH-2.0-OpenSSH\r\n\r\n")

    def test_bytes_after_the_end(self) -> None:
        """Bytes that no request asked for are refused, for they would be taken for the next answer."""
        self.assertRaises(MalformedResponseError, ResponseParser().feed, SIZED + b"more")

    def test_bad_chunks(self) -> None:
        """A chunk size that is no number, and a chunk longer than it says, are refused."""
        for old, new in ((b"3\r\nhel", b"x\r\nhel"), (b"3\r\nhel", b"2\r\nhel")):
            broken = CHUNKED.replace(old, new)

            self.assertRaises(MalformedResponseError, ResponseParser().feed, broken)

    def test_endless_head(self) -> None:
        """A head without end is refused before it fills the memory."""
        parser = ResponseParser()

        with self.assertRaises(MalformedResponseError):
            for _ in range(100):
                self.assertIsNone(parser.feed(b"X-Filler: " + b"x" * 1000 + b"\r\n"))
