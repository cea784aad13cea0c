"""The lean lane: a connection on which the requests that matter most are read and answered without twisted.web.

Between two requests the first line decides. If it is that of a direct endpoint (`POST /write HTTP/1.1`), the request is
read by RequestReader and the endpoint's answer is written in one piece. Everything else, HTTP/1.0 and odd forms of the
same paths included, goes byte for byte to twisted.web's own reader, which this channel still is, and so to Klein; once
that is between two requests again, the next first line decides anew. No byte is ever read by both.

Requests are served one at a time and answered in order. What a client sends meanwhile waits unread, within bounds.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because HTTPChannel is untyped.

from __future__ import annotations

from collections.abc import Awaitable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.errors import ApiError
from dbnode.jsonhttp.answer import Answer, Endpoint, Response, Streamed
from dbnode.jsonhttp.channel import JsonChannel
from dbnode.jsonhttp.reader import NotForUs, RequestReader
from dbnode.jsonhttp.serve import failure_response, resolved, write_streamed
from raftlog.link.prompt import prompt_write

#: What a client may send ahead while its request is served, before it is read no further.
_AHEAD_BYTES_MAX = 1 << 16
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class LeanChannel(JsonChannel):
    """A JsonChannel with the lean lane.

    `_first_line` is what there is of one that is not complete, `_line` that of the last direct request; `_endpoint`
    belongs to the one being read by `_reader`, which is made with the first; `_in_parts`: it did not come in one piece.
    `_serving`: a direct request has no answer yet; `_ahead` is what came after it. `_taking` keeps an answer that is
    there at once from going on by itself, deeper and deeper.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader: RequestReader | None = None
        self._endpoint: Endpoint | None = None
        self._first_line = b""
        self._line = b""
        self._in_parts = False
        self._serving = False
        self._taking = False
        self._ahead: list[bytes] = []
        self._gone = False

    def connectionMade(self) -> None:
        """Begin."""
        self._send = prompt_write(self.transport)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Serve what arrives, in order."""
        if self._refused_at is not None:
            return
        if self._serving or self._ahead:
            self._wait(data)
        else:
            self._take_all(data)

    def resumeProducing(self) -> None:
        """Go on with what came while the client did not read (IPushProducer)."""
        super().resumeProducing()
        self._go_on()

    def drop(self) -> None:
        """Let go of what has arrived of the request that is refused."""
        super().drop()
        self._reader = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection; the answer that is being made is dropped."""
        self._gone = True
        super().connectionLost(reason)

    # ---- reading ------------------------------------------------------------------------------------------------

    def _take_all(self, data: bytes) -> None:
        """Take requests until one has to be waited for; what comes after it waits too."""
        self._taking = True
        rest = data
        while rest:
            rest = self._take(rest)
            if rest and (self._serving or self._waitingForTransport):
                self._ahead.append(rest)
                break
        self._taking = False

    def _go_on(self) -> None:
        """Take what has waited, unless there still is something to wait for; nothing follows the last answer."""
        if self._gone or not self.persistent:
            return
        if not self._ahead or self._serving or self._taking or self._waitingForTransport:
            return
        ahead, self._ahead = b"".join(self._ahead), []
        self._networkProducer.resumeProducing()
        self._take_all(ahead)

    def _take(self, data: bytes) -> bytes:
        """Take one request or a part of one; return what follows it."""
        if self._endpoint is None:
            if self.requests or self._buffer or not self.persistent:
                super().dataReceived(data)
                return b""
            data = self._first_line + data
            end = data.find(b"\r\n")
            self._line = data[:end] if end >= 0 else b""
            self._endpoint = self.site.direct_lines.get(self._line)
            if self._endpoint is None:
                self._not_direct(data)
                return b""
            self._first_line = b""
        return self._read(self._endpoint, data)

    def _read(self, endpoint: Endpoint, data: bytes) -> bytes:
        """Read a direct request, and serve it once it is complete; return what follows it."""
        if self._began is None:
            self._began = self.site.reactor.seconds()
        reader = self._reader
        if reader is None:
            reader = self._reader = RequestReader(self.totalHeadersSize, self.site.limits.body_bytes_max)
        try:
            rest = reader.take(data)
        except ApiError as error:
            self.refuse(error)
            return b""
        except NotForUs as other:
            self._endpoint = self._reader = None
            super().dataReceived(other.data)
            return b""
        if rest is not None:
            if self._in_parts:
                self._in_parts = False
                self.site.receiving.release(self)
            self._serve(endpoint, reader)
            return rest if self.persistent else b""
        self._in_parts = True
        self.site.receiving.hold(self, reader.held_bytes)
        if reader.expects and self._refused_at is None:
            reader.expects = False
            self._send(_CONTINUE)
        return b""

    def _not_direct(self, data: bytes) -> None:
        """Give twisted.web what is no direct request; keep what may still become one."""
        if not self._line and any(line.startswith(data.removesuffix(b"\r")) for line in self.site.direct_lines):
            if self._began is None:
                self._began = self.site.reactor.seconds()
            self._first_line = data
            return
        self._first_line = b""
        super().dataReceived(data)

    def _wait(self, data: bytes) -> None:
        self._ahead.append(data)
        if sum(map(len, self._ahead)) > _AHEAD_BYTES_MAX:
            IPushProducer(self.transport).pauseProducing()

    # ---- answering ----------------------------------------------------------------------------------------------

    def _serve(self, endpoint: Endpoint, reader: RequestReader) -> None:
        """Serve a complete request."""
        self._endpoint = self._began = None
        self._serving = self._handlingRequest = True
        if not reader.keep_alive:
            self.persistent = False
        outcome: Answer | Awaitable[Answer]
        try:
            outcome = endpoint(reader.headers, reader.body)
        except Exception:  # noqa: BLE001 - the edge: every error becomes an answer
            outcome = failure_response(Failure())
        if isinstance(outcome, Response):
            self._answer(outcome)
            return
        work = outcome if isinstance(outcome, Deferred) else Deferred.fromCoroutine(resolved(outcome))
        in_background(work.addErrback(failure_response).addCallback(self._outcome), "answering")

    def _outcome(self, outcome: Answer) -> None:
        if self._gone:
            return
        if isinstance(outcome, Response):
            self._answer(outcome)
            self._go_on()
        else:
            self._stream(outcome)

    def _answer(self, response: Response) -> None:
        self._serving = self._handlingRequest = False
        self._send(self.site.messages.whole(response, keep_alive=bool(self.persistent)))
        self._idle_since = self.site.reactor.seconds()
        if not self.persistent:
            self.loseConnection()

    def _stream(self, streamed: Streamed) -> None:
        """Continue as if the request had come by twisted.web, which knows how to wait for the client."""
        request = self.requestFactory(self, False)
        request.gotLength(0)
        request.method, request.path, request.clientproto = self._line.split(b" ")
        request.uri = request.path
        request.responseHeaders.setRawHeaders(b"Date", [self.site.messages.date])
        if not self.persistent:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self.requests.append(request)
        self._dataBuffer, self._ahead = self._ahead, []
        self._serving = False
        self.setRawMode()
        in_background(Deferred.fromCoroutine(write_streamed(request, streamed)), "streaming")
