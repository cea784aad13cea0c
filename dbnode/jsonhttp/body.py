"""From the bytes of a request to a JSON object that the contract can look at, and back.

Everything refused here is the caller's mistake and says where it is. Decoding is one msgspec call; whatever costs more
happens only once something was found to be wrong. Two readings exist: `decode_object` for data requests, and
`decode_strict` for control requests, where an object with two equal keys (two servers of one name, say) must be
refused instead of quietly losing one.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp.answer import Headers

_decode = msgspec.json.decode
#: NUL cannot stand raw in JSON text; escaped it looks like this (or is an escaped backslash before "u0000").
_ESCAPED_NUL = b"\\u0000"
#: How many of the names that stand twice an error tells.
_NAMES_IN_TEXT_MAX = 10
#: Media types whose body may well be JSON: they get "not JSON" as an answer and not "unsupported".
_PLAUSIBLE_TYPES = (b"text/plain", b"application/x-www-form-urlencoded", b"application/octet-stream")


def decode_object(headers: Headers, body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; of equal keys the last one wins, as in most JSON readers.

    The Content-Type is looked at only if the body is not JSON: clients send forms' and none at all. Raises ApiError
    `bad_json` (with the position), `bad_value` (NUL) or `unsupported_media_type` (415).
    """
    try:
        value = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(headers, body, error) from None
    return _checked_object(body, value)


def decode_strict(headers: Headers, body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, refusing equal keys at any depth (`duplicate_key`). For control requests."""
    decode_object(headers, body)
    try:
        value = json.loads(body, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise _refusal(headers, body, error) from None
    return _checked_object(body, value)


def fields(received: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the fields of the contract that are present, under their own names, however the client wrote their case.

    Exactly written names win; a field that is there twice in other cases is refused as `ambiguous_field`.
    """
    if all(name in names for name in received):
        return received
    found = {name: received[name] for name in names if name in received}
    missing = {name.casefold(): name for name in names if name not in found}
    if missing:
        for key, value in received.items():
            name = missing.get(key.casefold())
            if name is None:
                continue
            if name in found:
                raise ApiError("ambiguous_field", f"{name!r} is given more than once; give it once")
            found[name] = value
    return found


def need(present: dict[str, Any], name: str) -> Any:
    """Return one field that the request must have; raises ApiError `missing_field`."""
    try:
        return present[name]
    except KeyError:
        raise ApiError("missing_field", f"field {name!r} is missing; the request must have it") from None


def _checked_object(body: bytes, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ApiError("bad_json", f"the body is {_kind(value)}; it must be a JSON object")
    if _ESCAPED_NUL in body and _holds_nul(value):
        raise ApiError("bad_value", "the body has a NUL character (\\u0000) in a string; no text may hold one")
    return value


def _refusal(headers: Headers, body: bytes, error: Exception) -> ApiError:
    encoding = headers.get(b"content-encoding")
    if encoding not in (None, b"", b"identity"):
        given = encoding.decode("latin-1")
        return ApiError("unsupported_media_type", f"Content-Encoding {given!r}; send the body as it is", status=415)
    media_type, _, parameters = (headers.get(b"content-type") or b"").lower().partition(b";")
    if not _may_be_json(media_type.strip(), parameters):
        given = (headers.get(b"content-type") or b"").decode("latin-1")
        return ApiError("unsupported_media_type", f"Content-Type {given!r}; send application/json in UTF-8", status=415)
    return ApiError("bad_json", _explanation(body, error))


def _may_be_json(media_type: bytes, parameters: bytes) -> bool:
    if b"charset" in parameters and b"utf-8" not in parameters and b"ascii" not in parameters:
        return False
    return not media_type or media_type.endswith(b"json") or media_type in _PLAUSIBLE_TYPES


def _explanation(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "the body is empty; it must be a JSON object"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not UTF-8 ({error.reason} in a string)"
    try:
        text = body.decode()
        json.loads(text)
    except UnicodeDecodeError as undecodable:
        return f"the body is not UTF-8 (byte {undecodable.start})"
    except json.JSONDecodeError as wrong:
        return f"the body is not JSON: {wrong.msg} at line {wrong.lineno} column {wrong.colno} (character {wrong.pos})"
    except (ValueError, RecursionError):
        return f"the body is not JSON: {error}"
    # Python's reader takes what JSON has not: NaN, numbers out of range, half of a surrogate pair.
    surrogate = text.lower().find("\\ud")
    if str(error).endswith("truncated") and surrogate >= 0:
        return f"the body has a lone surrogate (near character {surrogate}); strings must be Unicode text"
    return f"the body is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)[:_NAMES_IN_TEXT_MAX]
        raise ApiError("duplicate_key", f"{', '.join(map(repr, twice))} stands twice in one object; give it once")
    return found


def _holds_nul(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if "\0" in one:
                return True
        elif isinstance(one, dict):
            waiting.extend(one.keys())
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
