"""Requests made to be read differently by two readers: each is refused as a whole, or read in the one right way.

Every test runs over both lanes, delivered at once and byte by byte: what a proxy in front of us may have let through
must neither hide a second request in the first one's body nor the other way round (RFC 9112 §11.2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request

from dbnode.jsonhttp import Endpoint, Headers, Response, answer, errors_as_json, json_response
from dbnode.test.web_rig import Client, Reply, Web

POST = b"POST /take HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
#: What an attacker would like to have served.
HIDDEN = b"POST /take HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhidden"


class Taking:
    """An application that remembers the bodies it was given."""

    app = Klein()
    errors_as_json(app)

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    @app.route("/take", methods=["POST"])
    def _take(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.take)

    def take(self, headers: Headers, body: bytes) -> Response:
        """Remember the body."""
        self.taken.append(body)
        return json_response({})


class SmugglingTests(SynchronousTestCase):
    def direct(self, app: Taking) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that the lean lane serves: none here."""
        return {}

    def check_refused(self, *attacks: bytes, status: int = 400) -> None:
        """Check that nothing of an attack is served and nothing after it, and that the answer is one error in JSON."""
        for attack in attacks:
            for app, client, received in self.deliveries(attack + HIDDEN):
                reply = Reply(received)
                self.assertEqual((reply.status, app.taken), (status, []), attack)
                self.assertEqual(json.loads(reply.body)["status"], "failure")
                self.assertTrue(client.wire.half_closed, attack)

    def check_read(self, data: bytes, *bodies: bytes) -> None:
        """Check that exactly these bodies are found in the bytes."""
        for app, _, received in self.deliveries(data):
            self.assertEqual(app.taken, list(bodies), data)
            self.assertEqual(received.count(b"HTTP/1.1 200 OK"), len(bodies), data)

    def deliveries(self, data: bytes) -> Iterator[tuple[Taking, Client, bytes]]:
        """Send the bytes to new sites, at once and one by one."""
        for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
            app = Taking()
            client = Web(app.app.resource(), direct=self.direct(app)).client()
            yield app, client, b"".join([client.send(piece) for piece in pieces])

    def test_lengths_that_differ_or_are_none(self) -> None:
        """Two lengths, equal or not, lists of them, signs, blanks and other bases are refused."""
        self.check_refused(
            POST + b"Content-Length: 2\r\nContent-Length: 49\r\n\r\n{}",
            POST + b"Content-Length: 2\r\ncontent-length: 2\r\n\r\n{}",
            *(
                POST + b"Content-Length: %b\r\n\r\n{}" % length
                for length in (b"2, 2", b"+2", b"-2", b"0x2", b"1 2", b"", b"2.0", b"\xb2", b"9" * 5000)
            ),
        )

    def test_length_together_with_chunks(self) -> None:
        """A length and chunks in one request are refused, whichever comes first."""
        self.check_refused(
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        )

    def test_codings_but_chunked(self) -> None:
        """Any transfer coding but exactly "chunked", once, is refused."""
        for coding in (b"gzip, chunked", b"chunked, gzip", b"gzip", b"identity", b"xchunked", b"chunked;q=1", b""):
            self.check_refused(POST + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % coding)
        self.check_refused(
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        )

    def test_malformed_chunks(self) -> None:
        """Sizes that are none, chunks longer or shorter than they say, and bare line ends are refused."""
        self.check_refused(
            CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
            CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
            CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
            CHUNKED + b"g\r\n{}\r\n0\r\n\r\n",
            CHUNKED + b"2\r\n{}}\r\n0\r\n\r\n",
            CHUNKED + b"3\r\n{}\r\n0\r\n\r\n",
            CHUNKED + b"2\r\n{}\n0\r\n\r\n",
            CHUNKED + b"2;\0\r\n{}\r\n0\r\n\r\n",
        )

    def test_odd_line_ends(self) -> None:
        """Bare CR and LF within a head end nothing and are refused."""
        self.check_refused(
            POST + b"A: b\nContent-Length: 2\r\n\r\n{}",
            POST + b"A: b\rContent-Length: 2\r\n\r\n{}",
            POST + b"A: b\n\nPOST /take HTTP/1.1\r\n\r\n",
            b"POST /take HTTP/1.1\nHost: a\r\n\r\n",
        )

    def test_folded_headers(self) -> None:
        """A header that goes on in a second line is refused, also the one that would say how long the body is."""
        self.check_refused(
            POST + b"A: b\r\n c\r\n\r\n",
            POST + b"A: b\r\n\tContent-Length: 2\r\n\r\n{}",
            POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            b"POST /take HTTP/1.1\r\n Host: a\r\n\r\n",
        )

    def test_malformed_headers(self) -> None:
        """NUL, no colon, no name and blanks in or after a name are refused."""
        self.check_refused(
            POST + b"A: \0\r\n\r\n",
            POST + b"A\0: b\r\n\r\n",
            POST + b"no colon\r\n\r\n",
            POST + b": b\r\n\r\n",
            POST + b"A B: c\r\n\r\n",
            POST + b"Content-Length : 2\r\n\r\n{}",
        )

    def test_floods_of_headers(self) -> None:
        """Too many headers, too long ones, and fields without end after the last chunk are refused."""
        self.check_refused(
            POST + b"A: b\r\n" * 600 + b"\r\n",
            POST + (b"A: " + b"b" * 900 + b"\r\n") * 30 + b"\r\n",
            status=431,
        )
        for app, client, received in self.deliveries(CHUNKED + b"0\r\n" + b"A: b\r\n" * 12_000 + b"\r\n"):
            self.assertIn(Reply(received).status, (400, 431))
            self.assertEqual((app.taken, client.wire.half_closed), ([], True))

    def test_versions_that_we_do_not_speak(self) -> None:
        """Only HTTP/1.0 and HTTP/1.1 are spoken here."""
        for version in (
            b"HTTP/2.0",
            b"HTTP/1.2",
            b"HTTP/0.9",
            b"HTTP/1.10",
            b"HTTP/1.1 ",
            b"http/1.1",
            b"",
            b"HTTP/1.1x",
        ):
            self.check_refused(b"POST /take %b\r\nContent-Length: 2\r\n\r\n{}" % version)

    def test_bodies_hide_nothing(self) -> None:
        """What looks like a request within a body is a body, and what follows the body is a request."""
        size = b"%d" % len(HIDDEN)
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

        self.check_read(POST + b"Content-Length: " + size + b"\r\n\r\n" + HIDDEN + HIDDEN, HIDDEN, b"hidden")
        self.check_read(CHUNKED + chunks + CHUNKED + chunks + HIDDEN, HIDDEN, HIDDEN, b"hidden")
        self.check_read(POST + b"\r\n" + HIDDEN, b"", b"hidden")
        self.check_read(CHUNKED + b"2;a=b\r\n\r\n\r\n3\r\n\r\n0\r\n0\r\nA: b\r\n\r\n" + HIDDEN, b"\r\n\r\n0", b"hidden")

    def test_forms_that_are_odd_and_right(self) -> None:
        """The absolute form, an empty line in front, a query and an Upgrade that is not followed change no length."""
        for head in (
            b"POST http://b/take HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            b"\r\nPOST /take HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            b"POST /take?a HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            b"POST //take HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n",
            POST + b"CONTENT-LENGTH:2\r\n\r\n",
            POST + b"Content-Length:  \t2 \r\n\r\n",
        ):
            self.check_read(head + b"{}" + HIDDEN, b"{}", b"hidden")

    def test_nothing_is_served_after_the_last_request(self) -> None:
        """What follows a request with "Connection: close", or one of HTTP/1.0, is dropped."""
        for head in (
            POST + b"Connection: close\r\nContent-Length: 2\r\n\r\n",
            POST + b"Connection: Close\r\nContent-Length: 2\r\n\r\n",
            b"POST /take HTTP/1.0\r\nContent-Length: 2\r\n\r\n",
        ):
            for app, client, received in self.deliveries(head + b"{}" + HIDDEN):
                self.assertEqual((app.taken, client.open), ([b"{}"], False))
                self.assertEqual(received.count(b"HTTP/1."), 1)


class LeanSmugglingTests(SmugglingTests):
    """The same over the lean lane."""

    def direct(self, app: Taking) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that the lean lane serves: all of them."""
        return {(b"POST", b"/take"): app.take}
