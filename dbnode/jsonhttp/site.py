"""The twisted.web site in front of a Klein resource: body limits, odd paths, the lean lane.

twisted.web parses forms, buffers bodies of any size in files, and answers some things below Klein in HTML; Klein's
router redirects `//path` and fails on odd Host headers. None of that gets through here.
"""
# mypy: disable-error-code="no-untyped-call"
# ... because the classes of twisted.web that this file extends are untyped.

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from dbnode.background import in_background
from dbnode.errors import ApiError
from dbnode.jsonhttp.answer import Endpoint, Headers, Response, error_response
from dbnode.jsonhttp.channel import JsonChannel, Limits
from dbnode.jsonhttp.lean import LeanChannel
from dbnode.jsonhttp.message import Messages
from dbnode.jsonhttp.receiving import Receiving
from dbnode.jsonhttp.serve import RequestHeaders, failure_response, write_response
from dbnode.jsonhttp.stream import gone
from dbnode.jsonhttp.upload import ClientGone, Upload, UploadEndpoint, sent_as_lines

#: How often connections are looked at; every timeout is late by at most this. Also the grain of the Date header.
_SWEEP_SECONDS = 1.0


class JsonSite(Site):
    """A site whose every answer is JSON.

    `direct` maps (method, path) to endpoints that the lean lane serves without asking the resource: the same functions
    that stand behind its routes, without the router's and twisted.web's share of the time. `uploads` maps the same to
    endpoints that take a body of lines while it arrives.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        resource: IResource,
        limits: Limits,
        direct: Mapping[tuple[bytes, bytes], Endpoint] | None = None,
        uploads: Mapping[tuple[bytes, bytes], UploadEndpoint] | None = None,
    ) -> None:
        super().__init__(resource, requestFactory=JsonRequest, reactor=reactor, parsePOSTFormSubmission=False)
        self.limits = limits
        # Without the proxy in between that twisted.web has for HTTP/2.
        self.protocol = LeanChannel if direct else JsonChannel  # type: ignore[assignment,method-assign]
        #: Endpoints of the lean lane, by request line.
        self.direct_lines = {b"%b %b HTTP/1.1" % pair: endpoint for pair, endpoint in (direct or {}).items()}
        self.uploads = uploads or {}
        self.messages = Messages(datetimeToString(reactor.seconds()))
        self.channels: set[JsonChannel] = set()
        self.receiving = Receiving(limits.receiving_bytes_max)
        self.timeOut = None
        self._sweep_call: IDelayedCall | None = None

    def startFactory(self) -> None:
        """Begin to look after connections; there is no access log."""
        self._sweep()

    def stopFactory(self) -> None:
        """Stop looking after connections."""
        if self._sweep_call is not None and self._sweep_call.active():
            self._sweep_call.cancel()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a channel; it refuses beyond the limit of connections, and far beyond it there is none at all."""
        if len(self.channels) >= 2 * self.limits.connections_max:
            return None
        return super().buildProtocol(addr)

    def drain(self) -> None:
        """Close connections that wait for another request; the others close with the answer they wait for."""
        for channel in list(self.channels):
            channel.drain()

    def log(self, request: HTTPRequest) -> None:
        """Write nothing: a line per request would cost more than serving it."""

    def _sweep(self) -> None:
        self._sweep_call = self.reactor.callLater(_SWEEP_SECONDS, self._sweep)
        now = self.reactor.seconds()
        self.messages.turn(datetimeToString(now))
        for channel in list(self.channels):
            channel.look_after(now)


class JsonRequest(Request):
    """A request whose path is normalised, and whose body stays in memory, within the limit, or is taken as it comes."""

    defaultContentType = None
    channel: JsonChannel
    _upload: Upload | None = None

    def gotLength(self, length: int | None) -> None:
        """Begin an upload, or refuse an announced length beyond the limit before a byte of it is read."""
        self.content = BytesIO()
        headers = RequestHeaders(self.requestHeaders)
        if self.channel.site.uploads and sent_as_lines(headers):
            method, path = self.channel.asked()
            endpoint = self.channel.site.uploads.get((method, b"/" + b"/".join(_segments(path))))
            if endpoint is not None:
                self._begin_upload(endpoint, headers)
                return
        if length is not None and length > self.channel.site.limits.body_bytes_max:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        """Hand a piece of the body on, or keep it, or refuse it once it has grown too long."""
        if self._upload is not None:
            self._upload.received(data)
            return
        assert self.content is not None
        if self.content.tell() + len(data) > self.channel.site.limits.body_bytes_max:
            self._refuse_body()
        else:
            self.content.write(data)
            self.channel.site.receiving.hold(self.channel, self.content.tell())

    def getRequestHostname(self) -> bytes:
        """Return a name that Klein's router can always encode; nothing here depends on the Host header."""
        return b"localhost"

    def process(self) -> None:
        """Hand over to the resource, or answer an upload that is complete now."""
        self.site = site = self.channel.site
        self.responseHeaders.setRawHeaders(b"Date", [site.messages.date])
        if self._upload is not None:
            self.channel.upload = None
            self._upload.end()
            return
        self.prepath = []
        self.postpath = _segments(self.path)
        try:
            b"".join(self.postpath).decode()
        except UnicodeDecodeError:
            write_response(self, error_response(ApiError("unknown_path", "the path is not UTF-8", status=404)))
            return
        try:
            site.resource.render(self)
        except Exception:  # noqa: BLE001 - the edge: every error becomes an answer
            write_response(self, failure_response(Failure()))

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever takes the body."""
        if self._upload is not None:
            self._upload.cut(ClientGone("the body was cut short"))
        super().connectionLost(reason)

    def _begin_upload(self, endpoint: UploadEndpoint, headers: Headers) -> None:
        self._upload = self.channel.upload = Upload(self.channel.hold, self.channel.let_go)
        in_background(Deferred.fromCoroutine(self._take_in(endpoint, headers, self._upload)), "an upload")

    async def _take_in(self, endpoint: UploadEndpoint, headers: Headers, upload: Upload) -> None:
        """Let the endpoint take the body, and answer; before the end of the body it is the connection's last answer."""
        try:
            outcome = endpoint(headers, upload)
            answer = await outcome if isinstance(outcome, Awaitable) else outcome
            assert isinstance(answer, Response), answer
        except ClientGone:
            return
        except Exception:  # noqa: BLE001 - the edge: every error becomes an answer
            answer = failure_response(Failure())
        if upload.ended:
            write_response(self, answer)
        elif not gone(self):
            self.channel.end_with(answer)

    def _refuse_body(self) -> None:
        limit = self.channel.site.limits.body_bytes_max
        self.channel.refuse(ApiError("body_too_large", f"the body is longer than {limit} bytes", status=413))


def _segments(path: bytes) -> list[bytes]:
    """Split a request target: `//a/b/` is a, b; the absolute form loses scheme and host (RFC 9112 §3.2.2)."""
    if not path.startswith(b"/") and b"://" in path:
        path = path.partition(b"://")[2].partition(b"/")[2]
    return [unquote_to_bytes(segment) for segment in path.split(b"/") if segment]
