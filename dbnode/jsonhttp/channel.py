"""One client's HTTP/1.1 connection: refusals in JSON, and what a slow or silent client may take of us.

twisted.web answers a malformed request line or header with a bare 400 and cuts off whoever is too slow without a word;
it also keeps a timer per request. Here every refusal is JSON, and the site looks after all its connections once per
second. A refusal before the whole request was read lingers: it closes its own direction and drops what still arrives
for a while, because closing at once would reset the connection and could destroy the answer on its way (RFC 9112 §9.6).
"""
# mypy: disable-error-code="no-untyped-call"
# ... because the classes of twisted.web that this file extends are untyped.

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IConsumer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from dbnode.errors import ApiError
from dbnode.jsonhttp.answer import Response, error_response
from dbnode.jsonhttp.upload import Upload

if TYPE_CHECKING:
    from dbnode.jsonhttp.site import JsonSite

#: How long a refused client may go on sending before it is cut off.
_LINGER_SECONDS = 3.0
#: What the option is for that sets the limit.
RECEIVING = "Most bytes of all requests that have not arrived completely; beyond it the longest is refused"
_IDENTITY = re.compile(rb"transfer-encoding:[ \t]*identity[ \t]*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take of this process."""

    body_bytes_max: int = 16 << 20
    connections_max: int = 10_000
    #: Of requests that have not arrived completely, over all connections.
    receiving_bytes_max: int = 256 << 20
    #: From a request's first byte to its last; of an upload, from one piece to the next.
    receive_seconds: float = 30.0
    #: Between two requests of a kept connection.
    idle_seconds: float = 120.0
    #: How long a client may leave an answer unread while there is more of it.
    unread_seconds: float = 60.0

    def check(self) -> None:
        """Raise ValueError if the longest body could never arrive."""
        if self.receiving_bytes_max < self.body_bytes_max:
            raise ValueError(
                f"{self.receiving_bytes_max} bytes of all requests (receiving-bytes-max) "
                f"are fewer than {self.body_bytes_max} of one (body-bytes-max)"
            )


class JsonChannel(HTTPChannel):
    """HTTPChannel with JSON refusals and times instead of timers.

    `_began` is when the first byte of the request being received came, None between requests and while one is served;
    `_idle_since` when the last answer ended; `_unread_since` when the client stopped reading; `_refused_at` when we
    refused to go on.
    """

    site: JsonSite

    def __init__(self) -> None:
        super().__init__()
        self._began: float | None = None
        self._idle_since = 0.0
        self._unread_since: float | None = None
        self._refused_at: float | None = None
        #: The body that is being received, if it is taken as it comes.
        self.upload: Upload | None = None

    def connectionMade(self) -> None:
        """Begin, or refuse if there are too many of us."""
        super().connectionMade()
        site = self.site
        self._idle_since = site.reactor.seconds()
        site.channels.add(self)
        if len(site.channels) > site.limits.connections_max:
            text = f"there are {site.limits.connections_max} connections already; try again"
            self.refuse(ApiError("too_many_connections", text, status=503, retry_after_seconds=1))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection."""
        self.site.channels.discard(self)
        self.site.receiving.release(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes of a request, or drop them after a refusal."""
        if self._refused_at is not None:
            return
        if self._began is None and not self._handlingRequest:
            self._began = self.site.reactor.seconds()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line, or drop it after a refusal. A header may not go on in a second line (RFC 9112 §5.2)."""
        if self._refused_at is not None:
            return
        if self.requests and line.startswith((b" ", b"\t")):
            self.refuse(ApiError("bad_request", "a header goes on in a second line; write each in one"))
        else:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Take a piece of a body, or drop it after a refusal; that of an upload may still wait to be answered."""
        if self._refused_at is not None:
            return
        if self.upload is None:
            super().rawDataReceived(data)
        elif not self.upload.is_cut:
            self._began = self.site.reactor.seconds()
            super().rawDataReceived(data)
            self._deliver()

    def allContentReceived(self) -> None:
        """Serve the request, unless it was refused while it came in."""
        if self._refused_at is None:
            self._began = None
            self.site.receiving.release(self)
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """Go on with the next request."""
        self._idle_since = self.site.reactor.seconds()
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """Note that the client does not read (IPushProducer)."""
        if self._unread_since is None:
            self._unread_since = self.site.reactor.seconds()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Note that the client reads again (IPushProducer)."""
        self._unread_since = None
        super().resumeProducing()

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802 - twisted.web's own name
        """Take a header; a length of thousands of digits, at which int() raises, is malformed like any other.

        The coding "identity", which twisted.web still takes, is none any more (RFC 9112 §7).
        """
        if _IDENTITY.match(line):
            self._respondToBadRequestAndDisconnect()
            return False
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            self._respondToBadRequestAndDisconnect()
            return False

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request line or header that is too long."""
        text = f"the request line or a header is longer than {self.MAX_LENGTH} bytes"
        self.refuse(ApiError("headers_too_large", text, status=431))

    def asked(self) -> tuple[bytes, bytes]:
        """Return method and target of the request whose headers are there and whose body is not."""
        return self._command, self._path.partition(b"?")[0]

    def hold(self) -> None:
        """Read no further for a while: what came was not taken yet."""
        self._networkProducer.pauseProducing()

    def let_go(self) -> None:
        """Read on."""
        if self.upload is not None:  # else all of it is there
            self._began = self.site.reactor.seconds()
        self._networkProducer.resumeProducing()

    def refuse(self, error: ApiError) -> None:
        """Answer with an error before the request has come in completely, and read no further."""
        if self.upload is not None:
            # Some of it may be stored already: whoever takes the body knows, and answers.
            self.upload.cut(error)
            return
        # Whatever was asked for, nothing begins before all of the request is there.
        error.applied = "no"
        self.end_with(error_response(error))

    def end_with(self, response: Response) -> None:
        """Answer before the request has come in completely, and read no further."""
        if self._refused_at is not None:
            return
        self._refused_at = self.site.reactor.seconds()
        self.persistent = False
        self.drop()
        transport = self._tcp()
        if self.upload is not None:
            # What still comes is dropped, not left in the way of the answer.
            self._networkProducer.resumeProducing()
        transport.write(self.site.messages.whole(response, keep_alive=False))
        # A half-close waits for the producer, which HTTPChannel is of its own transport.
        IConsumer(transport).unregisterProducer()
        if ISSLTransport.providedBy(transport):
            # TLS says so by a message of its own, and waits for the client's.
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def drop(self) -> None:
        """Let go of what has arrived of the request that is refused."""
        self.site.receiving.release(self)
        for request in self.requests:
            request.content = BytesIO()

    def drain(self) -> None:
        """End the connection with the answer that is being made, at once if there is none."""
        self.persistent = False
        if self.upload is not None:
            self.refuse(ApiError("stopping", "this process stops; try again", status=503, retry_after_seconds=1))
        elif not self._handlingRequest:
            self.loseConnection()

    def look_after(self, now: float) -> None:
        """Cut off a client that is too slow or silent for too long; called about once per second."""
        limits = self.site.limits
        if self._refused_at is not None:
            if now - self._refused_at > _LINGER_SECONDS:
                self._tcp().abortConnection()
        elif self._unread_since is not None and now - self._unread_since > limits.unread_seconds:
            self._tcp().abortConnection()
        elif self.upload is not None and not self.upload.starving:
            # It waits for us.
            self._began = now
        elif self._began is not None and now - self._began > limits.receive_seconds:
            text = f"the request did not arrive completely within {limits.receive_seconds:g} seconds"
            self.refuse(ApiError("request_timeout", text, status=408))
        elif self._began is None and not self._handlingRequest and now - self._idle_since > limits.idle_seconds:
            self.loseConnection()

    def _deliver(self) -> None:
        """Hand on what came of an upload, unless that was its end."""
        if self.upload is not None:
            self.upload.deliver()
            if self._refused_at is None:
                self.site.receiving.hold(self, self.upload.untaken_bytes)

    def _tcp(self) -> ITCPTransport:
        return ITCPTransport(self.transport)

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - twisted.web's own name
        if self._receivedHeaderSize > self.totalHeadersSize:
            text = f"the headers are longer than {self.totalHeadersSize} bytes"
            self.refuse(ApiError("headers_too_large", text, status=431))
        elif self._receivedHeaderCount > self.maxHeaders:
            text = f"there are more than {self.maxHeaders} headers"
            self.refuse(ApiError("headers_too_large", text, status=431))
        else:
            self.refuse(ApiError("bad_request", "the request line, a header or a chunk is malformed"))

    def _send100Continue(self) -> None:  # noqa: N802 - twisted.web's own name
        if self._refused_at is None:
            super()._send100Continue()
