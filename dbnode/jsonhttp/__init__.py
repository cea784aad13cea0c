"""JSON over HTTP for both Klein applications: bodies in, answers out, and never anything but JSON.

    body    bytes to checked objects: limits on what JSON may hold, fields of the contract in any case
    answer  what an endpoint is and returns; errors as HTTP_API promises them
    serve   running an endpoint for a twisted.web request, behind a Klein route or without one
    stream  answers written page by page, no faster than the client reads
    channel one connection: refusals in JSON, slow and silent clients
    reader  one request after the other out of bytes, by httptools
    lean    the lean lane: a connection that serves chosen endpoints without twisted.web
    receiving what has arrived of all requests that are not complete, and its bound
    upload  bodies of lines, taken while they arrive
    message the bytes of whole answers
    site    the site around a Klein resource: limits, odd paths, the lean lane

An endpoint is a function of (headers, body) that knows neither Klein nor twisted.web, so that the same function can
stand behind a Klein route and behind a leaner channel.
"""

from __future__ import annotations

from dbnode.jsonhttp.answer import (
    Answer,
    Endpoint,
    Headers,
    Response,
    Streamed,
    encode,
    error_response,
    json_response,
)
from dbnode.jsonhttp.body import decode_object, decode_strict, fields, need
from dbnode.jsonhttp.channel import RECEIVING, Limits
from dbnode.jsonhttp.serve import answer, errors_as_json
from dbnode.jsonhttp.site import JsonSite
from dbnode.jsonhttp.upload import NDJSON, ClientGone, Upload, UploadEndpoint, media_type

__all__ = [
    "NDJSON",
    "RECEIVING",
    "Answer",
    "ClientGone",
    "Endpoint",
    "Headers",
    "JsonSite",
    "Limits",
    "Response",
    "Streamed",
    "Upload",
    "UploadEndpoint",
    "answer",
    "decode_object",
    "decode_strict",
    "encode",
    "error_response",
    "errors_as_json",
    "fields",
    "json_response",
    "media_type",
    "need",
]
