"""Running an endpoint for a twisted.web request, behind a Klein route or without one.

Whatever an endpoint raises becomes JSON: an ApiError as it says, anything else is our bug, a 500 with its traceback in
the log. A client that goes away never cancels an endpoint: a write that is on its way stays on its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.http_headers import Headers as WebHeaders
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dbnode.background import in_background
from dbnode.errors import ApiError
from dbnode.jsonhttp.answer import Answer, Endpoint, Response, Streamed, error_response
from dbnode.jsonhttp.stream import gone, stream

_log = Logger()


def answer(request: Request, endpoint: Endpoint) -> Deferred[None] | None:
    """Run an endpoint for a request and write what it returns; for use as the body of a Klein route.

    Returns None if the answer is written already, else a Deferred for Klein to wait on; cancelling that one (Klein does
    when the client disconnects) only means that nobody waits any more.
    """
    assert request.content is not None
    outcome: Answer | Awaitable[Answer]
    try:
        outcome = endpoint(RequestHeaders(request.requestHeaders), request.content.read())
    except Exception:  # noqa: BLE001 - the edge: every error becomes an answer
        outcome = failure_response(Failure())
    if isinstance(outcome, Response):
        write_response(request, outcome)
        return None
    done: Deferred[None] = Deferred()
    work = outcome if isinstance(outcome, Deferred) else Deferred.fromCoroutine(resolved(outcome))
    written = work.addErrback(failure_response).addCallback(partial(_write, request)).addErrback(_log_unwritten)
    in_background(written.addCallback(lambda _: done.callback(None)), "finishing a request")
    return done


def errors_as_json(app: Klein) -> None:
    """Make a Klein application answer what has no route, and its own accidents, in JSON instead of HTML."""
    answers: tuple[tuple[type[Exception], Callable[..., bytes]], ...] = (
        (MethodNotAllowed, _method_not_allowed),
        (HTTPException, _unknown_path),
        (Exception, _accident),
    )
    for error, respond in answers:
        app.handle_errors(error)(respond)


def _method_not_allowed(*call: Any) -> bytes:
    request, failure = _routed(call)
    allowed = ", ".join(sorted(getattr(failure.value, "valid_methods", None) or ()))
    method = (request.method or b"").decode("latin-1")
    refusal = error_response(ApiError("method_not_allowed", f"{method}; possible here: {allowed}", status=405))
    allow = (b"Allow", allowed.encode("latin-1"))
    return _begin(request, Response(refusal.status, refusal.body, (*refusal.headers, allow)))


def _unknown_path(*call: Any) -> bytes:
    request, _ = _routed(call)
    path = (request.path or b"").decode("latin-1")
    return _begin(request, error_response(ApiError("unknown_path", f"no endpoint {path!r}", status=404)))


def _accident(*call: Any) -> bytes:
    request, failure = _routed(call)
    return _begin(request, failure_response(failure))


def _routed(call: tuple[Any, ...]) -> tuple[Request, Failure]:
    """Take an error handler's arguments: Klein puts the instance first if the application is bound to one."""
    return call[-2], call[-1]


def failure_response(failure: Failure) -> Response:
    """Return the answer for whatever an endpoint raised; our own mistakes go to the log."""
    if isinstance(failure.value, ApiError):
        return error_response(failure.value)
    _log.failure("a request failed by a mistake of this program", failure)
    return error_response(ApiError("internal_error", "the request failed here; the log has the details", status=500))


def write_response(request: Request, response: Response) -> None:
    """Write a whole answer, unless the client went away meanwhile."""
    if gone(request):
        return
    request.write(_begin(request, response))
    request.finish()


def _begin(request: Request, response: Response) -> bytes:
    """Set status and headers; return the body for whoever writes it."""
    request.setResponseCode(response.status)
    set_header = request.responseHeaders.setRawHeaders
    for name, value in response.headers:
        set_header(name, [value])
    set_header(b"Content-Length", [b"%d" % len(response.body)])
    return response.body


class RequestHeaders:
    """A request's headers as endpoints see them."""

    __slots__ = ("_headers",)

    def __init__(self, headers: WebHeaders) -> None:
        self._headers = headers

    def get(self, name: bytes, /) -> bytes | None:
        """See Headers."""
        values = self._headers.getRawHeaders(name)
        return values[-1] if values else None


async def resolved(outcome: Streamed | Awaitable[Answer]) -> Answer:
    """Wait for what an endpoint returned, if it is not there yet."""
    return outcome if isinstance(outcome, Streamed) else await outcome


def _write(request: Request, outcome: Answer) -> Deferred[None] | None:
    if isinstance(outcome, Response):
        write_response(request, outcome)
        return None
    return Deferred.fromCoroutine(write_streamed(request, outcome))


async def write_streamed(request: Request, streamed: Streamed) -> None:
    """Write a streamed answer; if its first page fails, the error as an ordinary answer."""
    try:
        await stream(request, streamed)
    except Exception:  # noqa: BLE001 - the first page failed: nothing is written yet, so it is an ordinary error
        write_response(request, failure_response(Failure()))


def _log_unwritten(failure: Failure) -> None:
    _log.failure("an answer could not be written", failure)
