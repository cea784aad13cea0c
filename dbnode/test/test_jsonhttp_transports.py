"""The site over real sockets of every kind: TLS and the file system's take part in all that TCP's do."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dbnode.jsonhttp import Endpoint, Headers, JsonSite, Limits, Response, Streamed, json_response
from dbnode.test.test_jsonhttp_site import Echo
from dbnode.test.test_jsonhttp_tls import self_signed

PAGE = b"x" * 65536
HEAD = b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


class TlsTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        """Have a site with endpoints on the lean lane."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.waiting: list[Deferred[Response]] = []
        self.pages = 0
        direct: dict[tuple[bytes, bytes], Endpoint] = {
            (b"POST", b"/echo"): self.echo,
            (b"POST", b"/later"): self.later,
            (b"POST", b"/pages"): self.stream,
        }
        limits = Limits(body_bytes_max=100_000)
        self.site = JsonSite(reactor, Echo().app.resource(), limits, direct)
        self.clients: list[socket.socket] = []

    async def listen(self) -> IListeningPort:
        """Serve on a port of the kind that is tested."""
        endpoint = SSL4ServerEndpoint(self.reactor, 0, self_signed().options(), interface="127.0.0.1")
        port: IListeningPort = await endpoint.listen(self.site)
        return port

    def connect(self, port: Any) -> socket.socket:
        """Connect to it, in a thread."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20)
        return context.wrap_socket(plain, suppress_ragged_eofs=False)

    async def client(self) -> socket.socket:
        """Return a blocking socket that is connected; it is closed after the test, and then the port."""
        port = await self.listen()
        client = await deferToThread(self.connect, port)
        self.addCleanup(self.until, lambda: not self.site.channels)
        self.addCleanup(client.close)
        self.addCleanup(port.stopListening)
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to become true; trial's timeout ends it if it never does."""
        while not condition():
            await deferLater(self.reactor, 0.005)

    def echo(self, headers: Headers, body: bytes) -> Response:
        """Return how much came."""
        return json_response(len(body))

    def later(self, headers: Headers, body: bytes) -> Deferred[Response]:
        """Answer when the test says so."""
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def stream(self, headers: Headers, body: bytes) -> Streamed:
        """Stream more than anybody's buffers hold."""
        return Streamed(self._pages())

    async def _pages(self) -> AsyncIterator[bytes]:
        while self.pages < 2000:
            self.pages += 1
            yield PAGE

    async def test_a_refusal_is_read_to_its_end(self) -> None:
        """Who sends too much gets the answer and a proper end while he still sends."""
        client = await self.client()

        def talk() -> bytes:
            client.sendall(HEAD % (b"echo", 3_000_000))
            answer = client.recv(65536)
            while piece := client.recv(65536):
                answer += piece
            return answer

        answer = await deferToThread(talk)

        self.assertIn(b"413", answer.split(b"\r\n")[0])
        self.assertTrue(answer.endswith(b"}"))

    async def test_an_answer_waits_for_its_reader(self) -> None:
        """A streamed answer is written no faster than it is read."""
        client = await self.client()
        await deferToThread(client.sendall, HEAD % (b"pages", 0))
        await self.until(
            lambda: self.pages and all(channel._unread_since is not None for channel in self.site.channels)
        )

        self.assertLess(self.pages, 1000)

    async def test_what_is_sent_ahead_waits(self) -> None:
        """A client that sends far ahead of its answers is read no further, and gets them all."""
        client = await self.client()
        ahead = b"".join((HEAD % (b"echo", 50_000) + b"x" * 50_000,) * 8)

        def talk(last: int) -> bytes:
            client.sendall(HEAD % (b"later", 0) + ahead)
            answer = b""
            while answer.count(b"\r\n\r\n") < last:
                answer += client.recv(65536)
            return answer

        talking = deferToThread(talk, 9)
        await self.until(lambda: self.waiting)
        for _ in range(20):
            await deferLater(self.reactor, 0.005)
        self.waiting[0].callback(json_response("late"))
        answer = await talking

        self.assertEqual(answer.count(b"\r\n\r\n50000"), 8)


class UnixTests(TlsTests):
    """The same over a socket of the file system."""

    async def listen(self) -> IListeningPort:
        """Serve on a port of the kind that is tested."""
        # A socket's path is at most 107 bytes, and trial's are longer.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/http"
        port: IListeningPort = await UNIXServerEndpoint(self.reactor, self.path).listen(self.site)
        return port

    def connect(self, port: Any) -> socket.socket:
        """Connect to it, in a thread."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(self.path)
        return client
