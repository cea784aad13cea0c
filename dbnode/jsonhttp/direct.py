"""The short way for plain requests to direct endpoints: from the bytes to the endpoint and back in one write.

Anything else takes the long way through twisted.web, on the same connection and in order: a request is plain only
between two requests, and what comes while one is served waits for its answer. Both ways give the same answers; the
site's tests run over both.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because HTTPChannel is untyped.

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.jsonhttp.answer import Answer, Endpoint, Response, Streamed
from dbnode.jsonhttp.channel import JsonChannel
from dbnode.jsonhttp.plain import parse, whole
from dbnode.jsonhttp.serve import failure_response, resolved, write_streamed

#: What a client may send ahead while its request is served, before it is read no further.
_AHEAD_BYTES_MAX = 1 << 16


class DirectChannel(JsonChannel):
    """A JsonChannel with the short way.

    `_serving`: a request that came the short way has no answer yet; `_ahead` is what came after it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._serving = False
        self._ahead: list[bytes] = []
        self._gone = False

    def dataReceived(self, data: bytes) -> None:
        """Serve a plain request at once, or read on as twisted.web does."""
        if self._serving:
            self._wait(data)
            return
        if not self.requests and not self._buffer and self.persistent:
            line = data[: data.find(b"\r\n")]
            endpoint = self.site.direct_lines.get(line)
            if endpoint is not None:
                plain = parse(data, self.totalHeadersSize)
                if plain is not None and len(plain[1]) <= self.site.limits.body_bytes_max:
                    self._serve(line, endpoint, *plain)
                    return
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection; the answer that is being made is dropped."""
        self._gone = True
        super().connectionLost(reason)

    def _serve(self, line: bytes, endpoint: Endpoint, headers: dict[bytes, bytes], body: bytes) -> None:
        self._serving = self._handlingRequest = True
        outcome: Answer | Awaitable[Answer]
        try:
            outcome = endpoint(headers, body)
        except Exception:  # noqa: BLE001 - the edge: every error becomes an answer
            outcome = failure_response(Failure())
        if isinstance(outcome, Response):
            self._answer(outcome)
            return
        work = outcome if isinstance(outcome, Deferred) else Deferred.fromCoroutine(resolved(outcome))
        in_background(work.addErrback(failure_response).addCallback(partial(self._outcome, line)), "answering")

    def _outcome(self, line: bytes, outcome: Answer) -> None:
        if isinstance(outcome, Response):
            self._answer(outcome)
        elif not self._gone:
            self._stream(line, outcome)

    def _answer(self, response: Response) -> None:
        self._serving = self._handlingRequest = False
        if self._gone:
            return
        assert self.transport is not None
        self.transport.write(whole(response, (b"Date", self.site.date)))
        self._idle_since = self.site.reactor.seconds()
        if not self.persistent:
            self.loseConnection()
        elif self._ahead:
            ahead, self._ahead = b"".join(self._ahead), []
            IPushProducer(self.transport).resumeProducing()
            self.dataReceived(ahead)

    def _stream(self, line: bytes, streamed: Streamed) -> None:
        """Continue on the long way, as if the request had come by it: it knows how to wait for the client."""
        request = self.requestFactory(self, False)
        request.gotLength(0)
        request.method, request.path, request.clientproto = line.split(b" ")
        request.uri = request.path
        request.responseHeaders.setRawHeaders(b"Date", [self.site.date])
        self.requests.append(request)
        self._dataBuffer, self._ahead = self._ahead, []
        self._serving = False
        self.setRawMode()
        in_background(Deferred.fromCoroutine(write_streamed(request, streamed)), "streaming")

    def _wait(self, data: bytes) -> None:
        self._ahead.append(data)
        if sum(map(len, self._ahead)) > _AHEAD_BYTES_MAX:
            IPushProducer(self.transport).pauseProducing()
